/** Videos as lists of frames: how large the frames become, how they make temporal patches, and what time each patch shows. */
import { roundHalfEven } from "../utils/bf16.ts";
import { UserError } from "../utils/errors.ts";
import type { GridThw, ImageSize } from "./image.ts";
import { refuseExtremeShape } from "./resize.ts";
import type { VisionSettings } from "./settings.ts";
import type { VideoBudget } from "./videoBudget.ts";

/** A video as its frames' headers show it. */
export interface VideoSize extends ImageSize {
  readonly frames: number;
}

/**
 * The patch grid of a video: t temporal patches of h x w patches. An odd last frame is repeated to fill its patch.
 * @throws UserError for too few frames, or frames more than 200 times as long as wide
 */
export function videoGridOf(size: VideoSize, settings: VisionSettings, budget: VideoBudget): GridThw {
  const { patchSize, temporalPatchSize } = settings;
  if (size.frames < temporalPatchSize)
    throw new UserError(
      `a video of ${size.frames} frame; expected at least ${temporalPatchSize}: give it as a picture`,
    );
  const { width, height } = videoSize(size, settings, budget);
  return [Math.ceil(size.frames / temporalPatchSize), height / patchSize, width / patchSize];
}

/**
 * The size that frames are resized to, so that all of them together keep the budget.
 * Source: transformers 5.18, qwen3_vl/video_processing_qwen3_vl.py, smart_resize and resize.
 * Golden: test/fixtures/video/sizes.json
 */
function videoSize(size: VideoSize, settings: VisionSettings, budget: VideoBudget): ImageSize {
  const factor = settings.patchSize * settings.mergeSize;
  const { frames } = size;
  const { width, height } = atLeast(factor, size);
  refuseExtremeShape(height, width);
  const rounded = { height: roundHalfEven(height / factor) * factor, width: roundHalfEven(width / factor) * factor };
  const area = countedFrames(frames, settings) * rounded.height * rounded.width;
  const maxPixels = mostPixels(frames, factor, budget);
  if (area > maxPixels) {
    const beta = Math.sqrt((frames * height * width) / maxPixels);
    const shrunk = (side: number): number => Math.max(factor, Math.floor(side / beta / factor) * factor);
    return { height: shrunk(height), width: shrunk(width) };
  }
  if (area < budget.minPixels) {
    const beta = Math.sqrt(budget.minPixels / (frames * height * width));
    const grown = (side: number): number => Math.ceil((side * beta) / factor) * factor;
    return { height: grown(height), width: grown(width) };
  }
  return rounded;
}

/** As many frames as the budget is reckoned with: whole temporal patches, a half one to the even number. */
export const countedFrames = (frames: number, { temporalPatchSize }: VisionSettings): number =>
  roundHalfEven(frames / temporalPatchSize) * temporalPatchSize;

/** A frame smaller than one token is first enlarged to one. */
function atLeast(factor: number, { width, height }: ImageSize): ImageSize {
  if (width >= factor && height >= factor) return { width, height };
  const scale = Math.max(factor / height, factor / width);
  return { width: Math.trunc(width * scale), height: Math.trunc(height * scale) };
}

/** All frames' pixels together; a cap on each frame makes short videos cheaper. */
function mostPixels(frames: number, factor: number, { minPixels, maxPixels, maxFrameTokens }: VideoBudget): number {
  if (maxFrameTokens === null) return maxPixels;
  const share = Math.min(maxFrameTokens * factor ** 2, Math.floor(maxPixels / frames));
  return Math.max(share, Math.trunc(minPixels * 1.05)) * frames;
}

/** The frames of each temporal patch, the last frame repeated where one is not full. */
export function temporalPatches<T>(frames: readonly T[], { temporalPatchSize }: VisionSettings): T[][] {
  const patches: T[][] = [];
  for (let at = 0; at < frames.length; at += temporalPatchSize) {
    const last = frames.length - 1;
    patches.push(Array.from({ length: temporalPatchSize }, (_, i) => frames[Math.min(at + i, last)] as T));
  }
  return patches;
}

/**
 * What the model reads before each temporal patch: the mean time of its first and last frame.
 * Source: transformers 5.18, qwen3_vl/processing_qwen3_vl.py, _calculate_timestamps.
 */
export function timestampsOf(frames: number, fps: number, settings: VisionSettings): string[] {
  const times = Array.from({ length: frames }, (_, frame) => frame / fps);
  return temporalPatches(times, settings).map((patch) => {
    const mean = ((patch[0] as number) + (patch.at(-1) as number)) / 2;
    return `<${oneDecimal(mean)} seconds>`;
  });
}

/** Python's `:.1f`: as `toFixed`, which rounds the exact value, but a tie goes to the even digit. Ties are odd quarters. */
function oneDecimal(seconds: number): string {
  const isTie = Number.isInteger(seconds * 4) && !Number.isInteger(seconds * 2);
  return (isTie ? roundHalfEven(seconds * 10) / 10 : seconds).toFixed(1);
}
