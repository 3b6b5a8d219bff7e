/** Small copies of pictures, for pages that people look at. */
import sharp from "sharp";
import { decodeImage } from "./decode.ts";
import type { ImageSize, ImageSource } from "./image.ts";

export interface Thumbnail {
  /** Of the picture itself. */
  readonly original: ImageSize;
  readonly jpeg: Uint8Array;
}

const QUALITY = 72; // text on screenshots stays readable

/**
 * The picture as the model sees it (upright, on white), no side longer than `side`.
 * @throws UserError naming the picture when it cannot be decoded
 */
export async function thumbnail(source: ImageSource, side: number): Promise<Thumbnail> {
  const { data, width, height } = await decodeImage(source);
  const jpeg = await sharp(data, { raw: { width, height, channels: 3 } })
    .resize({ width: side, height: side, fit: "inside", withoutEnlargement: true })
    .jpeg({ quality: QUALITY })
    .toBuffer();
  return { original: { width, height }, jpeg };
}
