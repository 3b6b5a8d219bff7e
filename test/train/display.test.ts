// What a run shows of its steps.
import assert from "node:assert/strict";
import { test } from "node:test";
import { StepDisplay } from "../../src/train/display.ts";
import type { StepReport } from "../../src/train/trainer.ts";

const report = (step: number, known: Partial<StepReport> = {}): StepReport => ({
  ...{ step, epoch: step / 7, fault: null, loss: 2.5, gradNorm: 0.5, learningRate: 1e-3, otherRates: {} },
  ...{ tokens: 100, supervisedTokens: 10, ids: ["a", "b"], elapsedMs: 500, waitShare: 0.1 },
  ...known,
});

const SPEED = { "trained tokens/s": 20, "samples/s": 4, "data wait": "10 %" };

test("where training stands, and how fast it goes over the last twenty steps", () => {
  const display = new StepDisplay("eval_loss");
  const [first, standing, speed, ...others] = display.rowsOf(report(1, { otherRates: { vision: 1e-5 } }), []);
  assert.deepEqual(first, {}, "the bar has its line for itself");
  assert.deepEqual(standing, { loss: 2.5, lr: 1e-3, "lr vision": 1e-5, "grad norm": 0.5, epoch: "0.14" });
  const { "peak memory": memory, ...rest } = speed ?? {};
  assert.deepEqual(rest, SPEED);
  assert.match(String(memory), /^\d+\.\d\d GB$/);
  assert.deepEqual(others, []);
  // a step of 9.5 s: 20 tokens in 10 s, of which it waited for 50 ms
  const [, , slower] = display.rowsOf(report(2, { elapsedMs: 9_500, waitShare: 0 }), []);
  assert.deepEqual([slower?.["trained tokens/s"], slower?.["samples/s"], slower?.["data wait"]], [2, 0.4, "1 %"]);
  for (let step = 3; step <= 21; step++) display.rowsOf(report(step), []);
  const [, , later] = display.rowsOf(report(22), []);
  assert.equal(later?.["trained tokens/s"], 20, "the slow step has left the window");
});

test("a step that was left out has no loss and no norm", () => {
  const fault = "the loss is NaN on a";
  const [, standing] = new StepDisplay("eval_loss").rowsOf(report(7, { fault, loss: Number.NaN }), []);
  assert.deepEqual(standing, { loss: "left out", lr: 1e-3, epoch: "1" });
});

test("the last evaluation and the best, by what the best is chosen by", () => {
  const history = [
    { step: 10, eval_loss: 2, eval_accuracy: 0.25 },
    { step: 20, eval_loss: 1.5, eval_accuracy: 0.125 },
    { step: 30, eval_loss: 1.75, eval_accuracy: 0.125 },
    { step: 31, loss: 1 },
  ];
  const last = (metric: "eval_loss" | "eval_accuracy") => new StepDisplay(metric).rowsOf(report(31), history).at(-1);
  assert.deepEqual(last("eval_loss"), { "validation loss": "1.75 at step 30", best: "1.5 at step 20" });
  assert.deepEqual(last("eval_accuracy"), {
    "validation loss": "1.75 at step 30",
    "best accuracy": "0.25 at step 10",
  });
});
