/** Examples to token rows, and rows to batches. The only place that decides which tokens are learnt: it alone writes IGNORE. */
import { type Example, type Message, visualsOf } from "./data/example.ts";
import type { Processor } from "./processor.ts";
import { isVisualToken, mropePositions } from "./text/mrope.ts";
import type { TokenizedText } from "./text/tokenizer.ts";
import { cutLeft, cutRight, largestFittingShare, type TokenRow } from "./text/truncation.ts";
import { type Visual, visualOf, type WrittenVisuals, writeVisuals } from "./text/visuals.ts";
import { messageOf, UserError } from "./utils/errors.ts";
import { type MeasuredVisual, measure, type PlacedImage, place } from "./vision/placement.ts";

/** The label of a token that is not learnt. */
export const IGNORE = -100;

/** "official": the answer, its end-of-turn token and the newline after it; "pigg": the answer alone. */
export type LabelMode = "official" | "pigg";

export interface EncodeOptions {
  readonly labelMode: LabelMode;
  /** Which assistant turns are learnt; a message's own `train: false` is always left out. Default: all. */
  readonly trainOn?: "all" | "last";
}

/** What a model is asked: everything before the last answer. */
export interface EncodedPrompt {
  readonly id: string;
  readonly user: string | null;
  /** [T] token ids, one image or video token for each block of patches */
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
  /** [M] the flat index b * T + t of every token of a picture or video, in the order of `images` */
  readonly imageRows: Int32Array;
  /** labels other than IGNORE */
  readonly tokenCount: number;
}

/** What happens to a sample that is longer than the limit. */
export type Overlong = "refuse" | "drop" | "shrink-images" | "cut-left" | "cut-right";

export interface LengthLimit {
  /** Most tokens of a sample; null: any number. */
  readonly maxLength: number | null;
  readonly overlong: Overlong;
}

/** A sample under a length limit; "emptied" is one that was cut and has nothing left to learn. */
export type Fitted =
  | { readonly outcome: "whole" | "shrunk" | "cut"; readonly length: number; readonly encoded: Encoded }
  | { readonly outcome: "refused" | "dropped" | "emptied"; readonly length: number; readonly encoded: null };

/**
 * Tokens and labels of one example; of its pictures only the headers are read.
 * @throws UserError naming the example: nothing to learn, pictures and image tokens at odds, an unreadable picture
 */
export async function encodeExample(example: Example, processor: Processor, options: EncodeOptions): Promise<Encoded> {
  return withId(example.id, async () => {
    const visuals = placed(await measured(example.messages), processor);
    return encodedOf(example, encodeConversation(example, { processor, visuals, ...options }));
  });
}

/** The same under a length limit. @returns its length before and what became of it  @throws UserError as encodeExample */
export async function fitExample(
  example: Example,
  processor: Processor,
  options: EncodeOptions & LengthLimit,
): Promise<Fitted> {
  return withId(example.id, async () => {
    const sizes = await measured(example.messages);
    const tokens = maskedTokens(example, processor, options);
    const rowAt = (share: number): Row => writtenRow(tokens, placed(sizes, processor, share), processor);
    const whole = rowAt(1);
    const length = whole.inputIds.length;
    const { maxLength, overlong } = options;
    if (maxLength === null || length <= maxLength)
      return { outcome: "whole", length, encoded: encodedOf(example, whole) };
    if (overlong === "refuse") return { outcome: "refused", length, encoded: null };
    if (overlong === "drop") return { outcome: "dropped", length, encoded: null };
    if (overlong === "shrink-images") {
      const share = largestFittingShare(maxLength, (one) => rowAt(one).inputIds.length);
      if (share === null) return { outcome: "refused", length, encoded: null };
      return { outcome: "shrunk", length, encoded: encodedOf(example, rowAt(share)) };
    }
    const head = overlong === "cut-left" ? headLength(example, { tokens, row: whole, processor }) : 0;
    const row =
      overlong === "cut-left" ? cutLeft(whole, { maxLength, head, ignore: IGNORE }) : cutRight(whole, maxLength);
    if (!hasTarget(row.labels)) return { outcome: "emptied", length, encoded: null };
    return { outcome: "cut", length, encoded: encodedOf(example, row) };
  });
}

