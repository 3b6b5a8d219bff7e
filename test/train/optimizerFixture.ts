// Learning rates, AdamW's steps and decayed parameters, as transformers and PyTorch have them.
import { readFileSync } from "node:fs";
import type { ScheduleKind } from "../../src/train/schedule.ts";

interface OptimizerFixture {
  readonly schedules: readonly {
    readonly kind: ScheduleKind;
    readonly peak: number;
    readonly warmup_steps: number;
    readonly total_steps: number;
    readonly rates: readonly number[];
  }[];
  readonly adamw: readonly {
    readonly sizes: readonly [decayed: number, others: number];
    readonly weight_decay: number;
    readonly max_grad_norm: number;
    readonly steps: readonly { readonly grad_norm: number; readonly values: readonly number[] }[];
    readonly exp_avg: readonly number[];
    readonly exp_avg_sq: readonly number[];
  }[];
  readonly decayed: Readonly<Record<string, boolean>>;
}

export const optimizerFixture = (): OptimizerFixture =>
  JSON.parse(readFileSync("test/fixtures/train/optimizer.json", "utf8")) as OptimizerFixture;

/** As scripts/fixtures/make_optimizer.py. */
export const fill = (length: number, seed: number, scale: number): Float32Array =>
  Float32Array.from(
    { length },
    (_, i) => scale * ((((i + 1) * 2654435761 + seed * 40503 * 65537) % 2 ** 32) / 2 ** 31 - 1),
  );
