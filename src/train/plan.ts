/** Which rows make up which micro-batch of which optimizer step: a function of the seed and the step alone. A row is one example, or several packed together. */
import { hashOf, randomFrom } from "../utils/random.ts";

export interface PlanOptions {
  readonly rows: number;
  readonly batchSize: number;
  /** Micro-batches in a step. */
  readonly accumulation: number;
  readonly shuffle: boolean;
  readonly seed: number;
  /** [rows] tokens of each row, where rows of like length are to share a micro-batch; null: as they come. */
  readonly groupedLengths?: readonly number[] | null;
}

/** One optimizer step. */
export interface StepPlan {
  /** From 1. */
  readonly step: number;
  /** Passes over the data once this step is done, as transformers counts them. */
  readonly epoch: number;
  /** Indices of the rows of each micro-batch. */
  readonly microBatches: readonly (readonly number[])[];
}

/** The last step of an epoch takes what is left. */
export const stepsPerEpoch = ({ rows, batchSize, accumulation }: PlanOptions): number =>
  Math.ceil(Math.ceil(rows / batchSize) / accumulation);

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}

/** Rows of an epoch in the order in which they are seen. */
export function orderOf({ rows, shuffle, seed }: PlanOptions, epoch: number): number[] {
  const inOrder = Array.from({ length: rows }, (_, i) => i);
  return shuffle ? randomFrom(seed, "shuffle", epoch).shuffled(inOrder) : inOrder;
}

/** Micro-batches among which rows are sorted by length: enough for even ones, few enough to leave the order random. */
const SORTED_TOGETHER = 50;

/**
 * Micro-batches of an epoch. Grouping sorts stretches of the order by length and cuts them into micro-batches, which are
 * then shuffled within the stretch, so that lengths do not run from long to short. Source of the stretches: transformers'
 * LengthGroupedSampler.
 */
function microBatchesOf(options: PlanOptions, epoch: number): number[][] {
  const { batchSize, groupedLengths: lengths, shuffle, seed } = options;
  const order = orderOf(options, epoch);
  if (!lengths) return chunks(order, batchSize);
  return chunks(order, batchSize * SORTED_TOGETHER).flatMap((stretch, i) => {
    const sorted = stretch.toSorted((a, b) => (lengths[b] ?? 0) - (lengths[a] ?? 0));
    const batches = chunks(sorted, batchSize);
    const last = batches.length > 1 && (batches.at(-1)?.length ?? 0) < batchSize ? batches.splice(-1) : []; // a short one stays last
    return [...(shuffle ? randomFrom(seed, "groups", epoch, i).shuffled(batches) : batches), ...last];
  });
}

/** The steps after `doneSteps` up to `totalSteps`. */
export function* planSteps(options: PlanOptions, doneSteps: number, totalSteps: number): Generator<StepPlan> {
  const perEpoch = stepsPerEpoch(options);
  for (let epoch = Math.floor(doneSteps / perEpoch); epoch * perEpoch < totalSteps; epoch++) {
    const groups = chunks(microBatchesOf(options, epoch), options.accumulation);
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
