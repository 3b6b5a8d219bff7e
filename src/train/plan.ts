/** Which examples make up which micro-batch of which optimizer step: a function of the seed and the step alone. */
import { hashOf, randomFrom } from "../utils/random.ts";

export interface PlanOptions {
  readonly examples: number;
  readonly batchSize: number;
  /** Micro-batches in a step. */
  readonly accumulation: number;
  readonly shuffle: boolean;
  readonly seed: number;
}

/** One optimizer step. */
export interface StepPlan {
  /** From 1. */
  readonly step: number;
  /** Passes over the data once this step is done, as transformers counts them. */
  readonly epoch: number;
  /** Indices of the examples of each micro-batch. */
  readonly microBatches: readonly (readonly number[])[];
}

/** The last step of an epoch takes what is left. */
export const stepsPerEpoch = ({ examples, batchSize, accumulation }: PlanOptions): number =>
  Math.ceil(Math.ceil(examples / batchSize) / accumulation);

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}

/** Examples of an epoch in the order in which they are seen. */
export function orderOf({ examples, shuffle, seed }: PlanOptions, epoch: number): number[] {
  const inOrder = Array.from({ length: examples }, (_, i) => i);
  return shuffle ? randomFrom(seed, "shuffle", epoch).shuffled(inOrder) : inOrder;
}

/** The steps after `doneSteps` up to `totalSteps`. */
export function* planSteps(options: PlanOptions, doneSteps: number, totalSteps: number): Generator<StepPlan> {
  const perEpoch = stepsPerEpoch(options);
  for (let epoch = Math.floor(doneSteps / perEpoch); epoch * perEpoch < totalSteps; epoch++) {
    const microBatches = chunks(orderOf(options, epoch), options.batchSize);
    const groups = chunks(microBatches, options.accumulation);
    for (const [i, group] of groups.entries()) {
      const step = epoch * perEpoch + i + 1;
      if (step <= doneSteps) continue;
      if (step > totalSteps) return;
      yield { step, epoch: epoch + (i + 1) / perEpoch, microBatches: group };
    }
  }
}

/** A seed for the dropout of one micro-batch. */
export const dropoutSeed = (seed: number, step: number, microBatch: number): number =>
  hashOf(seed, "dropout", step, microBatch) >>> 1;
