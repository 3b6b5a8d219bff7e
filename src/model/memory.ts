/** How the graphs of a run save memory, decided once from the largest batch, so that no step depends on those before it. */
import type { Architecture } from "./architecture.ts";

export interface MemorySettings {
  /** The backward pass computes each layer again instead of keeping what is inside it. */
  readonly recomputes: boolean;
  /** Blocks of queries in the attention over tokens: T is a multiple of it. */
  readonly tokenBlocks: number;
  /** And in that over patches where the tower trains; P is a multiple of 4. */
  readonly patchBlocks: number;
}

export const NOTHING_SAVED: MemorySettings = { recomputes: false, tokenBlocks: 1, patchBlocks: 1 };

/** Bytes of scores above which attention is cut into blocks. */
const BLOCK_BYTES = 2 ** 25;
const MOST_TOKEN_BLOCKS = 8; // sessions with more take long to open, and by then the feed-forward layer holds more
const MOST_PATCH_BLOCKS = 4;

/** The largest batch that a run will meet. */
export interface LargestBatch {
  readonly rows: number;
  readonly tokensPerRow: number;
  /** Of all its pictures; 0 where the tower does not train. */
  readonly patches: number;
}

export function memorySettings(
  { text, vision }: Pick<Architecture, "text" | "vision">,
  { rows, tokensPerRow, patches }: LargestBatch,
  recomputes: boolean,
): MemorySettings {
  return {
    recomputes,
    tokenBlocks: blockCount(rows * text.heads * tokensPerRow ** 2, MOST_TOKEN_BLOCKS),
    patchBlocks: blockCount(vision.heads * patches ** 2, MOST_PATCH_BLOCKS),
  };
}

/** One where the scores are few, else a power of two. */
function blockCount(scores: number, most: number): number {
  let count = 1;
  while ((4 * scores) / count > BLOCK_BYTES && count < most) count *= 2;
  return count;
}
