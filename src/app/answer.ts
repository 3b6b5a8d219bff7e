/** Evaluates an open model on users and shows the table: the end of both entries. */
import type { Example } from "../data/example.ts";
import { PictureStore } from "../engine/pictures.ts";
import type { RemoteEngine } from "../engine/start.ts";
import { evaluateUsers } from "../eval/evaluate.ts";
import type { ParseMode } from "../eval/grounding.ts";
import { formatSummary } from "../eval/results.ts";
import type { Log } from "../utils/log.ts";
import type { Model } from "./model.ts";

export const ANSWERS_AT_ONCE = 8;

export interface AnswerOptions {
  /** Folder of the `user_N/` folders. */
  readonly dir: string;
  /** What tells these weights from others. */
  readonly weights: object;
  readonly data: string | null;
  readonly limit: number | null;
  readonly parse: ParseMode;
  /** null: the checkpoint's own limit. */
  readonly maxNewTokens: number | null;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export async function answerUsers(
  engine: RemoteEngine,
  model: Model,
  users: ReadonlyMap<number, readonly Example[]>,
  options: AnswerOptions,
): Promise<void> {
  const { dir, weights, data, limit, parse, log, signal } = options;
  const { processor, stopIds } = model;
  const maxNewTokens = options.maxNewTokens ?? model.maxNewTokens;
  // a store of its own: the tower may have been trained since other pictures went through it
  const answering = { engine, processor, pictures: new PictureStore(engine, processor.vision) };
  const summary = await evaluateUsers(users, answering, {
    dir,
    identity: { weights, data, limit, vision: processor.vision, video: processor.video, parse, maxNewTokens },
    parse,
    generation: { maxNewTokens, stopIds, padId: processor.padTokenId },
    batchSize: ANSWERS_AT_ONCE,
    log,
    signal,
  });
  console.log(formatSummary(summary));
  log.line(`answers and scores in ${dir}`);
}
