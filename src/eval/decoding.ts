/** Prompts as the decoder takes them: side by side, the shorter ones filled up, then token after token behind their cache. */
import type { Architecture } from "../model/architecture.ts";
import { featureFeeds, type PictureFeatures } from "../model/feeds.ts";
import { type Feeds, ints } from "../runtime/tensor.ts";

/** One prompt, not padded. */
export interface DecoderPrompt {
  /** Of the sample: what is drawn for an answer follows from it. */
  readonly id: string;
  readonly inputIds: Int32Array; // [T]
  readonly positionIds: Int32Array; // [3*T]
  readonly imageRows: Int32Array; // [M] places of the image tokens
  readonly pictures: readonly PictureFeatures[];
}

/** Position of the token behind a prompt, the same for time, height and width. */
export const nextPosition = ({ positionIds }: DecoderPrompt): number =>
  positionIds.reduce((max, position) => Math.max(max, position), 0) + 1;

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

/** The length that all prompts are brought to: of the longest, or the next multiple of `block`. */
export const filledLength = (prompts: readonly DecoderPrompt[], block: number): number =>
  Math.ceil(Math.max(...prompts.map(({ inputIds }) => inputIds.length)) / block) * block;

/** Feeds of whole prompts, filled up at their ends to `longest` tokens; cache and `logit_rows` are left to the caller. */
export function promptFeeds(
  architecture: Architecture,
  prompts: readonly DecoderPrompt[],
  { longest, padId }: { readonly longest: number; readonly padId: number },
): Feeds {
  const batch = prompts.length;
  const inputIds = new Int32Array(batch * longest).fill(padId);
  const positionIds = new Int32Array(3 * batch * longest);
  prompts.forEach((prompt, b) => {
    inputIds.set(prompt.inputIds, b * longest);
    for (let axis = 0; axis < 3; axis++) {
      const length = prompt.inputIds.length;
      positionIds.set(prompt.positionIds.subarray(axis * length, (axis + 1) * length), (axis * batch + b) * longest);
    }
  });
  const imageRows = Int32Array.from(
    prompts.flatMap((prompt, b) => [...prompt.imageRows].map((row) => b * longest + row)),
  );
  return {
    input_ids: ints(inputIds, [batch, longest]),
    position_ids: ints(positionIds, [3, batch, longest]),
    image_rows: ints(imageRows, [imageRows.length]),
    ...featureFeeds(
      architecture,
      prompts.flatMap((prompt) => prompt.pictures),
    ),
  };
}

/**
 * Feeds of one more token for each sequence, the cache left to the caller.
 * @param positions of these tokens
 */
export function nextTokenFeeds(
  architecture: Architecture,
  tokens: readonly number[],
  positions: readonly number[],
): Feeds {
  const batch = tokens.length;
  return {
    input_ids: ints(Int32Array.from(tokens), [batch, 1]),
    position_ids: ints(Int32Array.from([...positions, ...positions, ...positions]), [3, batch, 1]),
    image_rows: ints(new Int32Array(0), [0]),
    logit_rows: ints(
      Int32Array.from(tokens, (_, b) => b),
      [batch],
    ),
    ...featureFeeds(architecture, []),
  };
}
