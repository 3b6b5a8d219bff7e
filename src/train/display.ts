/** What a run shows of its steps while it is under way. */
import type { JsonObject } from "../utils/json.ts";
import { type ProgressFields, shortNumber } from "../utils/progress.ts";
import { bestOf, type MetricName } from "./best.ts";
import { memory } from "./journal/figures.ts";
import type { StepReport } from "./trainer.ts";

/** Steps that speeds are taken over: one alone says little. */
const RECENT = 20;

/** Remembers the last steps. */
export class StepDisplay {
  readonly #metric: MetricName;
  #recent: readonly StepReport[] = [];

  constructor(metric: MetricName) {
    this.#metric = metric;
  }

  /** @returns rows of fields: where training stands, how fast it goes, what validation said */
  rowsOf(report: StepReport, history: readonly JsonObject[]): ProgressFields[] {
    this.#recent = [...this.#recent.slice(1 - RECENT), report];
    const { loss, learningRate, otherRates, gradNorm, epoch, fault } = report;
    const rates = Object.entries(otherRates).map(([part, rate]) => [`lr ${part}`, rate]);
    const standing = {
      ...(fault === null ? { loss } : { loss: "left out" }),
      ...{ lr: learningRate, ...Object.fromEntries(rates) },
      ...(fault === null ? { "grad norm": gradNorm } : {}),
      epoch: shortNumber(Number(epoch.toFixed(2))),
    };
    const validation = validationFields(history, this.#metric);
    return [{}, standing, speedFields(this.#recent), ...(validation ? [validation] : [])];
  }
}

function speedFields(reports: readonly StepReport[]): ProgressFields {
  const sum = (of: (report: StepReport) => number): number => reports.reduce((total, one) => total + of(one), 0);
  const seconds = sum(({ elapsedMs }) => elapsedMs) / 1000;
  const waited = sum(({ elapsedMs, waitShare }) => elapsedMs * waitShare) / 1000;
  return {
    "trained tokens/s": sum(({ supervisedTokens }) => supervisedTokens) / seconds,
    "samples/s": sum(({ ids }) => ids.length) / seconds,
    "data wait": `${Math.round((100 * waited) / seconds)} %`,
    "peak memory": `${memory().peak_memory_gb.toFixed(2)} GB`,
  };
}

/** The last evaluation and the best; null before the first. */
function validationFields(history: readonly JsonObject[], metric: MetricName): ProgressFields | null {
  const last = history.findLast((row) => typeof row.eval_loss === "number");
  const best = bestOf(history, metric);
  if (!last || !best) return null;
  const at = (value: number, step: unknown): string => `${shortNumber(value)} at step ${step}`;
  return {
    "validation loss": at(Number(last.eval_loss), last.step),
    [metric === "eval_loss" ? "best" : `best ${metric.replace("eval_", "").replace("_", " ")}`]: at(
      best.metric,
      best.step,
    ),
  };
}
