/** Every sample of a run encoded once, one after another, and what a plan needs to know of it kept. */
import { createHash } from "node:crypto";
import {
  type Encoded,
  type EncodeOptions,
  encodeExample,
  type Fitted,
  fitExample,
  IGNORE,
  type LengthLimit,
} from "../../collator.ts";
import type { Example } from "../../data/example.ts";
import type { Processor } from "../../processor.ts";
import { mapAhead } from "../../utils/ahead.ts";
import { messageOf, UserError } from "../../utils/errors.ts";
import type { ImageSource } from "../../vision/image.ts";
import { imageTokenCount } from "../../vision/patches.ts";
import type { PlacedImage } from "../../vision/placement.ts";
import type { SplitName, Splits } from "../splits.ts";

/** What is remembered of a sample, a few hundred bytes. */
export interface SampleFacts {
  readonly id: string;
  readonly user: string | null;
  readonly split: SplitName;
  /** What the length limit does to it. */
  readonly outcome: Fitted["outcome"];
  /** Tokens before the length limit. */
  readonly wholeLength: number;
  /** Tokens as a run takes them; where it does not, as before. */
  readonly length: number;
  readonly imageTokens: number;
  /** Tokens that the loss counts. */
  readonly trained: number;
  readonly pictures: readonly PictureFacts[];
  /** Of pictures that stand in the data themselves, which stay in memory. */
  readonly heldBytes: number;
}

export interface PictureFacts {
  /** Equal for pictures whose features are computed once. */
  readonly key: string;
  readonly tokens: number;
}

export type Surveyed =
  | { readonly example: Example; readonly facts: SampleFacts; readonly encoded: Encoded; readonly fault: null }
  | { readonly example: Example; readonly fault: string };

export interface SurveyOptions extends EncodeOptions, LengthLimit {
  readonly processor: Processor;
}

const ENCODING_AT_ONCE = 16; // picture headers are read from disk
export const SPLIT_ORDER = ["train", "validation", "test", "unused"] as const satisfies readonly SplitName[];

/** Samples in the order of the splits; one that cannot be encoded comes with the reason. */
export async function* surveyed(splits: Splits, options: SurveyOptions): AsyncGenerator<Surveyed> {
  const all = SPLIT_ORDER.flatMap((split) => splits[split].map((example) => ({ example, split })));
  yield* mapAhead(all, ENCODING_AT_ONCE, ({ example, split }) => surveyOne(example, split, options));
}

/** As training takes it; what a run leaves out is shown whole. */
export async function surveyOne(example: Example, split: SplitName, options: SurveyOptions): Promise<Surveyed> {
  const { processor } = options;
  const isLimited = split === "train" || split === "validation";
  try {
    const fitted = await fitExample(example, processor, isLimited ? options : { ...options, maxLength: null });
    const encoded = fitted.encoded ?? (await encodeExample(example, processor, options));
    return { example, facts: factsOf(encoded, { split, fitted, processor }), encoded, fault: null };
  } catch (thrown) {
    if (!(thrown instanceof UserError)) throw thrown;
    return { example, fault: messageOf(thrown) };
  }
}

function factsOf(
  { id, user, inputIds, labels, images }: Encoded,
  { split, fitted, processor }: { split: SplitName; fitted: Fitted; processor: Processor },
): SampleFacts {
  const pictures = images.map((image) => ({
    key: keyOf(image),
    tokens: imageTokenCount(image.grid, processor.vision),
  }));
  return {
    ...{ id, user, split, outcome: fitted.outcome, wholeLength: fitted.length, length: inputIds.length },
    imageTokens: pictures.reduce((sum, { tokens }) => sum + tokens, 0),
    trained: labels.reduce((count, label, t) => count + Number(t > 0 && label !== IGNORE), 0),
    pictures,
    heldBytes: images
      .flatMap(({ frames }) => frames)
      .reduce((sum, frame) => sum + (frame.kind === "bytes" ? frame.bytes.length : 0), 0),
  };
}

const keyOf = ({ frames, grid, video }: PlacedImage): string =>
  [video === undefined ? "picture" : "video", ...frames.map(identityOf), grid].join("|");

const identityOf = (source: ImageSource): string =>
  source.kind === "file" ? source.path : createHash("sha1").update(source.bytes).digest("base64");
