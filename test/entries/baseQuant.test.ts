// Runs over weights in few bits: trained, gone on with, evaluated and built upon as they were trained.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { inFewBits } from "../../src/app/baseQuant.ts";
import type { Model } from "../../src/app/model.ts";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { createLog } from "../../src/utils/log.ts";
import { filesIn, MODEL, readJson, runEntry, scratch, tensorsOf, workingFolder } from "./entry.ts";

process.env.XDG_CACHE_HOME = join(scratch, "cache"); // of the entries, too

const RUN = "checkpoints/global_agent_lora";
const ANSWERING = ["--u", "1", "2", "--limit", "2", "--max-new-tokens", "8"];
const TRAINING = [
  ...["cpu", "--lora", "--accumulation", "1", "--batch-size", "2", "--save-steps", "1", "--warmup-steps", "0"],
  ...["--train-users", "11", "12", "11", ...ANSWERING],
];
const INT8 = ["--base-quant", "int8"];
const identity = (cwd: string, dir: string) => readJson(join(cwd, "out", dir, "user_1/evaluation.json")).weights.base;
const answersIn = (cwd: string, dir: string) => readFileSync(join(cwd, "out", dir, "user_1/out.json"), "utf8");

test("a run with --base-quant int8, resumed, evaluated, and personal agents on top of it", async () => {
  const cwd = workingFolder();
  const whole = await runEntry("finetuneGlobal", [...TRAINING, ...INT8, "--max-steps", "2"], cwd);
  assert.equal(whole.code, 0, whole.stderr);
  assert.match(whole.stderr, /^int8 weights, language layers \(millions\) \d+\/\d+/m);
  assert.match(whole.stderr, /^int8 weights, head \(millions\) /m);
  assert.equal(readJson(join(cwd, RUN, "run_config.json")).baseQuant, "int8");
  assert.equal(identity(cwd, "global_agent/test").baseQuant, "int8");
  const made = filesIn(join(scratch, "cache")).filter((file) => file.endsWith(".safetensors"));
  assert.equal(made.length, 4, "text and its transpose, vision and head");

  const otherwise = await runEntry(
    "finetuneGlobal",
    [...TRAINING, "--max-steps", "2", "--resume", `${RUN}/checkpoint-1`],
    cwd,
  );
  assert.equal(otherwise.code, 2);
  assert.match(otherwise.stderr, /baseQuant: "int8" there, null here/);
  const adapter = tensorsOf(join(cwd, RUN, "adapter_model.safetensors"));
  const resumed = await runEntry(
    "finetuneGlobal",
    [...TRAINING, ...INT8, "--max-steps", "2", "--resume", `${RUN}/checkpoint-1`, "--no-eval"],
    cwd,
  );
  assert.equal(resumed.code, 0, resumed.stderr);
  assert.doesNotMatch(resumed.stderr, /int8 weights,/, "they are found");
  assert.deepEqual(tensorsOf(join(cwd, RUN, "adapter_model.safetensors")), adapter);

  for (const [name, flags, kind] of [
    ["as-trained", [], "int8"],
    ["as-stored", ["--base-quant", "none"], undefined],
  ] as const) {
    const evaluated = await runEntry("evalCheckpoint", ["cpu", RUN, "--name", name, ...ANSWERING, ...flags], cwd);
    assert.equal(evaluated.code, 0, evaluated.stderr);
    assert.equal(identity(cwd, name).baseQuant, kind);
  }
  assert.equal(answersIn(cwd, "as-trained"), answersIn(cwd, "global_agent/test"));

  const agents = ["cpu", "--u", "1", "--folds", "2", "--max-steps", "1", "--limit", "12", "--max-new-tokens", "4"];
  const personal = await runEntry("finetunePerson", agents, cwd);
  assert.equal(personal.code, 0, personal.stderr);
  assert.equal(readJson(join(cwd, "checkpoints/personal/user_1/fold_0/run_config.json")).baseQuant, "int8");
});

test("vanillaEval with --base-quant int4; full fine-tuning is refused", async () => {
  const cwd = workingFolder();
  const vanilla = await runEntry("vanillaEval", ["cpu", ...ANSWERING, "--base-quant", "int4"], cwd);
  assert.equal(vanilla.code, 0, vanilla.stderr);
  assert.equal(identity(cwd, "qwen3_vanilla").baseQuant, "int4");
  for (const flags of [[], ["--train", "merger"]]) {
    const full = await runEntry("finetuneGlobal", ["cpu", ...INT8, ...flags], cwd);
    assert.equal(full.code, 2);
    assert.match(full.stderr, /^finetuneGlobal: --base-quant needs --lora: it holds frozen layers in few bits, .*\n$/);
  }
});

test("a device without kernels for few bits is refused", async () => {
  const model = { name: null, dir: "", checkpoint: openCheckpoint(MODEL) } as unknown as Model;
  const use = {
    kind: "int8",
    spec: { kind: "none" },
    training: null,
    answers: true,
    log: createLog({ quiet: true }),
    signal: new AbortController().signal,
  } as const;
  await assert.rejects(inFewBits(model, { ...use, devices: [{ kind: "cpu" }, { kind: "webgpu" }] }), {
    message:
      /^--base-quant int8: products of few bits are computed on the CPU alone, and device webgpu was named; name cpu/,
  });
});

test("--train merger beside an adapter: the mergers stay in float32, their gradients are there", async () => {
  const cwd = workingFolder();
  const flags = [...TRAINING, ...INT8, "--train", "merger", "--max-steps", "1", "--no-eval"];
  const { code, stderr } = await runEntry("finetuneGlobal", flags, cwd);
  assert.equal(code, 0, stderr);
  const names = [...tensorsOf(join(cwd, RUN, "adapter_model.safetensors")).keys()];
  assert.ok(names.some((name) => name.includes("visual.merger.linear_fc1.weight")));
});
