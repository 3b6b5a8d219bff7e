// Learning rates against transformers' three schedules, to the last bit but for a cosine's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { learningRate } from "../../src/train/schedule.ts";
import { optimizerFixture } from "./optimizerFixture.ts";

const COSINE = 1e-15; // of the peak: two libraries' cos()

for (const { kind, peak, warmup_steps: warmupSteps, total_steps: totalSteps, rates } of optimizerFixture().schedules) {
  test(`${kind}, ${warmupSteps} steps of warm-up in ${totalSteps}`, () => {
    const got = rates.map((_, step) => learningRate({ kind, peak, warmupSteps, totalSteps }, step));
    if (kind !== "cosine") return assert.deepEqual(got, rates);
    got.forEach((rate, step) => {
      assert.ok(Math.abs(rate - (rates[step] as number)) <= COSINE * peak, `step ${step}: ${rate}, not ${rates[step]}`);
    });
  });
}

test("the published rates of the original training: 50 of 200 steps are warm-up", () => {
  const schedule = { kind: "linear", peak: 1e-6, warmupSteps: 50, totalSteps: 200 } as const;
  const rates = [0, 1, 25, 49, 50, 125, 199].map((step) => learningRate(schedule, step).toPrecision(4));
  assert.deepEqual(rates.map(Number), [0, 2e-8, 5e-7, 9.8e-7, 1e-6, 5e-7, 6.667e-9]);
});
