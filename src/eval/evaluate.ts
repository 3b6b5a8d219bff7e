/** Answers of a model to the samples of each user, scored and written as they come. */
import type { Example } from "../data/example.ts";
import { Interrupted } from "../utils/errors.ts";
import type { Log } from "../utils/log.ts";
import { startProgress } from "../utils/progress.ts";
import { type Answering, type AnswersOptions, answersTo, truthOf } from "./answers.ts";
import type { Metrics } from "./grounding.ts";
import { type AnswerBook, openBook, openRun, type Summary } from "./results.ts";

export interface EvaluationOptions extends AnswersOptions {
  /** Folder of the `user_N/` folders; in `evaluateSamples` that of the answers themselves. */
  readonly dir: string;
  /** What the answers follow from; an interrupted evaluation of the same identity goes on. */
  readonly identity: object;
  readonly log: Log;
}

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
  try {
    for await (const answers of answersTo(examples.slice(book.answers.length), options, options)) {
      for (const answer of answers) await book.add(answer);
      options.onAnswer();
    }
  } catch (thrown) {
    if (!(thrown instanceof Interrupted)) throw thrown;
    await book.flush();
    throw new Interrupted(
      `evaluation stopped; the answers so far are in ${options.dir}, and the same command goes on from there`,
    );
  }
}
