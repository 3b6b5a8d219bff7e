/** How the graphs of a run save memory, decided once from the largest batch, so that no step depends on those before it. */
import type { Architecture } from "./architecture.ts";

export interface MemorySettings {
  /**
   * What the backward pass computes again instead of keeping it: `passes` over memory (norms, rotations, activations), which
   * cost next to nothing, or whole `layers`.
   */
  readonly recomputes: "nothing" | "passes" | "layers";
  /** Of layers that are computed again, what attention makes is kept: small for what it costs. */
  readonly keepsMixtures: boolean;
  /** Blocks of queries in the attention over tokens: T is a multiple of it. */
  readonly tokenBlocks: number;
  /** And in that over patches where the tower trains; P is a multiple of 4. */
  readonly patchBlocks: number;
}

export const NOTHING_SAVED: MemorySettings = {
  recomputes: "nothing",
  keepsMixtures: false,
  tokenBlocks: 1,
  patchBlocks: 1,
};

/** Bytes of scores above which attention is cut into blocks. */
const BLOCK_BYTES = 2 ** 25;
const MOST_TOKEN_BLOCKS = 8; // sessions with more take long to open, and by then the feed-forward layer holds more
const MOST_PATCH_BLOCKS = 4;
/** Bytes of what passes over memory leave behind, above which it is computed again. */
const PASS_BYTES = 2 ** 28;
/** Bytes of all layers' mixtures up to which they are kept. */
const MIXTURE_BYTES = 2 ** 29;

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
  checkpointsGradients: boolean,
): MemorySettings {
  const [tokens, mixed] = [rows * tokensPerRow, text.heads * text.headDim];
  const passes = 2 * text.intermediateSize + 2 * text.hiddenSize + mixed + 2 * text.kvHeads * text.headDim; // a token and layer
  const isLarge = 4 * tokens * text.layers * passes > PASS_BYTES;
  return {
    recomputes: checkpointsGradients ? "layers" : isLarge ? "passes" : "nothing",
    keepsMixtures: checkpointsGradients && 4 * tokens * text.layers * mixed <= MIXTURE_BYTES,
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
