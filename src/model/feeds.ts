/** Tensors for a model graph's inputs, from the plain arrays that a batch and its pictures are. */
import { type Feeds, floats, type HostTensor, ints } from "../runtime/tensor.ts";
import { required } from "../utils/errors.ts";
import type { Architecture } from "./architecture.ts";
import { deepstackName } from "./graphs.ts";
import { patchPositions } from "./visionPositions.ts";

export type Grid = readonly [t: number, h: number, w: number];

/** B rows of T tokens; see collator.ts for what each holds. */
export interface TokenArrays {
  readonly batchSize: number;
  readonly length: number;
  readonly inputIds: Int32Array; // [B*T]
  readonly positionIds: Int32Array; // [3*B*T]
  readonly segmentIds: Int32Array; // [B*T]
  readonly imageRows: Int32Array; // [M]
}

/** Patches of one picture, as vision/patches.ts lays them out. */
export interface PicturePixels {
  readonly grid: Grid;
  readonly pixelValues: Float32Array; // [P, width]
}

/** What the vision tower made of one picture. */
export interface PictureFeatures {
  readonly imageEmbeds: Float32Array; // [M, D]
  readonly deepstack: readonly Float32Array[]; // each [M, D]
}

export function tokenFeeds({ batchSize, length, inputIds, positionIds, segmentIds, imageRows }: TokenArrays): Feeds {
  return {
    input_ids: ints(inputIds, [batchSize, length]),
    position_ids: ints(positionIds, [3, batchSize, length]),
    segment_ids: ints(segmentIds, [batchSize, length]),
    image_rows: ints(imageRows, [imageRows.length]),
  };
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const [only, ...more] = parts;
  if (only && more.length === 0) return only;
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** The features of a batch's pictures, in the order of its image tokens; none makes tensors of no rows. */
export function featureFeeds({ text, vision }: Architecture, pictures: readonly PictureFeatures[]): Feeds {
  const tensor = (parts: readonly Float32Array[]): HostTensor => {
    const data = joined(parts);
    return floats(data, [data.length / text.hiddenSize, text.hiddenSize]);
  };
  const feeds: Record<string, HostTensor> = { image_embeds: tensor(pictures.map((picture) => picture.imageEmbeds)) };
  vision.deepstackIndexes.forEach((_, i) => {
    feeds[deepstackName(i)] = tensor(pictures.map((picture) => required(picture.deepstack[i], `deepstack ${i}`)));
  });
  return feeds;
}

const patchWidth = ({ vision }: Architecture): number =>
  vision.channels * vision.temporalPatchSize * vision.patchSize ** 2;
const sideOf = ({ vision }: Architecture): number => Math.sqrt(vision.positionEmbeddings);

/** Pictures of one grid for the vision graph. */
export function pictureFeeds(architecture: Architecture, pictures: readonly PicturePixels[]): Feeds {
  const { grid } = required(pictures[0], "a picture");
  const { indices, weights, rowsAndColumns } = patchPositions(
    grid,
    architecture.vision.mergeSize,
    sideOf(architecture),
  );
  const patches = weights.length / 4;
  return {
    pixel_values: floats(joined(pictures.map((picture) => picture.pixelValues)), [
      pictures.length,
      patches,
      patchWidth(architecture),
    ]),
    patch_position_indices: ints(indices, [patches, 4]),
    patch_position_weights: floats(weights, [patches, 4]),
    patch_positions: ints(rowsAndColumns, [patches, 2]),
  };
}

/** Pictures of any grids, end to end, for a training graph that holds the vision tower. */
export function patchFeeds(architecture: Architecture, pictures: readonly PicturePixels[]): Feeds {
  const tables = pictures.map(({ grid }) => patchPositions(grid, architecture.vision.mergeSize, sideOf(architecture)));
  const patches = tables.reduce((sum, { weights }) => sum + weights.length / 4, 0);
  const joinInts = (parts: readonly Int32Array[]): Int32Array => Int32Array.from(parts.flatMap((part) => [...part]));
  return {
    pixel_values: floats(joined(pictures.map((picture) => picture.pixelValues)), [
      1,
      patches,
      patchWidth(architecture),
    ]),
    patch_position_indices: ints(joinInts(tables.map((table) => table.indices)), [patches, 4]),
    patch_position_weights: floats(joined(tables.map((table) => table.weights)), [patches, 4]),
    patch_positions: ints(joinInts(tables.map((table) => table.rowsAndColumns)), [patches, 2]),
    patch_segments: ints(joinInts(tables.map(({ weights }, i) => new Int32Array(weights.length / 4).fill(i))), [
      patches,
    ]),
  };
}
