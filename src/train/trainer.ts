/** The training loop: one optimizer step after another, reported as they are done. Saving, evaluating and showing are the caller's. */
import type { EngineBatch } from "../engine/engine.ts";
import type { RemoteEngine } from "../engine/start.ts";
import { mapAhead } from "../utils/ahead.ts";
import { Interrupted, required, UserError } from "../utils/errors.ts";
import { type LossNormalization, normalizations, normalizedLoss, type StepOutput, scoredTokens } from "./loss.ts";
import { dropoutSeed, type PlanOptions, planSteps, type StepPlan } from "./plan.ts";
import { type Rates, ratesAt } from "./rates.ts";
import type { StepChange } from "./replica.ts";
import { learningRate, type Schedule } from "./schedule.ts";

export interface TrainerOptions extends PlanOptions {
  readonly schedule: Schedule;
  /** Peaks of the parts of the model that learn at another rate than the schedule's. */
  readonly otherPeaks?: Rates;
  readonly lossNormalization: LossNormalization;
  /** What follows a loss or gradient that is not finite: the run ends (without a word: that), or the step is left out. */
  readonly onNonFinite?: "stop" | "skip";
  /** Set between two micro-batches, it ends training; the step under way is dropped. */
  readonly signal?: AbortSignal;
  /** Told after every micro-batch. */
  readonly onMicroBatch?: (progress: { step: number; done: number; of: number }) => void;
}

/** A micro-batch ready for the engine, with the ids that messages name. */
export interface ReadyBatch extends EngineBatch {
  readonly ids: readonly string[];
}

/** Makes micro-batches from indices of rows. */
export type BatchSource = (indices: readonly number[]) => Promise<ReadyBatch>;

/** What one optimizer step did. */
export interface StepReport {
  readonly step: number;
  readonly epoch: number;
  /** Why the step was left out, the samples named; null where it was taken. */
  readonly fault: string | null;
  /** NaN where the step was left out. */
  readonly loss: number;
  /** Before clipping; NaN where the step was left out. */
  readonly gradNorm: number;
  /** The rate that this step used. */
  readonly learningRate: number;
  /** The rates that differ from it, by the part of the model that follows them. */
  readonly otherRates: Rates;
  /** All tokens of the step, padding left out. */
  readonly tokens: number;
  /** Tokens that the loss counts. */
  readonly supervisedTokens: number;
  /** Its samples. */
  readonly ids: readonly string[];
  readonly elapsedMs: number;
  /** Share of the time in which the step waited for data. */
  readonly waitShare: number;
}

/** Batches that are made ready while others are computed, for each device. */
const BATCHES_AHEAD = 2;

interface Item {
  readonly plan: StepPlan;
  readonly microBatch: number;
  readonly batch: ReadyBatch;
}

function* itemsOf(
  options: TrainerOptions,
  doneSteps: number,
): Generator<{ plan: StepPlan; microBatch: number; indices: readonly number[] }> {
  for (const plan of planSteps(options, doneSteps, options.schedule.totalSteps)) {
    for (const [microBatch, indices] of plan.microBatches.entries()) yield { plan, microBatch, indices };
  }
}

/**
 * Trains from `doneSteps`, of which `skippedSteps` were left out, to the schedule's end. Samples and learning rate follow
 * the step, AdamW's bias corrections the updates that were made.
 * @throws Interrupted when the signal is set: the state is that after the last reported step
 * @throws UserError when a loss or gradient is not finite, naming the samples: at once, or after too many in a row
 */
export async function* trainSteps(
  engine: RemoteEngine,
  source: BatchSource,
  options: TrainerOptions,
  doneSteps = 0,
  skippedSteps = 0,
): AsyncGenerator<StepReport> {
  const lanes = await engine.lanes();
  const ready = mapAhead(
    itemsOf(options, doneSteps),
    BATCHES_AHEAD * lanes,
    async ({ plan, microBatch, indices }): Promise<Item> => ({ plan, microBatch, batch: await source(indices) }),
  );
  try {
    let skipped = skippedSteps;
    let inARow = 0;
    for await (const under of stepsOf(engine, ready, options, lanes)) {
      const report = await finish(engine, under, under.plan.step - skipped, options);
      inARow = report.fault === null ? 0 : inARow + 1;
      if (report.fault !== null) skipped++;
      if (inARow >= MOST_SKIPPED)
        throw new UserError(
          `step ${report.step}: ${inARow} steps in a row had to be left out, the last because ${report.fault}; a lower --lr or a smaller --max-grad-norm may help, from an older checkpoint`,
        );
      yield report;
    }
  } catch (error) {
    await engine.clearGradients().catch(() => undefined); // of the step that was broken off; a dead engine has none
    throw error;
  } finally {
    await ready.return(undefined);
  }
}

/** So many steps left out one after another are no matter of single samples. */
const MOST_SKIPPED = 10;

/** A step whose micro-batches have all been run, or need not be. */
interface GatheredStep {
  readonly plan: StepPlan;
  readonly outputs: readonly StepOutput[];
  readonly ids: readonly string[];
  readonly tokens: number;
  /** Why it cannot be taken, or null. */
  readonly fault: string | null;
  readonly clock: { readonly start: number; readonly waited: number };
}

const NOTHING_YET: Pick<GatheredStep, "outputs" | "ids" | "tokens" | "fault"> = {
  ...{ outputs: [], ids: [], tokens: 0, fault: null },
};

