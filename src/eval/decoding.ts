/** Prompts as the decoder takes them: side by side, the shorter ones filled up, then token after token behind their cache. */
import type { Architecture } from "../model/architecture.ts";
import { featureFeeds, type PictureFeatures } from "../model/feeds.ts";
import { cacheNames } from "../model/graphs.ts";
import { HIDDEN } from "../model/layers.ts";
import { type Feeds, floats, type HostTensor, ints } from "../runtime/tensor.ts";

/** One prompt, not padded. */
export interface DecoderPrompt {
  /** Of the sample: what is drawn for an answer follows from it. */
  readonly id: string;
  readonly inputIds: Int32Array; // [T]
  readonly positionIds: Int32Array; // [3*T]
  readonly imageRows: Int32Array; // [M] places of the image tokens
  readonly pictures: readonly PictureFeatures[];
}

/** What is known of the sequences while they grow. */
export interface Decoding {
  /** Prompt lengths; cached places from a prompt's end to the longest prompt's hold padding and stay hidden. */
  readonly lengths: readonly number[];
  readonly promptLength: number;
  /** Position of the next token, the same for time, height and width: [B] */
  readonly nextPositions: readonly number[];
}

const nextPosition = ({ positionIds }: DecoderPrompt): number =>
  positionIds.reduce((max, position) => Math.max(max, position), 0) + 1;

export function decodingOf(prompts: readonly DecoderPrompt[]): Decoding {
  const lengths = prompts.map(({ inputIds }) => inputIds.length);
  return { lengths, nextPositions: prompts.map(nextPosition), promptLength: Math.max(...lengths) };
}

/** The prompt with an answer behind it, as one longer prompt. */
export function continued(prompt: DecoderPrompt, answer: readonly number[]): DecoderPrompt {
  const length = prompt.inputIds.length;
  const next = nextPosition(prompt);
  const axis = (k: number): number[] => [
    ...prompt.positionIds.subarray(k * length, (k + 1) * length),
    ...answer.map((_, i) => next + i),
  ];
  return {
    ...prompt,
    inputIds: Int32Array.from([...prompt.inputIds, ...answer]),
    positionIds: Int32Array.from([0, 1, 2].flatMap(axis)),
  };
}

/** Feeds of whole prompts with an empty cache, `logit_rows` left to the caller. */
export function promptFeeds(
  architecture: Architecture,
  prompts: readonly DecoderPrompt[],
  { lengths, promptLength }: Decoding,
  padId: number,
): Feeds {
  const batch = prompts.length;
  const inputIds = new Int32Array(batch * promptLength).fill(padId);
  const positionIds = new Int32Array(3 * batch * promptLength);
  prompts.forEach((prompt, b) => {
    inputIds.set(prompt.inputIds, b * promptLength);
    for (let axis = 0; axis < 3; axis++) {
      const length = prompt.inputIds.length;
      positionIds.set(
        prompt.positionIds.subarray(axis * length, (axis + 1) * length),
        (axis * batch + b) * promptLength,
      );
    }
  });
  const imageRows = Int32Array.from(
    prompts.flatMap((prompt, b) => [...prompt.imageRows].map((row) => b * promptLength + row)),
  );
  return {
    input_ids: ints(inputIds, [batch, promptLength]),
    position_ids: ints(positionIds, [3, batch, promptLength]),
    attention_bias: promptBias(lengths, promptLength),
    image_rows: ints(imageRows, [imageRows.length]),
    ...featureFeeds(
      architecture,
      prompts.flatMap((prompt) => prompt.pictures),
    ),
    ...emptyCache(architecture, batch),
  };
}

function emptyCache({ text: { layers, kvHeads, headDim } }: Architecture, batch: number): Feeds {
  const none = (): HostTensor => floats(new Float32Array(0), [batch, kvHeads, 0, headDim]);
  return Object.fromEntries(
    Array.from({ length: layers }, (_, layer) => cacheNames(layer)).flatMap(({ pastKey, pastValue }) => [
      [pastKey, none()],
      [pastValue, none()],
    ]),
  );
}

/**
 * Feeds of one more token for each sequence, the cache left to the caller.
 * @param made tokens already in the cache behind the prompts
 */
export function nextTokenFeeds(
  architecture: Architecture,
  tokens: readonly number[],
  state: Decoding,
  made: number,
): Feeds {
  const batch = tokens.length;
  const positions = Int32Array.from({ length: 3 * batch }, (_, i) => (state.nextPositions[i % batch] ?? 0) + made);
  return {
    input_ids: ints(Int32Array.from(tokens), [batch, 1]),
    position_ids: ints(positions, [3, batch, 1]),
    attention_bias: decodeBias(state, made),
    image_rows: ints(new Int32Array(0), [0]),
    logit_rows: ints(
      Int32Array.from(tokens, (_, b) => b),
      [batch],
    ),
    ...featureFeeds(architecture, []),
  };
}

/** [B, 1, 1, T, T]: each token sees itself and what stands before it; padding behind a prompt is seen by padding alone. */
function promptBias(lengths: readonly number[], promptLength: number): HostTensor {
  const bias = new Float32Array(lengths.length * promptLength ** 2).fill(HIDDEN);
  for (let b = 0; b < lengths.length; b++) {
    for (let t = 0; t < promptLength; t++) {
      const row = (b * promptLength + t) * promptLength;
      bias.fill(0, row, row + t + 1);
    }
  }
  return floats(bias, [lengths.length, 1, 1, promptLength, promptLength]);
}

/** [B, 1, 1, 1, S+1]: the new token sees its prompt, the tokens made so far and itself. */
function decodeBias({ lengths, promptLength }: Decoding, made: number): HostTensor {
  const total = promptLength + made + 1;
  const bias = new Float32Array(lengths.length * total);
  lengths.forEach((length, b) => {
    bias.fill(HIDDEN, b * total + length, b * total + promptLength);
  });
  return floats(bias, [lengths.length, 1, 1, 1, total]);
}
