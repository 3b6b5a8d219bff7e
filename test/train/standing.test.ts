// What a run notes of its steps, and what trainer_state.json says of its best.
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bestCheckpoint, newStanding, noteStep, type Standing, stateOf } from "../../src/train/standing.ts";
import type { StepReport } from "../../src/train/trainer.ts";
import { callbacksState } from "../../src/train/trainerState.ts";
import { newFolder, scratchFolder } from "./folders.ts";

const scratch = scratchFolder("standing");

const report = (step: number, known: Partial<StepReport> = {}): StepReport => ({
  ...{ step, epoch: step / 10, fault: null, loss: 2, gradNorm: 0.5, learningRate: 1e-3, otherRates: {} },
  ...{ tokens: 100, supervisedTokens: 7, ids: [`rows.jsonl:${step}`], elapsedMs: step * 17, waitShare: 0.25 },
  ...known,
});

const settings = (runDir: string) => ({
  ...{ runDir, saveSteps: 5, evalSteps: 5, metricForBestModel: "eval_loss" as const, earlyStopping: null },
  trainer: {
    ...{ rows: 10, batchSize: 1, accumulation: 1, shuffle: true, seed: 1, lossNormalization: "token" as const },
    schedule: { kind: "constant" as const, peak: 1e-3, warmupSteps: 0, totalSteps: 40 },
  },
});

test("a step, a spike and a step left out each have their row; nothing in it depends on the clock", () => {
  const standing = newStanding(join(scratch, "new"));
  for (let step = 1; step <= 12; step++) assert.equal(noteStep(standing, report(step)), null);
  const spike = noteStep(standing, report(13, { loss: 3, ids: ["rows.jsonl:40", "rows.jsonl:41"] }));
  assert.equal(
    spike,
    "step 13: the loss 3.0000 stands out from the median of those before, 2.0000 (sigma 0.0000), over 7 tokens of rows.jsonl:40, rows.jsonl:41",
  );
  const fault = "the loss is NaN on rows.jsonl:5";
  const left = noteStep(standing, report(14, { fault, loss: Number.NaN, gradNorm: Number.NaN }));
  assert.equal(left, `step 14 is left out: ${fault}`);
  assert.equal(noteStep(standing, report(15)), null, "what was left out is no loss to compare with");
  const row = (step: number) => ({ step, epoch: step / 10, learning_rate: 1e-3, num_tokens: 100 * step });
  assert.deepEqual(standing.history.slice(11), [
    { ...row(12), loss: 2, grad_norm: 0.5 },
    { ...row(13), loss: 3, grad_norm: 0.5, loss_spike: true },
    { ...row(14), skipped: fault },
    { ...row(15), loss: 2, grad_norm: 0.5 },
  ]);
  const { step, skipped, tokens } = standing;
  assert.deepEqual([step, skipped, tokens], [15, 1, 1500]);
});

test("the best checkpoint: this step's own, one in the folder, the one of where the run came from, or none", () => {
  const runDir = newFolder(scratch, "run");
  const history = [
    { step: 5, loss: 1 },
    { step: 5, eval_loss: 2 },
    { step: 10, eval_loss: 3 },
  ];
  const standing = (known: Partial<Standing>): Standing => ({ ...newStanding(runDir), step: 10, history, ...known });
  const best = { metric: 2, step: 5 };
  assert.equal(bestCheckpoint(standing({ history: [] }), settings(runDir)), null);
  assert.deepEqual(bestCheckpoint(standing({}), settings(runDir)), { ...best, dir: null });
  assert.deepEqual(bestCheckpoint(standing({ step: 5 }), settings(runDir)), {
    ...best,
    dir: join(runDir, "checkpoint-5"),
  });
  const former = newFolder(scratch, "elsewhere/checkpoint-5");
  assert.deepEqual(bestCheckpoint(standing({ formerBest: former }), settings(runDir)), { ...best, dir: former });
  const other = newFolder(scratch, "elsewhere/checkpoint-4");
  assert.deepEqual(bestCheckpoint(standing({ formerBest: other }), settings(runDir)), { ...best, dir: null });
  rmSync(former, { recursive: true });
  assert.deepEqual(bestCheckpoint(standing({ formerBest: former }), settings(runDir)), { ...best, dir: null });
  const own = newFolder(runDir, "checkpoint-5");
  assert.deepEqual(bestCheckpoint(standing({ formerBest: former }), settings(runDir)), { ...best, dir: own });
  const state = stateOf(standing({}), settings(runDir));
  assert.deepEqual([state.best_metric, state.best_global_step, state.best_model_checkpoint], [2, 5, own]);
  assert.deepEqual([state.global_step, state.max_steps, state.num_train_epochs], [10, 40, 4]);
  assert.deepEqual(state.stateful_callbacks, callbacksState(false, null));
  const stopping = { ...settings(runDir), earlyStopping: { patience: 1, threshold: 0 } };
  const stopped = callbacksState(true, { patience: 1, threshold: 0, counter: 1 });
  assert.deepEqual(stateOf(standing({}), stopping).stateful_callbacks, stopped, "one evaluation without a gain");
});
