/** Picture files to RGB pixels. Pixels are Pillow's, so colour profiles are ignored. */
import { readFile, stat } from "node:fs/promises";
import sharp, { type Metadata, type Sharp } from "sharp";
import { messageOf, UserError } from "../utils/errors.ts";
import { type ImageSize, type ImageSource, nameOf, type RgbImage } from "./image.ts";

/**
 * The most pixels a picture may announce: where Pillow refuses too (twice its MAX_IMAGE_PIXELS). A few bytes of PNG can
 * announce billions; this many take 0.5 GB as RGB.
 */
export const MAX_IMAGE_PIXELS = 178_956_970;

/** sharp's name of a format and the one people use; drawings (SVG) have no pixels of their own and are refused. */
const READABLE: ReadonlyMap<string, string> = new Map([
  ["jpeg", "JPEG"],
  ["png", "PNG"],
  ["webp", "WebP"],
  ["gif", "GIF"],
  ["heif", "AVIF"],
  ["tiff", "TIFF"],
]);
const READABLE_NAMES = [...READABLE.values()].join(", ");
const CHANNELS = 3;

/** What decodes: of another version, pixels may come out otherwise. */
export const decoderVersions = (): Readonly<Record<string, string | undefined>> => ({ ...sharp.versions });

sharp.cache(false); // it caches by path and would serve a file's former content after it was rewritten

/**
 * The size of a picture after its EXIF orientation, from the header alone.
 * @throws UserError naming the picture when it is missing, unreadable or larger than MAX_IMAGE_PIXELS
 */
export async function readImageSize(source: ImageSource): Promise<ImageSize> {
  const { autoOrient } = await readMetadata(source);
  return { width: autoOrient.width, height: autoOrient.height };
}

/**
 * Decodes a picture to 8-bit RGB: upright by its EXIF orientation, the first frame of an animation, grey and palette
 * expanded, the high byte of 16 bits, transparent parts shown on white.
 * @throws UserError naming the picture when it is missing, cut off, unreadable or larger than MAX_IMAGE_PIXELS
 */
export async function decodeImage(source: ImageSource): Promise<RgbImage> {
  const isCmyk = (await readMetadata(source)).space === "cmyk";
  const space = isCmyk ? "cmyk" : "srgb"; // libvips would convert CMYK by a printing profile; Pillow does plain arithmetic
  try {
    const upright = (await openImage(source)).autoOrient().pipelineColourspace(space).toColourspace(space);
    const { data, info } = await upright.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
    const pixels = isCmyk ? fromCmyk(data, info.channels) : overWhite(data, info.channels);
    return { width: info.width, height: info.height, data: pixels };
  } catch (cause) {
    throw new UserError(
      `${nameOf(source)}: the picture is damaged or cut off (${reasonOf(cause)}); replace it or leave its sample out`,
      { cause },
    );
  }
}

/** Opens the first frame. Size is checked by `readMetadata`, which names the picture; sharp's own check would not. */
async function openImage(source: ImageSource): Promise<Sharp> {
  const input = source.kind === "file" ? await inputOf(source.path) : source.bytes;
  return sharp(input, { failOn: "error", ignoreIcc: true, limitInputPixels: false });
}

/** libvips reads a file piecemeal by its path, but takes a trailing "[...]" for options: such files are read whole. */
const inputOf = async (path: string): Promise<string | Uint8Array> =>
  path.endsWith("]") ? await readFile(path) : path;

async function readMetadata(source: ImageSource): Promise<Metadata> {
  await checkPresent(source);
  const metadata = await openImage(source)
    .then((picture) => picture.metadata())
    .catch((cause: unknown) => refuse(source, reasonOf(cause), cause));
  if (!READABLE.has(metadata.format)) return refuse(source, `it is ${metadata.format.toUpperCase()}`);
  const { width, height } = metadata;
  if (width * height > MAX_IMAGE_PIXELS) {
    throw new UserError(
      `${nameOf(source)}: the picture has ${width}x${height} = ${width * height} pixels, at most ${MAX_IMAGE_PIXELS} ` +
        "are decoded; scale it down",
    );
  }
  return metadata;
}

async function checkPresent(source: ImageSource): Promise<void> {
  if (source.kind === "bytes") {
    if (source.bytes.length === 0) throw new UserError(`${source.name}: expected a picture, got 0 bytes`);
    return;
  }
  const found = await stat(source.path).catch((cause: unknown) => {
    throw new UserError(`${source.path}: the picture cannot be opened (${messageOf(cause)}); check the path`, {
      cause,
    });
  });
  if (!found.isFile()) throw new UserError(`${source.path}: expected a picture file, it is not a file; check the path`);
  if (found.size === 0) throw new UserError(`${source.path}: expected a picture, the file is empty; replace it`);
}

function refuse(source: ImageSource, reason: string, cause?: unknown): never {
  throw new UserError(
    `${nameOf(source)}: not a readable picture (${reason}); expected ${READABLE_NAMES}: convert it or replace it`,
    { cause },
  );
}

/** libvips lists every attempt on a line of its own; the last one says what went wrong. */
const reasonOf = (thrown: unknown): string => messageOf(thrown).trim().split("\n").at(-1) ?? "unknown reason";

/** a * b / 255, rounded, in Pillow's integer arithmetic (libImaging/ImagingUtils.h, MULDIV255 and DIV255). */
function dividedBy255(product: number): number {
  const shifted = product + 128;
  return ((shifted >> 8) + shifted) >> 8;
}

/**
 * @param pixels [n, 3 or 4] RGB, straight alpha behind it where there are four
 * @returns [n, 3] the picture on a white ground, as Pillow pastes it
 * Source: qwen-vl-utils, vision_process.py, to_rgb; Pillow, libImaging/Paste.c, paste_mask_L.
 */
function overWhite(pixels: Uint8Array, channels: number): Uint8Array {
  if (channels === CHANNELS) return new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.length); // no Buffer outside
  const count = pixels.length / channels;
  const rgb = new Uint8Array(count * CHANNELS);
  for (let i = 0; i < count; i++) {
    const alpha = pixels[i * channels + CHANNELS] as number;
    for (let c = 0; c < CHANNELS; c++) {
      rgb[i * CHANNELS + c] = dividedBy255(255 * (255 - alpha) + (pixels[i * channels + c] as number) * alpha);
    }
  }
  return rgb;
}

/**
 * @param pixels [n, 4 or more] CMYK, 255 is full ink
 * @returns [n, 3] RGB. Source: Pillow, libImaging/Convert.c, cmyk2rgb.
 */
function fromCmyk(pixels: Uint8Array, channels: number): Uint8Array {
  const count = pixels.length / channels;
  const rgb = new Uint8Array(count * CHANNELS);
  for (let i = 0; i < count; i++) {
    const light = 255 - (pixels[i * channels + CHANNELS] as number);
    for (let c = 0; c < CHANNELS; c++) {
      rgb[i * CHANNELS + c] = Math.max(0, light - dividedBy255((pixels[i * channels + c] as number) * light));
    }
  }
  return rgb;
}
