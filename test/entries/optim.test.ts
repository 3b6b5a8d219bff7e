// Another optimizer as a user meets it: full fine-tuning with Adafactor and with 8-bit moments, broken off and gone on with, and never mixed with AdamW's memory.
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { contentsOf, copyWith, DATA, filesIn, MODEL, runEntry, tensorsOf, workingFolder } from "./entry.ts";

const RUN_DIR = "checkpoints/global_agent_full";
const FLAGS = [
  ...["cpu", "--model", MODEL, "--data", DATA, "--no-eval", "--max-steps", "4", "--accumulation", "2"],
  ...["--lr", "1e-3", "--warmup-steps", "1", "--weight-decay", "0.01", "--save-steps", "2", "--quiet"],
];
const ADAFACTOR = [...FLAGS, "--optim", "adafactor"];

test("full fine-tuning with 8-bit moments, resumed from its middle, ends with the same bytes", async () => {
  const whole = workingFolder();
  const flags = [...FLAGS, "--optim", "adamw_8bit"];
  const straight = await runEntry("finetuneGlobal", flags, whole);
  assert.equal(straight.code, 0, straight.stderr);
  const broken = copyWith(whole, workingFolder());
  for (const name of ["checkpoint-4", "trainer_state.json", "model.safetensors"])
    rmSync(join(broken, RUN_DIR, name), { recursive: true });
  const resumed = await runEntry("finetuneGlobal", [...flags, "--resume"], broken);
  assert.equal(resumed.code, 0, resumed.stderr);
  const [a, b] = [contentsOf(join(broken, RUN_DIR)), contentsOf(join(whole, RUN_DIR))];
  for (const name of ["model.safetensors", "checkpoint-4/optimizer.safetensors"])
    assert.ok(a[name] !== undefined && a[name] === b[name], name);
});

test("full fine-tuning with Adafactor, resumed from its middle, ends with the same bytes", async () => {
  const whole = workingFolder();
  const straight = await runEntry("finetuneGlobal", ADAFACTOR, whole);
  assert.equal(straight.code, 0, straight.stderr);
  const artifacts = filesIn(join(whole, RUN_DIR, "artifacts")).filter((name) => name.startsWith("optimizer"));
  assert.deepEqual(artifacts, ["optimizer_means.onnx", "optimizer_model.onnx", "optimizer_size.onnx"]);

  const state = tensorsOf(join(whole, RUN_DIR, "checkpoint-2/optimizer.safetensors"));
  const bytesOf = (start: string): number =>
    [...state].reduce((sum, [name, { byteLength }]) => sum + (name.startsWith(start) ? byteLength : 0), 0);
  assert.ok(bytesOf("exp_avg_sq") < 0.15 * bytesOf("master."), "rows and columns instead of every number");

  const broken = copyWith(whole, workingFolder());
  for (const name of ["checkpoint-4", "trainer_state.json", "model.safetensors"])
    rmSync(join(broken, RUN_DIR, name), { recursive: true });
  const resumed = await runEntry("finetuneGlobal", [...ADAFACTOR, "--resume"], broken);
  assert.equal(resumed.code, 0, resumed.stderr);
  const [a, b] = [contentsOf(join(broken, RUN_DIR)), contentsOf(join(whole, RUN_DIR))];
  for (const name of ["model.safetensors", "checkpoint-4/optimizer.safetensors", "checkpoint-4/model.safetensors"])
    assert.ok(a[name] !== undefined && a[name] === b[name], name);

  const other = await runEntry("finetuneGlobal", [...FLAGS, "--resume", `${RUN_DIR}/checkpoint-2`], broken);
  assert.equal(other.code, 2);
  assert.match(other.stderr, /\n {2}optim: "adafactor" there, "adamw_torch" here\n$/);
  const anyway = [...FLAGS, "--resume", `${RUN_DIR}/checkpoint-2`, "--resume-anyway"];
  const refused = await runEntry("finetuneGlobal", anyway, broken);
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /--optim adamw_torch: the checkpoint holds what adafactor remembers; go on with --optim adafactor, or start anew from its weights\n$/); // biome-ignore format: one line
});
