/** Pictures and frames of videos as the vision tower takes them: normalised patches, merge block by merge block. */
import type { GridThw, ImageSize, RgbImage } from "./image.ts";
import { resizeBicubic, smartResize } from "./resize.ts";
import type { VisionSettings } from "./settings.ts";

const CHANNELS = 3;

/** One picture for the vision tower. */
export interface Patches {
  readonly grid: GridThw;
  /** [P, 3 * temporalPatchSize * patchSize * patchSize], P = t * h * w of the grid */
  readonly pixelValues: Float32Array;
}

/** The size a picture has once resized for the vision tower. @throws UserError for an extreme aspect ratio */
function resizedSize(size: ImageSize, settings: VisionSettings): ImageSize {
  const { patchSize, mergeSize, minPixels, maxPixels } = settings;
  return smartResize(size.height, size.width, { factor: patchSize * mergeSize, minPixels, maxPixels });
}

/**
 * The patch grid of a picture of this size; the picture's header is enough to know it.
 * @throws UserError for a picture more than 200 times as long as wide
 */
export function gridOf(size: ImageSize, settings: VisionSettings): GridThw {
  const { width, height } = resizedSize(size, settings);
  return [1, height / settings.patchSize, width / settings.patchSize];
}

/** How many image tokens stand for a grid in the text: one for each block of mergeSize x mergeSize patches. */
export const imageTokenCount = ([t, h, w]: GridThw, settings: Pick<VisionSettings, "mergeSize">): number =>
  (t * h * w) / settings.mergeSize ** 2;

/** The size that a picture of this grid is resized to. */
const sizeOf = ([, height, width]: GridThw, { patchSize }: VisionSettings): ImageSize => ({
  width: width * patchSize,
  height: height * patchSize,
});

/**
 * Resizes, rescales and normalises a picture and cuts it into patches; a still picture is repeated for every frame of a
 * temporal patch.
 * @param grid what it is resized to; without one, as the settings' pixel budget has it
 * @throws UserError for a picture more than 200 times as long as wide
 * Source: transformers 5.18, qwen2_vl/image_processing_pil_qwen2_vl.py, patchify.  Golden: test/fixtures/vision/patches.json
 */
export function patchesOf(image: RgbImage, settings: VisionSettings, grid = gridOf(image, settings)): Patches {
  const resized = resizeBicubic(image, sizeOf(grid, settings));
  return { grid, pixelValues: cutPatches([resized], normalisedLevels(settings), settings) };
}

/**
 * The same for a piece of a video: the frames of one temporal patch.
 * @param frames temporalPatchSize of them, of one size
 * @param grid [1, h, w]
 * Source: transformers 5.18, qwen3_vl/video_processing_qwen3_vl.py.  Golden: test/fixtures/video/videos.json
 */
export function framePatchesOf(frames: readonly RgbImage[], settings: VisionSettings, grid: GridThw): Patches {
  const resized = frames.map((frame) => resizeBicubic(frame, sizeOf(grid, settings), "torch"));
  return { grid, pixelValues: cutPatches(resized, fusedLevels(settings), settings) };
}

/**
 * Patches in the order of merge blocks (block row, block column, row in block, column in block), each laid out
 * [channel, frame, row, column].
 * @param frames of one size, a multiple of a merge block
 * @param levels [3, 256] what each grey level becomes
 * @returns [P, 3 * temporalPatchSize * patchSize * patchSize]
 */
function cutPatches(frames: readonly RgbImage[], levels: Float32Array, settings: VisionSettings): Float32Array {
  const { patchSize, mergeSize, temporalPatchSize } = settings;
  const [{ width, height }] = frames as readonly [RgbImage];
  const [gridHeight, gridWidth] = [height / patchSize, width / patchSize];
  const patchLength = CHANNELS * temporalPatchSize * patchSize ** 2;
  const pixelValues = new Float32Array(gridHeight * gridWidth * patchLength);
  let to = 0;
  for (let blockY = 0; blockY < gridHeight; blockY += mergeSize) {
    for (let blockX = 0; blockX < gridWidth; blockX += mergeSize) {
      for (let inBlock = 0; inBlock < mergeSize ** 2; inBlock++) {
        const patchY = blockY + Math.floor(inBlock / mergeSize);
        const patchX = blockX + (inBlock % mergeSize);
        const patch = pixelValues.subarray(to, to + patchLength);
        writePatch({ patch, frames, top: patchY * patchSize, left: patchX * patchSize, levels, settings });
        to += patchLength;
      }
    }
  }
  return pixelValues;
}

/**
 * What each of the 256 grey levels becomes in each channel, rounded where the reference rounds: rescaled in double and
 * rounded to float32, then the mean subtracted and the deviation divided out in float32.
 * Source: transformers 5.18, image_transforms.py, rescale and normalize.
 * @returns [3, 256]
 */
function normalisedLevels({ rescaleFactor, imageMean, imageStd }: VisionSettings): Float32Array {
  const levels = new Float32Array(CHANNELS * 256);
  for (let i = 0; i < levels.length; i++) {
    const channel = Math.floor(i / 256);
    const mean = Math.fround(imageMean[channel] as number);
    const std = Math.fround(imageStd[channel] as number);
    levels[i] = Math.fround(Math.fround((i % 256) * rescaleFactor) - mean) / std; // a quotient of two float32, rounded once more, is exact
  }
  return levels;
}

/**
 * The same for videos, where transformers folds rescaling into mean and deviation.
 * Source: transformers 5.18, image_processing_backends.py, _fuse_mean_std_and_rescale_factor.
 * @returns [3, 256]
 */
function fusedLevels({ rescaleFactor, imageMean, imageStd }: VisionSettings): Float32Array {
  const scale = Math.fround(1 / rescaleFactor);
  const fused = (value: number | undefined): number => Math.fround(Math.fround(value as number) * scale);
  return Float32Array.from({ length: CHANNELS * 256 }, (_, i) => {
    const channel = Math.floor(i / 256);
    return Math.fround((i % 256) - fused(imageMean[channel])) / fused(imageStd[channel]);
  });
}

/** Fills one patch: [channel, frame, row, column]; a single frame fills all. */
function writePatch(of: {
  readonly patch: Float32Array;
  readonly frames: readonly RgbImage[];
  readonly top: number;
  readonly left: number;
  readonly levels: Float32Array;
  readonly settings: VisionSettings;
}): void {
  const { patch, frames, top, left, levels } = of;
  const { patchSize, temporalPatchSize } = of.settings;
  const area = patchSize ** 2;
  for (let channel = 0; channel < CHANNELS; channel++) {
    const plane = channel * temporalPatchSize * area;
    frames.forEach(({ data, width }, frame) => {
      let to = plane + frame * area;
      for (let row = 0; row < patchSize; row++) {
        let from = ((top + row) * width + left) * CHANNELS + channel;
        for (let column = 0; column < patchSize; column++) {
          patch[to++] = levels[channel * 256 + (data[from] as number)] as number;
          from += CHANNELS;
        }
      }
    });
    for (let frame = frames.length; frame < temporalPatchSize; frame++)
      patch.copyWithin(plane + frame * area, plane, plane + area);
  }
}
