// A whole run on WebGPU by the command line: trained along the reference's trace, and resumed from its middle.
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readFloat32, readHeader } from "../../src/utils/safetensors.ts";
import { ADAPTER, DATA, FIXTURE, MODEL, readJson, runEntry, workingFolder } from "../entries/entry.ts";

const golden = readJson(join(FIXTURE, "golden.json"));
const goldenTensors = readHeader(join(FIXTURE, "golden.safetensors")).tensors;
const WITHIN = 2e-4; // AdamW's first steps divide tiny gradients by their own size
const FLAGS = [
  ...["webgpu", "--lora", "--model", MODEL, "--data", DATA, "--adapter", ADAPTER, "--max-steps", "6"],
  ...["--accumulation", "4", "--lr", "1e-3", "--warmup-steps", "2", "--weight-decay", "0.01", "--lora-dropout", "0"],
  ...["--no-shuffle", "--no-eval", "--save-steps", "3", "--checkpoint-dir", "run"],
];

async function train(flags: readonly string[], cwd: string): Promise<void> {
  const { code, stderr } = await runEntry("finetuneGlobal", [...FLAGS, ...flags], cwd);
  assert.equal(code, 0, stderr);
  const { log_history: rows } = readJson(join(cwd, "run/trainer_state.json"));
  assert.equal(rows.length, golden.trace_token.length);
  for (const [i, { loss, grad_norm }] of golden.trace_token.entries()) {
    const near = (actual: number, expected: number, relative: number, what: string): void =>
      assert.ok(
        Math.abs(actual / expected - 1) < relative,
        `${what} of step ${i + 1}: ${actual}, expected ${expected}`,
      );
    near(rows[i].loss, loss, 1e-5, "loss");
    near(rows[i].grad_norm, grad_norm, 1e-4, "grad_norm");
  }
  const { tensors } = readHeader(join(cwd, "run/adapter_model.safetensors"));
  assert.ok(tensors.size > 0);
  for (const [name, entry] of tensors) {
    const expected = goldenTensors.get(`trained.token.${name}`);
    assert.ok(expected, name);
    const values = readFloat32(expected);
    for (const [i, value] of readFloat32(entry).entries())
      assert.ok(Math.abs(value - (values[i] as number)) <= WITHIN, `${name}[${i}] is ${value}, expected ${values[i]}`);
  }
}

test("six steps of LoRA follow transformers and PEFT, and so do three that are resumed", async () => {
  const [whole, resumed] = [workingFolder(), workingFolder()];
  await train([], whole);
  cpSync(join(whole, "run/checkpoint-3"), join(resumed, "run/checkpoint-3"), { recursive: true });
  await train(["--resume"], resumed);
});
