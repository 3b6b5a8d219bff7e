/** Examples to token rows, and rows to batches. The only place that decides which tokens are learnt: it alone writes IGNORE. */
import { type Example, imagesOf, type Message } from "./data/example.ts";
import type { Processor } from "./processor.ts";
import { mropePositions } from "./text/mrope.ts";
import { messageOf, UserError } from "./utils/errors.ts";
import { readImageSize } from "./vision/decode.ts";
import type { GridThw, ImageSource } from "./vision/image.ts";
import { gridOf, imageTokenCount } from "./vision/patches.ts";

/** The label of a token that is not learnt. */
export const IGNORE = -100;

/** "official": the answer, its end-of-turn token and the newline after it; "pigg": the answer alone. */
export type LabelMode = "official" | "pigg";

export interface EncodeOptions {
  readonly labelMode: LabelMode;
  /** Which assistant turns are learnt; a message's own `train: false` is always left out. Default: all. */
  readonly trainOn?: "all" | "last";
}

/** A picture of a row, not decoded: its size alone says how many tokens it takes. */
export interface PlacedImage {
  readonly source: ImageSource;
  readonly grid: GridThw;
}

/** What a model is asked: everything before the last answer. */
export interface EncodedPrompt {
  readonly id: string;
  readonly user: string | null;
  /** [T] token ids, one image token for each block of patches */
  readonly inputIds: Int32Array;
  /** in the order of their tokens */
  readonly images: readonly PlacedImage[];
}

export interface Encoded extends EncodedPrompt {
  /** [T] the ids that are learnt, IGNORE elsewhere; not shifted (the loss shifts) */
  readonly labels: Int32Array;
}

/** Rows of one length, shorter ones filled up on the right. */
export interface Batch {
  readonly ids: readonly string[];
  /** B */
  readonly batchSize: number;
  /** T */
  readonly length: number;
  /** [B, T] */
  readonly inputIds: Int32Array;
  /** [B, T] not shifted */
  readonly labels: Int32Array;
  /** [3, B, T] time, row, column; 0 at padding */
  readonly positionIds: Int32Array;
  /** [B, T] which document of its row a token belongs to, from 0; -1 at padding */
  readonly segmentIds: Int32Array;
  readonly images: readonly PlacedImage[];
  /** [M] the flat index b * T + t of every image token, in the order of `images` */
  readonly imageRows: Int32Array;
  /** labels other than IGNORE */
  readonly tokenCount: number;
}

/**
 * Tokens and labels of one example; of its pictures only the headers are read.
 * @throws UserError naming the example: nothing to learn, pictures and image tokens at odds, an unreadable picture
 */
export async function encodeExample(example: Example, processor: Processor, options: EncodeOptions): Promise<Encoded> {
  return withId(example.id, async () => {
    const images = await placeImages(example.messages, processor);
    const tokens = encodeConversation(example, { processor, grids: images.map(({ grid }) => grid), ...options });
    // a policy for rows that are too long belongs here, where length and pictures are known and nothing is decoded
    return { id: example.id, user: example.user, images, ...tokens };
  });
}

/** The question before the last assistant turn, with the opening of the answer. @throws UserError as encodeExample */
export async function encodePrompt(example: Example, processor: Processor): Promise<EncodedPrompt> {
  return withId(example.id, async () => {
    const { id, user, tools } = example;
    const messages = example.messages.slice(0, example.messages.findLastIndex(isAssistant));
    const images = await placeImages(messages, processor);
    const text = processor.chatTemplate.render(messages, { tools, addGenerationPrompt: true });
    const ids = processor.tokenizer.encode(text);
    const counts = expansionOf(ids, { processor, grids: images.map(({ grid }) => grid) });
    return { id, user, inputIds: repeated(ids, counts), images };
  });
}

async function withId<T>(id: string, encode: () => Promise<T>): Promise<T> {
  try {
    return await encode();
  } catch (cause) {
    if (cause instanceof UserError) throw new UserError(`example ${id}: ${messageOf(cause)}`, { cause });
    throw cause;
  }
}

const isAssistant = ({ role }: Message): boolean => role === "assistant";

async function placeImages(messages: readonly Message[], { vision }: Processor): Promise<PlacedImage[]> {
  return Promise.all(
    imagesOf(messages).map(async (source) => ({ source, grid: gridOf(await readImageSize(source), vision) })),
  );
}

interface ConversationOptions extends EncodeOptions {
  readonly processor: Processor;
  /** grids of the conversation's pictures, in order */
  readonly grids: readonly GridThw[];
}

/**
 * Tokens and labels of a conversation whose pictures have these grids.
 * @returns inputIds [T] and labels [T], image tokens expanded
 * @throws UserError when nothing is left to learn or the pictures do not match their tokens
 * Golden: test/fixtures/chat/qwen3vl_conversations.json, test/fixtures/tiny-qwen3vl/golden.json
 */
