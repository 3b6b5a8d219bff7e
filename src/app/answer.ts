/** Evaluates an open model, or one of several adapters over it, on users or on chosen samples: the end of every entry. */
import type { Example } from "../data/example.ts";
import { PictureStore } from "../engine/pictures.ts";
import type { RemoteEngine } from "../engine/start.ts";
import type { Answering } from "../eval/answers.ts";
import { type EvaluationOptions, evaluateSamples, evaluateUsers } from "../eval/evaluate.ts";
import type { Metrics, ParseMode } from "../eval/grounding.ts";
import { formatSummary, type Summary, userDir } from "../eval/results.ts";
import type { Log } from "../utils/log.ts";
import { type GenerationFlags, generationSettings } from "./generation.ts";
import type { Model } from "./model.ts";
import { recordSamples } from "./recordSamples.ts";

export interface AnswerOptions extends GenerationFlags {
  /** The output folder, in which `dir` lies: small copies of the screens go to its `screens/`. */
  readonly out: string;
  /** Folder of the `user_N/` folders; in `answerSamples` that of the answers themselves. */
  readonly dir: string;
  /** What tells these weights from others. */
  readonly weights: object;
  /** Parameters to answer with (`engine.setParameters`); absent or null: those being trained, or the base alone. */
  readonly parameterSet?: string | null;
  /** Features of pictures to share with other adapters, where none of them changes the vision tower; absent or null: none are shared. */
  readonly pictures?: PictureStore | null;
  readonly data: string | null;
  readonly limit: number | null;
  readonly parse: ParseMode;
  /** Samples answered at once. */
  readonly evalBatchSize: number;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** Answers each user into `dir/user_N/`, with the list of samples beside the answers, writes `dir/summary.json` and prints the table. */
export async function answerUsers(
  engine: RemoteEngine,
  model: Model,
  users: ReadonlyMap<number, readonly Example[]>,
  options: AnswerOptions,
): Promise<Summary> {
  const folders = [...users].map(([user, examples]) => [userDir(options.dir, user), examples] as const);
  await recordSamples(new Map(folders), options);
  const summary = await evaluateUsers(users, ...settled(engine, model, options));
  options.log.result(formatSummary(summary));
  options.log.line(`answers and scores in ${options.dir}`);
  return summary;
}

/** Answers samples into `dir` itself (one fold of one user, say): out.json, results.txt and metrics.json. */
export async function answerSamples(
  engine: RemoteEngine,
  model: Model,
  examples: readonly Example[],
  options: AnswerOptions,
): Promise<Metrics> {
  await recordSamples(new Map([[options.dir, examples]]), options);
  return evaluateSamples(examples, ...settled(engine, model, options));
}

function settled(engine: RemoteEngine, model: Model, options: AnswerOptions): [Answering, EvaluationOptions] {
  const { dir, weights, parameterSet = null, data, limit, parse, log, signal } = options;
  const { processor } = model;
  const { vision, video } = processor;
  const generation = generationSettings(model, options);
  const { maxNewTokens, sampling } = generation;
  // unless told otherwise a store of its own: the tower may have been trained since other pictures went through it
  const pictures = options.pictures ?? new PictureStore(engine, vision, { parameterSet });
  return [
    { engine, processor, pictures, parameterSet },
    {
      dir,
      identity: { weights, data, limit, vision, video, parse, maxNewTokens, sampling },
      parse,
      generation,
      batchSize: options.evalBatchSize,
      log,
      signal,
    },
  ];
}
