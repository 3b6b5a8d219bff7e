/**
 * How large a picture becomes and how it gets there: Qwen's size rule and bicubic resizing in integer arithmetic, Pillow's
 * for pictures and PyTorch's for frames of videos. All must repeat the reference to the last bit, since a model has seen
 * no other pixels.
 */
import { roundHalfEven } from "../utils/bf16.ts";
import { UserError } from "../utils/errors.ts";
import type { ImageSize, RgbImage } from "./image.ts";

export interface SmartResizeLimits {
  /** Both sides become multiples of it: patch size times merge size. */
  readonly factor: number;
  readonly minPixels: number;
  readonly maxPixels: number;
}

const MAX_ASPECT_RATIO = 200; // the reference's limit

/**
 * The size a picture is resized to: sides are multiples of `factor`, the area lies within the pixel budget, the shape
 * is kept as well as that allows.
 * @throws UserError for a picture more than 200 times as long as wide
 * Source: transformers 5.18, qwen2_vl/image_processing_pil_qwen2_vl.py, smart_resize.
 */
export function smartResize(height: number, width: number, limits: SmartResizeLimits): ImageSize {
  const { factor, minPixels, maxPixels } = limits;
  refuseExtremeShape(height, width);
  const rounded = {
    height: roundHalfEven(height / factor) * factor,
    width: roundHalfEven(width / factor) * factor,
  };
  const area = rounded.height * rounded.width;
  if (area > maxPixels) {
    const beta = Math.sqrt((height * width) / maxPixels);
    const shrunk = (side: number): number => Math.max(factor, Math.floor(side / beta / factor) * factor);
    return { height: shrunk(height), width: shrunk(width) };
  }
  if (area < minPixels) {
    const beta = Math.sqrt(minPixels / (height * width));
    const grown = (side: number): number => Math.ceil((side * beta) / factor) * factor;
    return { height: grown(height), width: grown(width) };
  }
  return rounded;
}

/** @throws UserError for a picture more than 200 times as long as wide */
export function refuseExtremeShape(height: number, width: number): void {
  const ratio = Math.max(height, width) / Math.min(height, width);
  if (ratio <= MAX_ASPECT_RATIO) return;
  throw new UserError(
    `image of ${width}x${height} pixels: its long side is ${ratio.toFixed(1)} times its short one, at most ` +
      `${MAX_ASPECT_RATIO} is possible; crop it or cut it into pieces`,
  );
}

/** Whose arithmetic: the two round their weights to different precision and differ by a grey level here and there. */
export type Resampler = "pillow" | "torch";

const CHANNELS = 3;
const PILLOW_BITS = 32 - 8 - 2; // of a weight's fraction: 8 bits are the pixel's, 2 guard against overshoot
const TORCH_WEIGHT_LIMIT = 1 << 15; // weights are 16-bit numbers with as many bits of fraction as the largest allows
const SUPPORT = 2; // a cubic reaches two source pixels to either side

