/** Answers of a model to the samples of each user, scored and written as they come. */
import { encodePrompt } from "../collator.ts";
import type { Example } from "../data/example.ts";
import type { PictureStore } from "../engine/pictures.ts";
import type { RemoteEngine } from "../engine/start.ts";
import type { Processor } from "../processor.ts";
import { mapAhead } from "../utils/ahead.ts";
import { Interrupted, required } from "../utils/errors.ts";
import type { Log } from "../utils/log.ts";
import { startProgress } from "../utils/progress.ts";
import type { GenerationSettings } from "./generator.ts";
import { type Metrics, type ParseMode, parseGrounding } from "./grounding.ts";
import { decoderPrompt } from "./prompts.ts";
import { type Answer, type AnswerBook, openBook, openRun, type Summary, type Truth } from "./results.ts";

export interface EvaluationOptions {
  /** Folder of the `user_N/` folders; in `evaluateSamples` that of the answers themselves. */
  readonly dir: string;
  /** What the answers follow from; an interrupted evaluation of the same identity goes on. */
  readonly identity: object;
  readonly parse: ParseMode;
  readonly generation: GenerationSettings;
  /** Prompts answered together. */
  readonly batchSize: number;
  readonly log: Log;
  readonly signal?: AbortSignal;
}

/** What answers: a model in its thread, with one of the adapters that it holds. */
export interface Answering {
  readonly engine: Pick<RemoteEngine, "generate">;
  readonly processor: Processor;
  readonly pictures: PictureStore;
  /** Parameters kept by `Engine.setParameters`; null: those being trained, or the base alone where nothing is. */
  readonly parameterSet: string | null;
}

const truthOf = ({ target }: Example): Truth => ({
  gt_coord: required(target, "click point").point,
  gt_content: required(target, "click point").content,
});

/**
 * Answers the samples of each user: `dir/user_N/`, and `dir/summary.json` over all.
 * @throws Interrupted between two batches when the signal is set; the answers so far are on disk
 */
export async function evaluateUsers(
  users: ReadonlyMap<number, readonly Example[]>,
  answering: Answering,
  options: EvaluationOptions,
): Promise<Summary> {
  const run = await openRun(options.dir, options.identity);
  const total = [...users.values()].reduce((sum, examples) => sum + examples.length, 0);
  const progress = startProgress({ log: options.log, title: "evaluating", total });
  let [done, hits] = [0, 0];
  try {
    for (const [user, examples] of users) {
      const book = await run.openUser(user, examples.map(truthOf));
      const onAnswer = (): void => progress.update(done + book.answers.length, { user });
      await answerAll(book, examples, { ...answering, ...options, onAnswer });
      const { accuracy, n } = await book.finish();
      done += n;
      hits += accuracy * n;
      progress.update(done, { user, accuracy: `${((100 * hits) / done).toFixed(1)} %` });
    }
  } finally {
    progress.stop();
  }
  return run.finish();
}

/**
 * Answers samples that belong together (of one fold, say) into one folder, which is `dir` itself.
 * Whole answers of the same identity that lie there are kept: only what is missing is answered.
 * @throws as evaluateUsers
 */
export async function evaluateSamples(
  examples: readonly Example[],
  answering: Answering,
  options: EvaluationOptions,
): Promise<Metrics> {
  const book = await openBook(options.dir, { identity: options.identity, truths: examples.map(truthOf) });
  await answerAll(book, examples, { ...answering, ...options, onAnswer: () => undefined });
  return book.finish();
}

type AnswerAllOptions = Answering & EvaluationOptions & { readonly onAnswer: () => void };

async function answerAll(book: AnswerBook, examples: readonly Example[], options: AnswerAllOptions): Promise<void> {
  const { engine, processor, parameterSet, generation, batchSize, signal } = options;
  const rest = examples.slice(book.answers.length);
  const batches = Array.from({ length: Math.ceil(rest.length / batchSize) }, (_, i) =>
    rest.slice(i * batchSize, (i + 1) * batchSize),
  );
  const prepared = mapAhead(batches, 1, async (batch) => ({
    batch,
    prompts: await Promise.all(batch.map((example) => promptOf(example, options))),
  }));
  for await (const { batch, prompts } of prepared) {
    if (signal?.aborted) {
      await book.flush();
      throw new Interrupted(
        `evaluation stopped; the answers so far are in ${options.dir}, and the same command goes on from there`,
      );
    }
    const answers = await engine.generate(prompts, generation, parameterSet);
    for (const [i, example] of batch.entries()) {
      await book.add(
        answerOf(
          example,
          processor.tokenizer.decode(required(answers[i], "answer"), { skipSpecialTokens: true }),
          options.parse,
        ),
      );
    }
    options.onAnswer();
  }
}

async function promptOf(example: Example, { processor, pictures }: Answering) {
  const { imageTokenId, videoTokenId, vision } = processor;
  const options = { imageTokenId, videoTokenId, mergeSize: vision.mergeSize, pictures };
  return decoderPrompt(await encodePrompt(example, processor), options);
}

function answerOf(example: Example, raw: string, parse: ParseMode): Answer {
  const { content, point } = parseGrounding(raw, parse);
  const { gt_coord, gt_content } = truthOf(example);
  return { pred_raw: raw, gt_coord: [...gt_coord], pred_coord: point && [...point], gt_content, pred_content: content };
}
