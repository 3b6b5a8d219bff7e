/** Questions to answers, a batch at a time: prompts made, generated, decoded and read. */
import pLimit from "p-limit";
import { encodePrompt } from "../collator.ts";
import type { Example } from "../data/example.ts";
import type { PictureStore } from "../engine/pictures.ts";
import type { RemoteEngine } from "../engine/start.ts";
import type { Processor } from "../processor.ts";
import { mapAhead } from "../utils/ahead.ts";
import { Interrupted, required } from "../utils/errors.ts";
import type { DecoderPrompt } from "./decoding.ts";
import type { GenerationSettings } from "./generator.ts";
import { type ParseMode, parseGrounding } from "./grounding.ts";
import { decoderPrompt } from "./prompts.ts";
import type { Answer, Truth } from "./results.ts";

/** What answers: a model in its thread, with one of the adapters that it holds. */
export interface Answering {
  readonly engine: Pick<RemoteEngine, "generate" | "lanes">;
  readonly processor: Processor;
  readonly pictures: PictureStore;
  /** Parameters kept by `Engine.setParameters`; null: those being trained, or the base alone where nothing is. */
  readonly parameterSet: string | null;
}

export interface AnswersOptions {
  readonly parse: ParseMode;
  readonly generation: GenerationSettings;
  /** Prompts answered together: it changes time and memory, not the answers. */
  readonly batchSize: number;
  readonly signal?: AbortSignal;
}

export const truthOf = ({ target }: Example): Truth => ({
  gt_coord: required(target, "click point").point,
  gt_content: required(target, "click point").content,
});

/**
 * Answers in the order of the examples, those of a batch together, as many batches at once as there are devices; the next
 * batch's prompts are made meanwhile.
 * @throws Interrupted between two batches when the signal is set
 */
export async function* answersTo(
  examples: readonly Example[],
  answering: Answering,
  { parse, generation, batchSize, signal }: AnswersOptions,
): AsyncGenerator<readonly Answer[]> {
  const { engine, processor, parameterSet } = answering;
  const batches = Array.from({ length: Math.ceil(examples.length / batchSize) }, (_, i) =>
    examples.slice(i * batchSize, (i + 1) * batchSize),
  );
  const lanes = await engine.lanes();
  const inLane = pLimit(lanes);
  yield* mapAhead(batches, lanes, async (batch) => {
    const prompts = Promise.all(batch.map((example) => promptOf(example, answering)));
    prompts.catch(() => undefined); // it is awaited in its turn: until then, its failure is not an unhandled one
    const answers = await inLane(async () => {
      const ready = await prompts; // in the lane, so that batches keep their order however long their pictures take
      if (signal?.aborted) throw new Interrupted("stopped while answering");
      return engine.generate(ready, generation, parameterSet);
    });
    const textOf = (i: number): string =>
      processor.tokenizer.decode(required(answers[i], "answer"), { skipSpecialTokens: true });
    return batch.map((example, i) => answerOf(example, textOf(i), parse));
  });
}

/** The question of an example, its pictures' features included. */
export async function promptOf(
  example: Example,
  { processor, pictures }: Pick<Answering, "processor" | "pictures">,
): Promise<DecoderPrompt> {
  const { imageTokenId, videoTokenId, vision } = processor;
  const options = { imageTokenId, videoTokenId, mergeSize: vision.mergeSize, pictures };
  return decoderPrompt(await encodePrompt(example, processor), options);
}

function answerOf(example: Example, raw: string, parse: ParseMode): Answer {
  const { content, point } = parseGrounding(raw, parse);
  const { gt_coord, gt_content } = truthOf(example);
  return { pred_raw: raw, gt_coord: [...gt_coord], pred_coord: point && [...point], gt_content, pred_content: content };
}
