/** Positions of tokens for Qwen3-VL's multimodal rotary embedding: time, row and column. */
import { InternalError } from "../utils/errors.ts";
import type { GridThw } from "../vision/image.ts";

export interface MropeInput {
  /** [T] token ids of one document, image tokens expanded */
  readonly inputIds: ArrayLike<number>;
  /** grids of its pictures and pieces of videos in order, in patches */
  readonly grids: readonly GridThw[];
  readonly imageTokenId: number;
  /** Where there are no videos, it may be left out. */
  readonly videoTokenId?: number | undefined;
  /** patches along the side of one image token */
  readonly mergeSize: number;
}

/** Whether a token stands for a block of patches. */
export const isVisualToken = (
  id: number | undefined,
  { imageTokenId, videoTokenId }: Pick<MropeInput, "imageTokenId" | "videoTokenId">,
): boolean => id !== undefined && (id === imageTokenId || id === videoTokenId);

/**
 * Text advances all three by one. A picture stays at the time it begins; its tokens spread in rows and columns from
 * there, and the text after it goes on behind its longer side. A video is so many pictures, each behind the text of its time.
 * @returns [3, T] time, row, column, one after the other
 * Source: transformers 5.18, modeling_qwen3_vl.py, Qwen3VLModel.get_rope_index.  Golden: test/fixtures/tiny-qwen3vl
 */
export function mropePositions(input: MropeInput): Int32Array {
  const { inputIds, grids, mergeSize } = input;
  const length = inputIds.length;
  const positions = new Int32Array(3 * length);
  let next = 0;
  let picture = 0;
  for (let at = 0; at < length; ) {
    if (!isVisualToken(inputIds[at], input)) {
      for (let axis = 0; axis < 3; axis++) positions[axis * length + at] = next;
      next++;
      at++;
      continue;
    }
    const grid = grids[picture++];
    if (grid === undefined) throw new InternalError(`image token ${at} belongs to none of ${grids.length} grids`);
    const [height, width] = [grid[1] / mergeSize, grid[2] / mergeSize];
    const end = at + height * width;
    if (grid[0] !== 1 || end > length) throw new InternalError(`a grid [${grid}] at token ${at} of ${length}`);
    for (let i = 0; i < height * width; i++, at++) {
      positions[at] = next;
      positions[length + at] = next + Math.floor(i / width);
      positions[2 * length + at] = next + (i % width);
    }
    next += Math.max(height, width);
  }
  if (picture !== grids.length) throw new InternalError(`${grids.length} grids for the tokens of ${picture} pictures`);
  return positions;
}

/** Where generated text goes on: one behind the largest position. */
export function nextPosition(positions: Int32Array): number {
  let largest = -1;
  for (const position of positions) largest = Math.max(largest, position);
  return largest + 1;
}
