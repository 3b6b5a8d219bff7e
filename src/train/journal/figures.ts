/** What clock and machine say of a run, by transformers' names where it has one. It stands beside log_history, never in it. */
import type { JsonObject } from "../../utils/json.ts";
import type { StepReport } from "../trainer.ts";

const GB = 1e9;

/** Of the whole process: the most that was resident at any time, and what is now, in GB of 10^9 bytes. */
export const memory = (): { readonly peak_memory_gb: number; readonly memory_gb: number } => ({
  peak_memory_gb: (process.resourceUsage().maxRSS * 1024) / GB,
  memory_gb: process.memoryUsage.rss() / GB,
});

/** Of one step. Tokens are all but padding; trained ones are those that the loss counts. */
export function stepFigures({ elapsedMs, tokens, supervisedTokens, ids, waitShare }: StepReport): JsonObject {
  const seconds = elapsedMs / 1000;
  return {
    trained_tokens: supervisedTokens,
    step_seconds: seconds,
    tokens_per_second: tokens / seconds,
    trained_tokens_per_second: supervisedTokens / seconds,
    samples_per_second: ids.length / seconds,
    data_wait: waitShare,
    ...memory(),
  };
}

/** Of one evaluation. */
export const evaluationFigures = (elapsedMs: number, examples: number, batchSize: number): JsonObject => ({
  eval_runtime: elapsedMs / 1000,
  eval_samples_per_second: (1000 * examples) / elapsedMs,
  eval_steps_per_second: (1000 * Math.ceil(examples / batchSize)) / elapsedMs,
  ...memory(),
});

/** Of what one start of the program has trained. */
export interface Trained {
  readonly elapsedMs: number;
  readonly steps: number;
  readonly samples: number;
}

/** @param history all steps of the run, those before it was resumed among them */
export function trainedFigures({ elapsedMs, steps, samples }: Trained, history: readonly JsonObject[]): JsonObject {
  const losses = history.map(({ loss }) => loss).filter((loss) => typeof loss === "number");
  return {
    train_runtime: elapsedMs / 1000,
    train_samples_per_second: (1000 * samples) / elapsedMs,
    train_steps_per_second: (1000 * steps) / elapsedMs,
    ...(losses.length > 0 ? { train_loss: losses.reduce((sum, loss) => sum + loss, 0) / losses.length } : {}),
    ...memory(),
  };
}
