/** What validation samples say of a model that trains. */
import type { RemoteEngine } from "../engine/start.ts";
import { mapAhead } from "../utils/ahead.ts";
import { Interrupted } from "../utils/errors.ts";
import type { Summary } from "../utils/tensorBoard/event.ts";
import type { BatchSource, TrainerOptions } from "./trainer.ts";

/** What answering validation samples adds to their loss. */
export interface Scores {
  /** By transformers' names (`eval_accuracy`, `eval_mean_l2`). */
  readonly metrics: Readonly<Record<string, number>>;
  /** Some of the answers, for people to look at. */
  readonly shown: readonly Summary[];
}

/** The samples. */
export interface ValidationData {
  readonly validation: BatchSource;
  /** Their number; there may be none. */
  readonly validationExamples: number;
  /** Answers some and scores them; null: the loss alone is told. */
  readonly scores: (() => Promise<Scores>) | null;
}

/** The mean over all trained tokens. @throws Interrupted between two batches when the signal is set */
export async function validationLoss(
  engine: RemoteEngine,
  { validation, validationExamples: examples }: ValidationData,
  { batchSize, signal }: TrainerOptions,
): Promise<{ loss: number; tokenCount: number }> {
  const starts = Array.from({ length: Math.ceil(examples / batchSize) }, (_, i) => i * batchSize);
  const outputs = mapAhead(starts, await engine.lanes(), async (start) => {
    const indices = Array.from({ length: Math.min(batchSize, examples - start) }, (_, i) => start + i);
    const { ids: _, ...batch } = await validation(indices);
    if (signal?.aborted) throw new Interrupted("stopped while evaluating");
    return engine.evaluateLoss(batch);
  });
  let [lossSum, tokenCount] = [0, 0];
  for await (const output of outputs) {
    lossSum += output.lossSum;
    tokenCount += output.tokenCount;
  }
  return { loss: lossSum / tokenCount, tokenCount };
}
