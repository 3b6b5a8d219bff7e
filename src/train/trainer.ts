/** The training loop: one optimizer step after another, reported as they are done. Saving, evaluating and showing are the caller's. */
import type { EngineBatch } from "../engine/engine.ts";
import type { RemoteEngine } from "../engine/start.ts";
import { mapAhead } from "../utils/ahead.ts";
import { Interrupted, UserError } from "../utils/errors.ts";
import { type LossNormalization, normalizations, normalizedLoss, type StepOutput, scoredTokens } from "./loss.ts";
import { dropoutSeed, type PlanOptions, planSteps, type StepPlan } from "./plan.ts";
import { learningRate, type Schedule } from "./schedule.ts";

export interface TrainerOptions extends PlanOptions {
  readonly schedule: Schedule;
  readonly lossNormalization: LossNormalization;
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
  readonly loss: number;
  /** Before clipping. */
  readonly gradNorm: number;
  /** The rate that this step used. */
  readonly learningRate: number;
  /** All tokens of the step, padding left out. */
  readonly tokens: number;
  /** Tokens that the loss counts. */
  readonly supervisedTokens: number;
  readonly elapsedMs: number;
  /** Share of the time in which the step waited for data. */
  readonly waitShare: number;
}

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
 * Trains from `doneSteps` to the schedule's end.
 * @throws Interrupted when the signal is set: the state is that after the last reported step
 * @throws UserError when a loss or gradient is not finite, naming the examples
 */
export async function* trainSteps(
  engine: RemoteEngine,
  source: BatchSource,
  options: TrainerOptions,
  doneSteps = 0,
): AsyncGenerator<StepReport> {
  const ready = mapAhead(
    itemsOf(options, doneSteps),
    BATCHES_AHEAD,
    async ({ plan, microBatch, indices }): Promise<Item> => ({ plan, microBatch, batch: await source(indices) }),
  );
  try {
    yield* stepsOf(engine, ready, options);
  } catch (error) {
    await engine.clearGradients().catch(() => undefined); // of the step that was broken off; a dead engine has none
    throw error;
  } finally {
    await ready.return(undefined);
  }
}

async function* stepsOf(
  engine: RemoteEngine,
  ready: AsyncGenerator<Item>,
  options: TrainerOptions,
): AsyncGenerator<StepReport> {
  const clock = { start: performance.now(), waited: 0 };
  let step: { outputs: StepOutput[]; ids: string[]; tokens: number } = { outputs: [], ids: [], tokens: 0 };
  for (let next = await timed(clock, () => ready.next()); !next.done; next = await timed(clock, () => ready.next())) {
    const { plan, microBatch, batch } = next.value;
    if (options.signal?.aborted) throw new Interrupted(`stopped before step ${plan.step} was done`);
    step.outputs.push(await accumulate(engine, next.value, options));
    step.ids.push(...batch.ids);
    step.tokens += batch.segmentIds.reduce((count, segment) => count + Number(segment >= 0), 0);
    options.onMicroBatch?.({ step: plan.step, done: microBatch + 1, of: plan.microBatches.length });
    if (microBatch + 1 < plan.microBatches.length) continue;
    yield await finish(engine, { plan, ...step, clock }, options);
    step = { outputs: [], ids: [], tokens: 0 };
    Object.assign(clock, { start: performance.now(), waited: 0 });
  }
}

async function timed<T>(clock: { waited: number }, wait: () => Promise<T>): Promise<T> {
  const start = performance.now();
  const value = await wait();
  clock.waited += performance.now() - start;
  return value;
}

async function accumulate(
  engine: RemoteEngine,
  { plan, microBatch, batch }: Item,
  { lossNormalization, seed }: TrainerOptions,
): Promise<StepOutput> {
  const { ids, ...feeds } = batch;
  const count = scoredTokens(batch.labels, batch.length);
  if (count === 0) throw new UserError(`step ${plan.step}: no token to train on in ${ids.join(", ")}`);
  const output = await engine.accumulate(feeds, {
    weight: normalizations[lossNormalization].weight(count),
    dropoutSeed: dropoutSeed(seed, plan.step, microBatch),
  });
  if (!Number.isFinite(output.lossSum))
    throw new UserError(
      `step ${plan.step}: the loss is ${output.lossSum} on ${ids.join(", ")}; a lower --lr may help, or the samples are damaged`,
    );
  return output;
}

interface FinishedStep {
  readonly plan: StepPlan;
  readonly outputs: readonly StepOutput[];
  readonly ids: readonly string[];
  readonly tokens: number;
  readonly clock: { readonly start: number; readonly waited: number };
}

async function finish(
  engine: RemoteEngine,
  { plan, outputs, ids, tokens, clock }: FinishedStep,
  options: TrainerOptions,
): Promise<StepReport> {
  const rate = learningRate(options.schedule, plan.step - 1);
  const total = normalizations[options.lossNormalization].total(outputs);
  const gradNorm = await engine.update({ total, learningRate: rate, step: plan.step });
  if (!Number.isFinite(gradNorm))
    throw new UserError(`step ${plan.step}: the gradient is not finite on ${ids.join(", ")}; a lower --lr may help`);
  const elapsedMs = performance.now() - clock.start;
  return {
    step: plan.step,
    epoch: plan.epoch,
    loss: normalizedLoss(options.lossNormalization, outputs),
    gradNorm,
    learningRate: rate,
    tokens,
    supervisedTokens: outputs.reduce((sum, { tokenCount }) => sum + tokenCount, 0),
    elapsedMs,
    waitShare: clock.waited / elapsedMs,
  };
}
