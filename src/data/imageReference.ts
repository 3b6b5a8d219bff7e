/** How a data file names its pictures: a path beside it, or the bytes themselves in a `data:` URI. */
import { statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { messageOf, UserError } from "../utils/errors.ts";
import type { ImageSource } from "../vision/image.ts";

/** @param where file and row, for messages  @throws UserError when there is no such picture */
export type ImageResolver = (reference: string, where: string) => ImageSource;

/**
 * Finds the pictures of one data file: relative paths start at its folder. Files must exist; they are not opened.
 * This is the one place that decides which paths a data file may reach.
 */
export function imageResolver(dataFile: string): ImageResolver {
  const root = dirname(resolve(dataFile));
  const known = new Set<string>();
  return (reference, where) => {
    if (/^data:/i.test(reference)) return fromDataUri(reference, where);
    if (/^https?:/i.test(reference)) {
      throw new UserError(`${where}: the picture ${reference} is on the network; download it and name the file`);
    }
    const path = resolve(root, localPath(reference, where));
    if (!known.has(path)) requireFile(path, reference, where);
    known.add(path);
    return { kind: "file", path };
  };
}

function localPath(reference: string, where: string): string {
  if (reference === "") throw new UserError(`${where}: a picture has an empty path`);
  if (!/^file:/i.test(reference)) return reference;
  try {
    return fileURLToPath(reference);
  } catch (cause) {
    throw new UserError(`${where}: ${reference} names no file of this machine (${messageOf(cause)})`, { cause });
  }
}

function requireFile(path: string, reference: string, where: string): void {
  let isFile: boolean;
  try {
    isFile = statSync(path).isFile();
  } catch (cause) {
    throw new UserError(`${where}: picture ${reference} cannot be read (${messageOf(cause)}); expected it at ${path}`, {
      cause,
    });
  }
  if (!isFile) throw new UserError(`${where}: picture ${reference} is not a file (${path})`);
}

/** Source: RFC 2397; pictures are always base64. */
function fromDataUri(uri: string, where: string): ImageSource {
  const comma = uri.indexOf(",");
  const header = uri.slice(0, Math.max(0, comma));
  if (!/^data:image\/[^;,]+(;[^;,]+)*;base64$/i.test(header)) {
    throw new UserError(`${where}: a picture begins ${uri.slice(0, 40)}; expected data:image/<kind>;base64,<bytes>`);
  }
  const base64 = uri.slice(comma + 1).replace(/[\s=]/g, "");
  const bytes = Buffer.from(base64, "base64"); // leaves out what is not base64, so the length tells
  if (base64 === "" || bytes.length !== Math.floor((base64.length * 3) / 4)) {
    throw new UserError(`${where}: the bytes of a data: picture are not base64; write them again`);
  }
  return { kind: "bytes", name: `the data: picture of ${where}`, bytes };
}
