/** Which evaluation was the best, and for how long nothing got better: both told from log_history alone. Source: transformers 5.18, Trainer._determine_best_metric, EarlyStoppingCallback. */
import type { JsonObject } from "../utils/json.ts";

/** Metrics that a best checkpoint may be chosen by, and which way is better. */
const BETTER = { eval_loss: "lower", eval_accuracy: "higher", eval_mean_l2: "lower" } as const;

export type MetricName = keyof typeof BETTER;

export interface Best {
  readonly metric: number;
  readonly step: number;
}

const isBetter = (name: MetricName, value: number, than: number): boolean =>
  BETTER[name] === "higher" ? value > than : value < than;

interface Evaluation {
  readonly step: number;
  /** NaN where it was none: never better. */
  readonly value: number;
}

/** Evaluations by this metric, in order. JSON writes what is no number as null. */
const evaluationsOf = (history: readonly JsonObject[], name: MetricName): Evaluation[] =>
  history
    .filter((row) => name in row)
    .map((row) => ({ step: Number(row.step), value: typeof row[name] === "number" ? row[name] : Number.NaN }));

/** The best evaluation, of equals the first; null while there is none. */
export function bestOf(history: readonly JsonObject[], name: MetricName): Best | null {
  let best: Best | null = null;
  for (const { step, value } of evaluationsOf(history, name)) {
    if (Number.isNaN(value)) continue;
    if (best === null || isBetter(name, value, best.metric)) best = { metric: value, step };
  }
  return best;
}

/** Evaluations in a row, up to the last, that did not better the best before them by more than `threshold`. */
export function evaluationsWithoutGain(history: readonly JsonObject[], name: MetricName, threshold: number): number {
  let best: number | null = null;
  let count = 0;
  for (const { value } of evaluationsOf(history, name)) {
    const isGain =
      best === null ? !Number.isNaN(value) : isBetter(name, value, best) && Math.abs(value - best) > threshold;
    count = isGain ? 0 : count + 1;
    if (!Number.isNaN(value) && (best === null || isBetter(name, value, best))) best = value;
  }
  return count;
}

export const hasEvaluation = (history: readonly JsonObject[], step: number): boolean =>
  history.some((row) => row.step === step && Object.keys(row).some((key) => key.startsWith("eval_")));