const encodedOf = ({ id, user }: Example, { inputIds, labels, images }: TokenRow): Encoded => ({
  ...{ id, user, inputIds, labels, images },
});

/** The question before the last assistant turn, with the opening of the answer. @throws UserError as encodeExample */
export async function encodePrompt(example: Example, processor: Processor): Promise<EncodedPrompt> {
  return withId(example.id, async () => {
    const { id, user, tools } = example;
    const messages = example.messages.slice(0, example.messages.findLastIndex(isAssistant));
    const visuals = placed(await measured(messages), processor);
    const text = processor.chatTemplate.render(messages, { tools, addGenerationPrompt: true });
    const { inputIds, images } = writeVisuals(processor.tokenizer.encode(text), visuals, processor);
    return { id, user, inputIds, images };
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

const measured = (messages: readonly Message[]): Promise<MeasuredVisual[]> =>
  Promise.all(visualsOf(messages).map(measure));

/** Visuals ready to be written, with a share of the processor's pixel budget. */
function placed(sizes: readonly MeasuredVisual[], processor: Processor, share = 1): Visual[] {
  const images = place(sizes, processor, share);
  return sizes.map((visual, i) => visualOf(visual, images[i] ?? [], processor));
}

/** A conversation as the template writes it: one token for each picture or video. */
interface MaskedTokens extends TokenizedText {
  readonly text: string;
  readonly labels: readonly number[];
}

type Conversation = Pick<Example, "messages" | "tools">;

/**
 * Tokens and labels of a conversation.
 * @param options.visuals its pictures and videos, in order
 * @throws UserError when nothing is left to learn or the pictures do not match their tokens
 * Golden: test/fixtures/chat/qwen3vl_conversations.json, test/fixtures/tiny-qwen3vl/golden.json
 */
export function encodeConversation(
  conversation: Conversation,
  options: EncodeOptions & { readonly processor: Processor; readonly visuals: readonly Visual[] },
): TokenRow {
  const { processor, visuals } = options;
  return writtenRow(maskedTokens(conversation, processor, options), visuals, processor);
}

function maskedTokens(
  { messages, tools }: Conversation,
  { tokenizer, chatTemplate }: Processor,
  options: EncodeOptions,
): MaskedTokens {
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
  return { ...tokens, text, labels };
}

/** Nothing stands before the first token, so it cannot be a target. */
const hasTarget = (labels: readonly number[] | Int32Array): boolean =>
  labels.some((label: number, i: number) => i > 0 && label !== IGNORE);

function trainedTurns(messages: readonly Message[], trainOn: EncodeOptions["trainOn"] = "all"): number[] {
  const turns = messages.flatMap((message, i) => (isAssistant(message) ? [i] : []));
  return (trainOn === "last" ? turns.slice(-1) : turns).filter((turn) => messages[turn]?.train !== false);
}

type Row = TokenRow & Pick<WrittenVisuals, "origins">;

function writtenRow({ ids, labels }: MaskedTokens, visuals: readonly Visual[], processor: Processor): Row {
  const written = writeVisuals(ids, visuals, processor);
  return { ...written, labels: written.origins.map((origin) => labels[origin] as number) };
}

/** How many tokens of a row its system turn and tools are. */
function headLength(
  { messages, tools }: Conversation,
  { tokens, row, processor }: { tokens: MaskedTokens; row: Row; processor: Processor },
): number {
  const characters = processor.chatTemplate.headOf({ messages, tools, text: tokens.text });
  return row.origins.filter((origin) => (tokens.ends[origin] as number) <= characters).length;
}

export interface CollateOptions {
  readonly imageTokenId: number;
  /** Where there are no videos, it may be left out. */
  readonly videoTokenId?: number;
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
        if (isVisualToken(id, options)) imageRows.push(at + t);
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