export function encodeConversation(
  { messages, tools }: Pick<Example, "messages" | "tools">,
  options: ConversationOptions,
): Pick<Encoded, "inputIds" | "labels"> {
  const { tokenizer, chatTemplate } = options.processor;
  const text = chatTemplate.render(messages, { tools });
  const tokens = tokenizer.encodeWithOffsets(text);
  const labels = new Array<number>(tokens.ids.length).fill(IGNORE);
  for (const turn of trainedTurns(messages, options.trainOn)) {
    const span = chatTemplate.spanOf(turn, { messages, tools, text });
    const end = options.labelMode === "pigg" ? span.answerEnd : span.end;
    // a token that begins before the span and reaches into it is learnt, as in transformers (char_to_token)
    tokens.ids.forEach((id, i) => {
      if ((tokens.starts[i] as number) < end && (tokens.ends[i] as number) > span.start) labels[i] = id;
    });
  }
  if (!hasTarget(labels))
    throw new UserError("nothing to learn: no token of an answer is left; drop the row or its train marks");
  const counts = expansionOf(tokens.ids, options);
  return {
    inputIds: repeated(tokens.ids, counts),
    labels: repeated(labels, counts),
  };
}

/** Nothing stands before the first token, so it cannot be a target. */
const hasTarget = (labels: readonly number[]): boolean => labels.some((label, i) => i > 0 && label !== IGNORE);

function trainedTurns(messages: readonly Message[], trainOn: EncodeOptions["trainOn"] = "all"): number[] {
  const turns = messages.flatMap((message, i) => (isAssistant(message) ? [i] : []));
  return (trainOn === "last" ? turns.slice(-1) : turns).filter((turn) => messages[turn]?.train !== false);
}

/** How often each token is written: an image token once for each block of its picture, any other once. */
function expansionOf(
  ids: readonly number[],
  { processor, grids }: Pick<ConversationOptions, "processor" | "grids">,
): number[] {
  let picture = 0;
  const counts = ids.map((id) => {
    if (id !== processor.imageTokenId) return 1;
    const grid = grids[picture++];
    return grid === undefined ? 0 : imageTokenCount(grid, processor.vision);
  });
  if (picture !== grids.length) {
    throw new UserError(
      `${picture} image tokens for ${grids.length} pictures; expected one for each: the chat template may leave out pictures that ` +
        "are not in a user's turn, and a text must not hold the image token itself",
    );
  }
  return counts;
}

/** @returns [sum of counts] each value written as often as its count says */
function repeated(values: readonly number[], counts: readonly number[]): Int32Array {
  const expanded = new Int32Array(counts.reduce((sum, count) => sum + count, 0));
  let at = 0;
  values.forEach((value, i) => {
    const end = at + (counts[i] as number);
    expanded.fill(value, at, end);
    at = end;
  });
  return expanded;
}

export interface CollateOptions {
  readonly imageTokenId: number;
  readonly padTokenId: number;
  readonly mergeSize: number;
}

/** One example a row. @param encoded at least one */
export const collate = (encoded: readonly Encoded[], options: CollateOptions): Batch =>
  collateRows(
    encoded.map((document) => [document]),
    options,
  );

/**
 * Lays out rows of one or more documents each; every document has positions and a segment of its own, and its first
 * token is no target.
 * @param rows [B] documents of each row, in order
 */
export function collateRows(rows: readonly (readonly Encoded[])[], options: CollateOptions): Batch {
  const batchSize = rows.length;
  const length = Math.max(...rows.map((row) => row.reduce((sum, { inputIds }) => sum + inputIds.length, 0)));
  const size = batchSize * length;
  const batch = {
    inputIds: new Int32Array(size).fill(options.padTokenId),
    labels: new Int32Array(size).fill(IGNORE),
    positionIds: new Int32Array(3 * size),
    segmentIds: new Int32Array(size).fill(-1),
  };
  const imageRows: number[] = [];
  rows.forEach((row, b) => {
    let at = b * length;
    row.forEach((document, segment) => {
      writeDocument(batch, { document, segment, at, size, options });
      document.inputIds.forEach((id, t) => {
        if (id === options.imageTokenId) imageRows.push(at + t);
      });
      at += document.inputIds.length;
    });
  });
  const documents = rows.flat();
  return {
    ids: documents.map(({ id }) => id),
    batchSize,
    length,
    ...batch,
    images: documents.flatMap(({ images }) => images),
    imageRows: Int32Array.from(imageRows),
    tokenCount: batch.labels.reduce((count, label) => (label === IGNORE ? count : count + 1), 0),
  };
}

function writeDocument(
  batch: Pick<Batch, "inputIds" | "labels" | "positionIds" | "segmentIds">,
  to: { document: Encoded; segment: number; at: number; size: number; options: CollateOptions },
): void {
  const { document, segment, at, size, options } = to;
  const { inputIds, labels, images } = document;
  const T = inputIds.length;
  batch.inputIds.set(inputIds, at);
  batch.labels.set(labels, at);
  batch.labels[at] = IGNORE; // nothing of this document stands before it
  batch.segmentIds.fill(segment, at, at + T);
  const positions = mropePositions({ inputIds, grids: images.map(({ grid }) => grid), ...options }); // [3, T]
  for (let axis = 0; axis < 3; axis++) {
    batch.positionIds.set(positions.subarray(axis * T, (axis + 1) * T), axis * size + at);
  }
}
