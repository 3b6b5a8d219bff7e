/** From labels to the rows that are scored: the one place where labels are shifted by a token. */
import { IGNORE } from "../collator.ts";
import { type HostFeeds, ints } from "../runtime/tensor.ts";

/** Calls `score` with the place of every label that is trained. A label at t = 0 has nothing before it and is none. */
function forEachScored(labels: Int32Array, length: number, score: (label: number, at: number) => void): void {
  labels.forEach((label, at) => {
    if (label !== IGNORE && at % length !== 0) score(label, at);
  });
}

/** @param labels [B*T]  @returns N, the tokens that the loss counts */
export function scoredTokens(labels: Int32Array, length: number): number {
  let count = 0;
  forEachScored(labels, length, () => count++);
  return count;
}

/**
 * The logits of token t-1 predict label t, so row b*T + t-1 is scored wherever label (b, t) is trained.
 * @param labels [B*T], IGNORE where nothing is trained
 * @returns target_rows [N] into hidden [B*T, D], targets [N]
 */
export function lossFeeds(labels: Int32Array, length: number): HostFeeds {
  const rows: number[] = [];
  const targets: number[] = [];
  forEachScored(labels, length, (label, at) => {
    rows.push(at - 1);
    targets.push(label);
  });
  return {
    target_rows: ints(Int32Array.from(rows), [rows.length]),
    targets: ints(Int32Array.from(targets), [targets.length]),
  };
}

export type LossNormalization = "token" | "microbatch-mean";

/** What one micro-batch gave: the sum of its tokens' losses and how many tokens that were. */
export interface StepOutput {
  readonly lossSum: number;
  readonly tokenCount: number;
}

/**
 * How the gradients of a step's micro-batches become one: each sum is weighted when it is added, the total once at the end.
 * `token`: every supervised token of the step counts alike. `microbatch-mean`: every micro-batch counts alike, which is
 * what the Hugging Face Trainer does for Qwen3-VL (its class sets accepts_loss_kwargs = False).
 */
export const normalizations: Readonly<
  Record<LossNormalization, { weight(tokenCount: number): number; total(outputs: readonly StepOutput[]): number }>
> = {
  token: { weight: () => 1, total: (outputs) => outputs.reduce((sum, { tokenCount }) => sum + tokenCount, 0) },
  "microbatch-mean": { weight: (tokenCount) => 1 / tokenCount, total: (outputs) => outputs.length },
};

/** The loss that is logged and whose gradient is followed. */
export function normalizedLoss(kind: LossNormalization, outputs: readonly StepOutput[]): number {
  const { weight, total } = normalizations[kind];
  return outputs.reduce((sum, { lossSum, tokenCount }) => sum + lossSum * weight(tokenCount), 0) / total(outputs);
}
