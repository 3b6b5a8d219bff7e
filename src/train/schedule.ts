/** Learning rate over the steps of a run. Source: transformers.optimization, get_{linear,cosine,constant}_schedule_with_warmup. */

export type ScheduleKind = "linear" | "cosine" | "constant";

export interface Schedule {
  readonly kind: ScheduleKind;
  /** Learning rate after the warm-up. */
  readonly peak: number;
  readonly warmupSteps: number;
  readonly totalSteps: number;
}

/** @param step steps done before: the first step of a run has 0, and with warm-up a rate of 0 */
export function learningRate({ kind, peak, warmupSteps, totalSteps }: Schedule, step: number): number {
  if (step < warmupSteps) return peak * (step / warmupSteps);
  if (kind === "constant") return peak;
  const length = Math.max(1, totalSteps - warmupSteps);
  if (kind === "linear") return peak * Math.max(0, (totalSteps - step) / length);
  return peak * Math.max(0, 0.5 * (1 + Math.cos((Math.PI * (step - warmupSteps)) / length)));
}
