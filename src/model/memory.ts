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
  /** Of these blocks, what queries take of keys is kept and not computed again. */
  readonly keepsShares: boolean;
  /** And in that over patches where the tower trains; P is a multiple of 4. */
  readonly patchBlocks: number;
}

export const NOTHING_SAVED: MemorySettings = {
  recomputes: "nothing",
  keepsMixtures: false,
  tokenBlocks: 1,
  keepsShares: false,
  patchBlocks: 1,
};

/** Bytes of scores up to which attention is left whole. */
const WHOLE_BYTES = 2 ** 25;
/** Else it is cut until the scores of a block have no more than this, for the keys behind a block are left out; but a graph of many blocks opens slowly. */
const SMALL_BLOCKS = { bytes: 2 ** 22, most: 8, mostOfAllLayers: 144 };
/** And further where blocks are still so large that memory counts. */
const LARGE_BLOCKS = { bytes: 2 ** 28, most: 16 };
const PATCH_BLOCKS = { bytes: 2 ** 25, most: 4 };
/** Bytes of what passes over memory leave behind, above which it is computed again. */
const PASS_BYTES = 2 ** 28;
/** Bytes of what all queries take of all keys, up to which it is kept. */
const SHARE_BYTES = 2 ** 28;
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
  const scores = text.heads * rows * tokensPerRow ** 2;
  const tokenBlocks = blockCount(scores, smallBlocks(text.layers), LARGE_BLOCKS);
  const isLarge = 4 * tokens * text.layers * passes > PASS_BYTES;
  return {
    recomputes: checkpointsGradients ? "layers" : isLarge ? "passes" : "nothing",
    keepsMixtures: checkpointsGradients && 4 * tokens * text.layers * mixed <= MIXTURE_BYTES,
    tokenBlocks,
    keepsShares:
      tokenBlocks > 1 && !checkpointsGradients && 4 * scores * text.layers * causalPart(tokenBlocks) <= SHARE_BYTES,
    patchBlocks: blockCount(vision.heads * patches ** 2, PATCH_BLOCKS),
  };
}

interface BlockLimit {
  readonly bytes: number;
  /** A power of two. */
  readonly most: number;
}

function smallBlocks(layers: number): BlockLimit {
  const { bytes, most, mostOfAllLayers } = SMALL_BLOCKS;
  return { bytes, most: Math.min(most, 2 ** Math.floor(Math.log2(Math.max(1, mostOfAllLayers / layers)))) };
}

/** Of all products of queries and keys, those that are left where no block meets the keys behind it. */
const causalPart = (blocks: number): number => (blocks + 1) / (2 * blocks);

/** One where the scores are few, else a power of two. */
function blockCount(scores: number, ...limits: readonly BlockLimit[]): number {
  const all = 4 * scores;
  if (all <= WHOLE_BYTES) return 1;
  return Math.max(...limits.map(({ bytes, most }) => Math.min(most, 2 ** Math.ceil(Math.log2(all / bytes)))));
}