/** Keys' cubic with a = -0.5, in Pillow's order of operations. */
function cubic(distance: number): number {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/** For every output index: the first source index, how many follow, and their fixed-point weights. */
interface Taps {
  readonly first: Int32Array; // [size]
  readonly count: Int32Array; // [size]
  readonly stride: number; // weights kept per output index
  readonly weights: Int32Array; // [size * stride]
  readonly bits: number; // of fraction in a weight
}

/**
 * @returns the weights that take `inSize` samples to `outSize`
 * Source: Pillow 12, libImaging/Resample.c, precompute_coeffs; PyTorch 2.13, UpSampleKernel.cpp,
 * _compute_index_ranges_int16_weights.
 */
function tapsOf(inSize: number, outSize: number, resampler: Resampler): Taps {
  const scale = inSize / outSize;
  const filterScale = Math.max(scale, 1); // a wider filter when shrinking: that is the antialiasing
  const support = SUPPORT * filterScale;
  const stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(outSize);
  const count = new Int32Array(outSize);
  const exact = new Float64Array(outSize * stride);
  for (let out = 0; out < outSize; out++) {
    const centre = (out + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const taps = Math.min(inSize, Math.trunc(centre + support + 0.5)) - start;
    const row = exact.subarray(out * stride, out * stride + taps);
    let sum = 0;
    for (let i = 0; i < taps; i++) {
      row[i] = cubic((i + start - centre + 0.5) * (1 / filterScale));
      sum += row[i] as number;
    }
    first[out] = start;
    count[out] = taps;
    for (let i = 0; i < taps; i++) row[i] = (row[i] as number) / sum;
  }
  const bits = resampler === "pillow" ? PILLOW_BITS : torchBits(exact);
  return { first, count, stride, weights: Int32Array.from(exact, (weight) => toFixedPoint(weight, bits)), bits };
}

const toFixedPoint = (weight: number, bits: number): number =>
  Math.trunc((weight < 0 ? -0.5 : 0.5) + weight * (1 << bits));

/** As many bits as leave the largest weight within 16 bits, at most Pillow's. */
function torchBits(weights: Float64Array): number {
  const largest = weights.reduce((most, weight) => Math.max(most, weight), 0);
  let bits = 0;
  while (bits < PILLOW_BITS && toFixedPoint(largest, bits + 1) < TORCH_WEIGHT_LIMIT) bits++;
  return bits;
}

/** @param source [height, inWidth, 3]  @returns [height, outWidth, 3] */
function resizeRows(source: Uint8Array, height: number, inWidth: number, taps: Taps): Uint8Array {
  const { first, count, stride, weights, bits } = taps;
  const outWidth = first.length;
  const half = 1 << (bits - 1); // every sum starts at it, so that `>>`, which floors, rounds
  const target = new Uint8ClampedArray(height * outWidth * CHANNELS); // clips an overshoot to 0..255
  let to = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < outWidth; x++) {
      let from = (y * inWidth + (first[x] as number)) * CHANNELS;
      const end = x * stride + (count[x] as number);
      let red = half;
      let green = half;
      let blue = half;
      for (let w = x * stride; w < end; w++) {
        const weight = weights[w] as number;
        red = (red + Math.imul(source[from] as number, weight)) | 0;
        green = (green + Math.imul(source[from + 1] as number, weight)) | 0;
        blue = (blue + Math.imul(source[from + 2] as number, weight)) | 0;
        from += CHANNELS;
      }
      target[to] = red >> bits;
      target[to + 1] = green >> bits;
      target[to + 2] = blue >> bits;
      to += CHANNELS;
    }
  }
  return new Uint8Array(target.buffer);
}

/** @param source [height, width, 3]  @returns [outHeight, width, 3] */
function resizeColumns(source: Uint8Array, width: number, taps: Taps): Uint8Array {
  const { first, count, stride, weights, bits } = taps;
  const outHeight = first.length;
  const rowBytes = width * CHANNELS;
  const target = new Uint8ClampedArray(outHeight * rowBytes);
  const sums = new Int32Array(rowBytes); // a whole row at a time: memory is then read in order
  for (let y = 0; y < outHeight; y++) {
    sums.fill(1 << (bits - 1));
    for (let tap = 0; tap < (count[y] as number); tap++) {
      const weight = weights[y * stride + tap] as number;
      const from = ((first[y] as number) + tap) * rowBytes;
      for (let i = 0; i < rowBytes; i++) {
        sums[i] = (sums[i] as number) + Math.imul(source[from + i] as number, weight);
      }
    }
    const to = y * rowBytes;
    for (let i = 0; i < rowBytes; i++) target[to + i] = (sums[i] as number) >> bits;
  }
  return new Uint8Array(target.buffer);
}

/** Pillow takes columns first for a tall, thin picture that gets shorter. Source: Pillow 12.3, PIL/Image.py, Image.resize. */
const areColumnsFirst = (from: ImageSize, to: ImageSize): boolean =>
  from.height > from.width * 100 && to.height < from.height;

function withWidth(image: RgbImage, width: number, resampler: Resampler): RgbImage {
  if (width === image.width) return image;
  const data = resizeRows(image.data, image.height, image.width, tapsOf(image.width, width, resampler));
  return { width, height: image.height, data };
}

function withHeight(image: RgbImage, height: number, resampler: Resampler): RgbImage {
  if (height === image.height) return image;
  const data = resizeColumns(image.data, image.width, tapsOf(image.height, height, resampler));
  return { width: image.width, height, data };
}

/**
 * Bicubic resize with antialiasing, byte for byte Pillow's or PyTorch's: one direction, rounded and clipped to 8 bits, then
 * the other; a side that keeps its length is left alone.
 * @returns a picture of `size`; the given one itself when nothing changes
 * Source: Pillow 12.3, libImaging/Resample.c; PyTorch 2.13, UpSampleKernel.cpp (8-bit input).
 * Golden: test/fixtures/vision/resize.json, test/fixtures/video/resize.json
 */
export function resizeBicubic(
  image: RgbImage,
  { width, height }: ImageSize,
  resampler: Resampler = "pillow",
): RgbImage {
  return resampler === "pillow" && areColumnsFirst(image, { width, height })
    ? withWidth(withHeight(image, height, resampler), width, resampler)
    : withHeight(withWidth(image, width, resampler), height, resampler);
}
