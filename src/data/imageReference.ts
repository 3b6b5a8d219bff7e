/** How a data file names its pictures: a path, the bytes themselves, a `data:` URI or, where allowed, an address. */
import { UserError } from "../utils/errors.ts";
import type { ImageSource } from "../vision/image.ts";
import { imagePathOf, imageRootOf } from "./imagePath.ts";
import { type RemoteImages, remoteImages } from "./remoteImage.ts";

/** What a row says about a picture: a path, a URI, or a file's bytes and the path it once had. */
export type ImageReference = string | { readonly bytes: Uint8Array; readonly path: string | null };

/** @param where file and row, for messages  @throws UserError when there is no such picture */
export type ImageResolver = (reference: ImageReference, where: string) => ImageSource | Promise<ImageSource>;

export interface ImageOptions {
  /** Where paths start, and what they may not leave. Default: the folder of the data file. */
  readonly imageRoot?: string | null | undefined;
  /** What fetches pictures that are named by http(s); null refuses them. */
  readonly remote?: RemoteImages | null;
}

/** Finds the pictures of one data file. Files must exist; they are not opened. */
export function imageResolver(dataFile: string, { imageRoot = null, remote = null }: ImageOptions = {}): ImageResolver {
  const root = imageRootOf(dataFile, imageRoot);
  const known = new Map<string, ImageSource>();
  return (reference, where) => {
    if (typeof reference !== "string") return fromBytes(reference, where);
    if (/^data:/i.test(reference)) return fromDataUri(reference, where);
    if (/^https?:/i.test(reference)) return fetched(reference, remote, where);
    const found = known.get(reference) ?? { kind: "file", path: imagePathOf(reference, root, where) };
    known.set(reference, found);
    return found;
  };
}

export { type RemoteImages, remoteImages };

function fetched(url: string, remote: RemoteImages | null, where: string): Promise<ImageSource> {
  if (remote !== null) return remote.fetch(url, where);
  throw new UserError(
    `${where}: the picture ${url} is on the network; pass --allow-remote-images, or download it and name the file`,
  );
}

function fromBytes({ bytes, path }: { bytes: Uint8Array; path: string | null }, where: string): ImageSource {
  const name = path === null ? `a picture of ${where}` : `the picture ${path} of ${where}`;
  if (bytes.length === 0) throw new UserError(`${where}: ${name} has no bytes`);
  return { kind: "bytes", name, bytes };
}

/** Source: RFC 2397; pictures are always base64. */
function fromDataUri(uri: string, where: string): ImageSource {
  const comma = uri.indexOf(",");
  const header = uri.slice(0, Math.max(0, comma));
  if (header.length > 200 || !/^data:image\/[^;,]+(;[^;,]+)*;base64$/i.test(header)) {
    throw new UserError(`${where}: a picture begins ${uri.slice(0, 40)}; expected data:image/<kind>;base64,<bytes>`);
  }
  const base64 = uri.slice(comma + 1).replace(/[\s=]/g, "");
  const bytes = Buffer.from(base64, "base64"); // leaves out what is not base64, so the length tells
  if (base64 === "" || bytes.length !== Math.floor((base64.length * 3) / 4)) {
    throw new UserError(`${where}: the bytes of a data: picture are not base64; write them again`);
  }
  return { kind: "bytes", name: `the data: picture of ${where}`, bytes };
}
