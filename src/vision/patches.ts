/** Pictures as the vision tower takes them: normalised patches, merge block by merge block. */
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

/**
 * Resizes, rescales and normalises a picture and cuts it into patches.
 * Patches come in the order of merge blocks (block row, block column, row in block, column in block), each laid out
 * [channel, frame, row, column]; a still picture is repeated for every frame of a temporal patch.
 * @throws UserError for a picture more than 200 times as long as wide
 * Source: transformers 5.18, qwen2_vl/image_processing_pil_qwen2_vl.py, patchify.  Golden: test/fixtures/vision/patches.json
 */
export function patchesOf(image: RgbImage, settings: VisionSettings): Patches {
  const resized = resizeBicubic(image, resizedSize(image, settings));
  const { patchSize, mergeSize, temporalPatchSize } = settings;
  const grid = gridOf(image, settings);
  const [, gridHeight, gridWidth] = grid;
  const patchLength = CHANNELS * temporalPatchSize * patchSize ** 2;
  const pixelValues = new Float32Array(gridHeight * gridWidth * patchLength);
  const levels = normalisedLevels(settings);
  let to = 0;
  for (let blockY = 0; blockY < gridHeight; blockY += mergeSize) {
    for (let blockX = 0; blockX < gridWidth; blockX += mergeSize) {
      for (let inBlock = 0; inBlock < mergeSize ** 2; inBlock++) {
        const patchY = blockY + Math.floor(inBlock / mergeSize);
        const patchX = blockX + (inBlock % mergeSize);
        const patch = pixelValues.subarray(to, to + patchLength);
        writePatch({ patch, image: resized, top: patchY * patchSize, left: patchX * patchSize, levels, settings });
        to += patchLength;
      }
    }
  }
  return { grid, pixelValues };
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

/** Fills one patch: [channel, frame, row, column]. */
function writePatch(of: {
  readonly patch: Float32Array;
  readonly image: RgbImage;
  readonly top: number;
  readonly left: number;
  readonly levels: Float32Array;
  readonly settings: VisionSettings;
}): void {
  const { patch, image, top, left, levels } = of;
  const { patchSize, temporalPatchSize } = of.settings;
  const { data, width } = image;
  const area = patchSize ** 2;
  for (let channel = 0; channel < CHANNELS; channel++) {
    const plane = channel * temporalPatchSize * area;
    let to = plane;
    for (let row = 0; row < patchSize; row++) {
      let from = ((top + row) * width + left) * CHANNELS + channel;
      for (let column = 0; column < patchSize; column++) {
        patch[to++] = levels[channel * 256 + (data[from] as number)] as number;
        from += CHANNELS;
      }
    }
    for (let frame = 1; frame < temporalPatchSize; frame++) patch.copyWithin(plane + frame * area, plane, plane + area);
  }
}
