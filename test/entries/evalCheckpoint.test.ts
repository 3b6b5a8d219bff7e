// What a run has saved is evaluated as the run itself evaluated it, and validation answers are part of its log.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { contentsOf, readJson, runEntry, workingFolder } from "./entry.ts";

const ANSWERING = ["--u", "1", "2", "--limit", "2", "--max-new-tokens", "8", "--quiet"];
const RUN = "checkpoints/global_agent_lora";
/** A pixel budget of its own, which only the saved files tell later. */
const TRAINING = [
  ...[
    "cpu",
    "--lora",
    "--max-steps",
    "2",
    "--accumulation",
    "1",
    "--save-steps",
    "1",
    "--lr",
    "0.01",
    "--warmup-steps",
    "0",
  ],
  ...["--train-users", "11", "12", "11", "--val-users", "74", "75", "74", "--max-pixels", "20480", "--no-load-best"],
  ...["--eval-steps", "1", "--eval-generate", "3"],
];

const answersIn = (cwd: string, dir: string) =>
  [1, 2].map((user) => readFileSync(join(cwd, "out", dir, `user_${user}/out.json`), "utf8"));

test("a run folder, its checkpoints and its base, evaluated later", async () => {
  const cwd = workingFolder();
  const trained = await runEntry("finetuneGlobal", [...TRAINING, ...ANSWERING], cwd);
  assert.equal(trained.code, 0, trained.stderr);
  const [first, second, ...others] = readJson(join(cwd, RUN, "trainer_state.json")).log_history.filter((row: object) => "eval_loss" in row); // biome-ignore format: one line
  assert.deepEqual([first.step, second.step, others.length], [1, 2, 0]);
  for (const row of [first, second]) {
    assert.deepEqual(Object.keys(row), [
      "step",
      "epoch",
      "eval_loss",
      "eval_accuracy",
      "eval_mean_l2",
      "eval_median_l2",
    ]);
    assert.ok([0, 1 / 3, 2 / 3, 1].includes(row.eval_accuracy) && row.eval_mean_l2 > 0 && row.eval_median_l2 > 0);
  }

  const again = await runEntry("evalCheckpoint", ["cpu", RUN, ...ANSWERING], cwd);
  assert.deepEqual([again.code, again.stderr], [0, ""]);
  assert.deepEqual(answersIn(cwd, "global_agent_lora"), answersIn(cwd, "global_agent/test"));
  assert.equal(again.stdout, trained.stdout, "the same table");
  const { vision } = readJson(join(cwd, "out/global_agent_lora/user_1/evaluation.json"));
  assert.equal(vision.maxPixels, 20480);
  const summary = readJson(join(cwd, "out/global_agent_lora/summary.json"));
  assert.deepEqual(summary, readJson(join(cwd, "out/global_agent/test/summary.json")));

  const earlier = await runEntry("evalCheckpoint", [`${RUN}/checkpoint-1`, ...ANSWERING], cwd);
  assert.equal(earlier.code, 0, earlier.stderr);
  const identities = ["global_agent_lora", "global_agent_lora-checkpoint-1"].map((dir) => readJson(join(cwd, "out", dir, "user_1/evaluation.json"))); // biome-ignore format: one line
  assert.notEqual(identities[0].weights.trained, identities[1].weights.trained);
  assert.deepEqual(identities[0].weights.base, identities[1].weights.base);
});

test("a model's folder answers as vanillaEval does", async () => {
  const cwd = workingFolder();
  const model = join(import.meta.dirname, "../../assets/tiny-qwen3vl");
  const plain = await runEntry("vanillaEval", ["cpu", ...ANSWERING], cwd);
  const named = await runEntry("evalCheckpoint", ["cpu", model, "--name", "base", ...ANSWERING], cwd);
  assert.deepEqual([plain.code, named.code, named.stderr], [0, 0, ""]);
  assert.deepEqual(answersIn(cwd, "base"), answersIn(cwd, "qwen3_vanilla"));
});

test("without a path, with one that is not there, and with another base: one message, exit code 2", async () => {
  const cwd = workingFolder();
  for (const [args, message] of [
    [["--u", "1"], /^evalCheckpoint: path: missing; it is the folder of a run, .* or a hub id\.\n$/],
    [["cpu", "checkpoints/none/here"], /^"checkpoints\/none\/here": not found; expected the folder of a run, .*\n$/],
    [
      ["cpu", "gpu", "x"],
      /^evalCheckpoint: "gpu": belongs to no flag; only the device and the path may stand alone\n$/,
    ],
  ] as const) {
    const { code, stdout, stderr } = await runEntry("evalCheckpoint", [...args, "--quiet"], cwd);
    assert.equal(code, 2, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, message);
  }
  assert.deepEqual(contentsOf(cwd), {});
});
