/** Pictures by formula, the same as in scripts/fixtures/make_vision.py, and what the vision tests share. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import sharp from "sharp";
import type { ImageSource, RgbImage } from "../../src/vision/image.ts";

/** Squares of noise beside hard black and white edges, so that bicubic overshoots and clips. */
export function picture(width: number, height: number): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) {
    const c = i % 3;
    const x = Math.floor(i / 3) % width;
    const y = Math.floor(i / 3 / width);
    const isNoise = ((x >> 4) + (y >> 4)) & 1;
    data[i] = isNoise ? Math.imul(i, 2654435761) >>> 24 : ((x ^ y) + c) & 4 ? 255 : 0;
  }
  return { width, height, data };
}

/** The picture moved to the left by five columns a frame, the same as in scripts/fixtures/make_video.py. */
export function frame(width: number, height: number, number: number): RgbImage {
  const still = picture(width, height);
  const data = new Uint8Array(still.data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y * width + ((x + 5 * number) % width)) * 3;
      data.set(still.data.subarray(from, from + 3), (y * width + x) * 3);
    }
  }
  return { width, height, data };
}

/** The picture as a file in memory. */
export async function pngOf({ width, height, data }: RgbImage): Promise<ImageSource> {
  const bytes = await sharp(data, { raw: { width, height, channels: 3 } })
    .png({ compressionLevel: 1 })
    .toBuffer();
  return { kind: "bytes", name: `picture ${width}x${height}`, bytes };
}

export const sha256 = (values: Uint8Array | Float32Array): string =>
  createHash("sha256")
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest("hex");

export function fixture<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../fixtures/vision/${name}`, import.meta.url), "utf8")) as T;
}

/** The largest difference between two arrays and where it is; unequal lengths are infinitely far apart. */
export function farthest(actual: ArrayLike<number>, expected: ArrayLike<number>): { error: number; at: number } {
  if (actual.length !== expected.length) return { error: Number.POSITIVE_INFINITY, at: -1 };
  let worst = { error: 0, at: -1 };
  for (let i = 0; i < actual.length; i++) {
    const error = Math.abs((actual[i] as number) - (expected[i] as number));
    if (!(error <= worst.error)) worst = { error, at: i };
  }
  return worst;
}