async function* stepsOf(
  engine: RemoteEngine,
  ready: AsyncGenerator<Item>,
  options: TrainerOptions,
  lanes: number,
): AsyncGenerator<GatheredStep> {
  const clock = { start: performance.now(), waited: 0 };
  const running: Running[] = [];
  let step = NOTHING_YET;
  for (let next = await timed(clock, () => ready.next()); !next.done; next = await timed(clock, () => ready.next())) {
    const { plan, microBatch } = next.value;
    if (options.signal?.aborted) throw new Interrupted(`stopped before step ${plan.step} was done`);
    running.push(begun(engine, step, next.value, options));
    const isLast = microBatch + 1 === plan.microBatches.length;
    while (running.length >= (isLast ? 1 : atOnce(lanes))) step = await gathered(step, running.shift(), options);
    if (!isLast) continue;
    yield { plan, ...step, clock };
    step = NOTHING_YET;
    Object.assign(clock, { start: performance.now(), waited: 0 });
  }
}

/** Micro-batches under way; of several devices each has its next at hand, so that a long one elsewhere does not keep it waiting. */
const atOnce = (lanes: number): number => (lanes === 1 ? 1 : 2 * lanes);

/** A micro-batch under way. */
interface Running {
  readonly item: Item;
  /** Null where the step has a fault already, after which nothing more of it is begun. */
  readonly output: Promise<StepOutput> | null;
}

function begun(engine: RemoteEngine, { fault }: typeof NOTHING_YET, item: Item, options: TrainerOptions): Running {
  const output = fault === null ? accumulate(engine, item, options) : null;
  output?.catch(() => undefined); // it is awaited in its turn: until then, its failure is not an unhandled one
  return { item, output };
}

async function timed<T>(clock: { waited: number }, wait: () => Promise<T>): Promise<T> {
  const start = performance.now();
  const value = await wait();
  clock.waited += performance.now() - start;
  return value;
}

/** The step with one more micro-batch. What was under way when an earlier one failed does not count. */
async function gathered(
  { outputs, ids, tokens, fault }: typeof NOTHING_YET,
  running: Running | undefined,
  options: TrainerOptions,
): Promise<typeof NOTHING_YET> {
  const { item, output: underWay } = required(running, "micro-batch under way");
  const { batch, plan, microBatch } = item;
  const seen = {
    ids: [...ids, ...batch.ids],
    tokens: tokens + batch.segmentIds.reduce((count, segment) => count + Number(segment >= 0), 0),
  };
  const output = await underWay;
  options.onMicroBatch?.({ step: plan.step, done: microBatch + 1, of: plan.microBatches.length });
  if (fault !== null || output === null) return { outputs, fault, ...seen };
  if (Number.isFinite(output.lossSum)) return { outputs: [...outputs, output], fault, ...seen };
  return {
    outputs,
    fault: faultOf(plan, `the loss is ${output.lossSum} on ${batch.ids.join(", ")}`, options),
    ...seen,
  };
}

/** @returns what is wrong with the step  @throws UserError where that ends the run */
function faultOf(plan: StepPlan, fault: string, { onNonFinite }: TrainerOptions): string {
  if (onNonFinite === "skip") return fault;
  throw new UserError(
    `step ${plan.step}: ${fault}; a lower --lr may help, or the samples are damaged; --on-non-finite skip leaves such steps out`,
  );
}

async function accumulate(
  engine: RemoteEngine,
  { plan, microBatch, batch }: Item,
  { lossNormalization, seed }: TrainerOptions,
): Promise<StepOutput> {
  const { ids, ...feeds } = batch;
  const count = scoredTokens(batch.labels, batch.length);
  if (count === 0) throw new UserError(`step ${plan.step}: no token to train on in ${ids.join(", ")}`);
  return await engine.accumulate(feeds, {
    weight: normalizations[lossNormalization].weight(count),
    dropoutSeed: dropoutSeed(seed, plan.step, microBatch),
  });
}

/** @param update how many updates there are with this one */
async function finish(
  engine: RemoteEngine,
  { plan, outputs, ids, tokens, fault, clock }: GatheredStep,
  update: number,
  options: TrainerOptions,
): Promise<StepReport> {
  const rates = {
    learningRate: learningRate(options.schedule, plan.step - 1),
    otherRates: ratesAt(options.schedule, options.otherPeaks ?? {}, plan.step - 1),
  };
  const { gradNorm, ...taken } = await take(engine, { plan, outputs, ids, fault }, { step: update, ...rates }, options);
  const elapsedMs = performance.now() - clock.start;
  return {
    step: plan.step,
    epoch: plan.epoch,
    fault: taken.fault,
    loss: taken.fault === null ? normalizedLoss(options.lossNormalization, outputs) : Number.NaN,
    gradNorm,
    ...rates,
    tokens,
    supervisedTokens: outputs.reduce((sum, { tokenCount }) => sum + tokenCount, 0),
    ids,
    elapsedMs,
    waitShare: clock.waited / elapsedMs,
  };
}

/** Follows the gradient, unless the step has a fault or the gradient turns out to be none. */
async function take(
  engine: RemoteEngine,
  { plan, outputs, ids, fault }: Pick<GatheredStep, "plan" | "outputs" | "ids" | "fault">,
  change: Omit<StepChange, "total">,
  options: TrainerOptions,
): Promise<{ gradNorm: number; fault: string | null }> {
  if (fault !== null) {
    await engine.clearGradients();
    return { gradNorm: Number.NaN, fault };
  }
  const total = normalizations[options.lossNormalization].total(outputs);
  const gradNorm = await engine.update({ total, ...change });
  if (Number.isFinite(gradNorm)) return { gradNorm, fault: null };
  return { gradNorm: Number.NaN, fault: faultOf(plan, `the gradient is not finite on ${ids.join(", ")}`, options) };
}
