import assert from "node:assert/strict";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readFloat32, readHeader } from "../../src/utils/safetensors.ts";
import { ADAPTER, DATA, FIXTURE, filesIn, MODEL, readJson, runEntry, tensorsOf, workingFolder } from "./entry.ts";

/** What transformers + PEFT did: test/fixtures/tiny-qwen3vl/README.md. */
const golden = readJson(join(FIXTURE, "golden.json"));
const goldenTensors = readHeader(join(FIXTURE, "golden.safetensors")).tensors;

const LOSS_RELATIVE = 1e-5; // float32 sums in another order, over six steps
const GRAD_NORM_RELATIVE = 1e-4;
const ADAPTER_MOST = { share: 0.999, within: 1e-5 };
const ADAPTER_ALL = 2e-4; // AdamW's first steps divide tiny gradients by their own size

interface TraceRow {
  readonly step: number;
  readonly loss: number;
  readonly grad_norm: number;
  readonly learning_rate?: number;
}

/** Rows of log_history against rows of a reference trace. */
function assertTrace(state: { log_history: readonly TraceRow[] }, trace: readonly TraceRow[]): void {
  assert.equal(state.log_history.length, trace.length);
  for (const [i, expected] of trace.entries()) {
    const row = state.log_history[i] as TraceRow;
    assert.equal(row.step, expected.step);
    assertNear(row.loss, expected.loss, LOSS_RELATIVE, `loss of step ${expected.step}`);
    assertNear(row.grad_norm, expected.grad_norm, GRAD_NORM_RELATIVE, `grad_norm of step ${expected.step}`);
    if (expected.learning_rate !== undefined) assert.equal(row.learning_rate, expected.learning_rate);
  }
}

function assertNear(actual: number, expected: number, relative: number, what: string): void {
  const error = Math.abs(actual - expected) / Math.abs(expected);
  assert.ok(error <= relative, `${what}: ${actual}, expected ${expected}: ${error} apart`);
}

/** Every element of every adapter tensor against the reference's. */
function assertAdapter(file: string, prefix: string): void {
  const { tensors } = readHeader(file);
  const expectedNames = [...goldenTensors.keys()].filter((name) => name.startsWith(prefix));
  assert.deepEqual([...tensors.keys()].sort(), expectedNames.map((name) => name.slice(prefix.length)).sort());
  let [elements, near, worst] = [0, 0, 0];
  for (const [name, entry] of tensors) {
    const expectedEntry = goldenTensors.get(prefix + name);
    assert.ok(expectedEntry);
    assert.deepEqual(entry.shape, expectedEntry.shape, name);
    const expected = readFloat32(expectedEntry);
    for (const [i, value] of readFloat32(entry).entries()) {
      const error = Math.abs(value - (expected[i] as number));
      assert.ok(Number.isFinite(error), `${name}[${i}] is ${value}`);
      elements++;
      near += Number(error <= ADAPTER_MOST.within);
      worst = Math.max(worst, error);
    }
  }
  assert.equal(elements, golden.lora.trainable);
  assert.ok(near / elements >= ADAPTER_MOST.share, `${elements - near} of ${elements} elements are off`);
  assert.ok(worst <= ADAPTER_ALL, `an element is ${worst} off`);
}

const TRACE_FLAGS = [
  ...["cpu", "--lora", "--model", MODEL, "--data", DATA, "--adapter", ADAPTER, "--max-steps", "6"],
  ...["--accumulation", "4", "--lr", "1e-3", "--warmup-steps", "2", "--weight-decay", "0.01", "--lora-dropout", "0"],
  ...["--no-shuffle", "--no-eval", "--checkpoint-dir", "OUT"],
];
const PROCESSOR_FILES = [
  ...["chat_template.jinja", "generation_config.json", "preprocessor_config.json"],
  ...["tokenizer.json", "tokenizer_config.json"],
];
const ARTIFACTS = ["decoder_model", "eval_model", "optimizer_model", "training_model", "vision_model"];

test("the command line reproduces the LoRA trace of transformers + PEFT and writes every file of the contract", async () => {
  const cwd = workingFolder();
  const { code, stdout, stderr } = await runEntry("finetuneGlobal", TRACE_FLAGS, cwd);
  assert.equal(code, 0, stderr);
  assert.equal(stdout, "");
  assert.match(stderr, /^training 13,440 parameters on 8 samples: 6 steps of 4 micro-batches of 1$/m);
  assert.match(stderr, /^training 6\/6 · loss 6\.706 · lr 2\.5e-4 · grad norm [\d.]+ · epoch 3 · [\d.]+ trained tokens\/s · [\d.]+ samples\/s · data wait \d+ % · peak memory \d\.\d\d GB$/m); // biome-ignore format: one line
  assert.match(stderr, /saved in OUT\n$/);

  const result = ["README.md", "adapter_config.json", "adapter_model.safetensors", ...PROCESSOR_FILES];
  const state = ["run_config.json", "trainer_state.json"];
  assert.deepEqual(
    filesIn(cwd),
    [
      ...[...result, ...state, "settings.toml", ...ARTIFACTS.map((name) => `artifacts/${name}.onnx`)].map(
        (name) => `OUT/${name}`,
      ),
      ...[...result, ...state, "optimizer.safetensors", "SHA256SUMS"].map((name) => `OUT/checkpoint-6/${name}`),
      ...state.map((name) => `out/global_agent/${name}`),
    ].sort(),
  );

  const trainerState = readJson(join(cwd, "OUT/trainer_state.json"));
  assertTrace(trainerState, golden.trace_token);
  assert.deepEqual([trainerState.global_step, trainerState.max_steps, trainerState.epoch], [6, 6, 3]);
  assert.deepEqual(
    trainerState.log_history.map(({ num_tokens }: { num_tokens: number }) => num_tokens),
    tokensAfter(6, 4),
  );
  assertAdapter(join(cwd, "OUT/adapter_model.safetensors"), "trained.token.");
  assert.deepEqual(
    tensorsOf(join(cwd, "OUT/checkpoint-6/adapter_model.safetensors")),
    tensorsOf(join(cwd, "OUT/adapter_model.safetensors")),
  );
  const { r, lora_alpha, lora_dropout, peft_type } = readJson(join(cwd, "OUT/adapter_config.json"));
  assert.deepEqual(
    { r, lora_alpha, lora_dropout, peft_type },
    { r: 4, lora_alpha: 32, lora_dropout: 0, peft_type: "LORA" },
  );
});

/** All tokens seen after each step of `accumulation` samples in the order of the file, as the reference encodes them. */
function tokensAfter(steps: number, accumulation: number): number[] {
  const lengths: number[] = golden.samples.map(({ input_ids: ids }: { input_ids: number[] }) => ids.length);
  const seen = Array.from({ length: steps * accumulation }, (_, i) => lengths[i % lengths.length] as number);
  return Array.from({ length: steps }, (_, i) =>
    seen.slice(0, (i + 1) * accumulation).reduce((sum, length) => sum + length, 0),
  );
}

test("--loss-normalization microbatch-mean reproduces what the Hugging Face Trainer does", async () => {
  const cwd = workingFolder();
  const flags = [...TRACE_FLAGS, "--loss-normalization", "microbatch-mean"];
  const { code, stderr } = await runEntry("finetuneGlobal", flags, cwd);
  assert.equal(code, 0, stderr);
  assertTrace(readJson(join(cwd, "OUT/trainer_state.json")), golden.trace_microbatch_mean);
  assertAdapter(join(cwd, "OUT/adapter_model.safetensors"), "trained.microbatch-mean.");
});

const FULL_FLAGS = [
  ...["cpu", "--model", MODEL, "--data", DATA, "--max-steps", "3", "--accumulation", "2", "--schedule", "constant"],
  ...["--lr", "1e-4", "--warmup-steps", "0", "--weight-decay", "0", "--no-shuffle", "--no-eval"],
];
const FULL_DIR = "checkpoints/global_agent_full";

test("full fine-tuning reproduces its trace and writes a model that answers", async () => {
  const cwd = workingFolder();
  const { code, stderr } = await runEntry("finetuneGlobal", FULL_FLAGS, cwd);
  assert.equal(code, 0, stderr);
  assertTrace(readJson(join(cwd, FULL_DIR, "trainer_state.json")), golden.trace_full);
  const files = filesIn(join(cwd, FULL_DIR));
  for (const name of ["config.json", "model.safetensors", "run_config.json", ...PROCESSOR_FILES])
    assert.ok(files.includes(name), `${name} is missing`);
  assert.deepEqual(
    files.filter((name) => name.startsWith("adapter")),
    [],
  );
  const [before, after] = [tensorsOf(join(MODEL, "model.safetensors")), weightsOf(cwd)];
  assert.deepEqual([...after.keys()].sort(), [...before.keys()].sort());
  assert.deepEqual(unchanged(before, after), []); // vision included

  const flags = ["cpu", "--model", FULL_DIR, "--u", "1", "--limit", "2", "--max-new-tokens", "4", "--quiet"];
  const answered = await runEntry("vanillaEval", flags, cwd);
  assert.deepEqual([answered.code, answered.stderr], [0, ""]);
  assert.equal(readJson(join(cwd, "out/qwen3_vanilla/user_1/metrics.json")).n, 2);
});

test("--no-train-vision leaves the vision tower as it is, byte for byte", async () => {
  const cwd = workingFolder();
  const { code, stderr } = await runEntry("finetuneGlobal", [...FULL_FLAGS, "--no-train-vision"], cwd);
  assert.equal(code, 0, stderr);
  const before = tensorsOf(join(MODEL, "model.safetensors"));
  const isVision = (name: string): boolean => name.startsWith("model.visual.");
  assert.deepEqual(unchanged(before, weightsOf(cwd)), [...before.keys()].filter(isVision).sort());
});

const weightsOf = (cwd: string): ReadonlyMap<string, Uint8Array> => tensorsOf(join(cwd, FULL_DIR, "model.safetensors"));

/** Names of the tensors whose bytes are the same in both. */
const unchanged = (before: ReadonlyMap<string, Uint8Array>, after: ReadonlyMap<string, Uint8Array>): string[] =>
  [...before]
    .filter(([name, bytes]) => Buffer.compare(bytes, after.get(name) ?? Buffer.alloc(0)) === 0)
    .map(([name]) => name)
    .sort();

test("the whole job: a folder of users is trained on, validated, evaluated and shown as a table", async () => {
  const cwd = workingFolder();
  writeUsers(join(cwd, "users"), { 1: 2, 2: 1, 11: 4, 12: 2, 74: 1 });
  const flags = [
    ...["cpu", "--lora", "--model", MODEL, "--data", "users", "--u", "1", "2", "--accumulation", "2", "--epochs", "1"],
    ...["--eval-steps", "2", "--max-new-tokens", "4", "--quiet"],
  ];
  const { code, stdout, stderr } = await runEntry("finetuneGlobal", flags, cwd);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^warning: users: no file for user 13-73 \(user_<id>\.csv or \.pkl\): skipped\n$/);
  assert.match(stdout, /^┌.*│ user .*│ 1 +│ 2 │.*│ 2 +│ 1 │.*│ macro average +│ 3 │.*│ all answers +│ 3 │.*┘\n$/s);

  const { log_history: rows } = readJson(join(cwd, "checkpoints/global_agent_lora/trainer_state.json"));
  assert.deepEqual(
    rows.map((row: object) => ("eval_loss" in row ? "validation" : "step")),
    ["step", "step", "validation", "step", "validation"], // what the run ends with is judged too
  );
  const dir = join(cwd, "out/global_agent/test");
  assert.deepEqual(
    filesIn(dir).filter((file) => !file.endsWith("evaluation.json")),
    [
      "summary.json",
      ...[1, 2].flatMap((user) =>
        ["metrics.json", "out.json", "results.txt", "samples.json"].map((name) => `user_${user}/${name}`),
      ),
    ],
  );
  const summary = readJson(join(dir, "summary.json"));
  assert.deepEqual([summary.users[1].n, summary.users[2].n, summary.micro.n], [2, 1, 3]);
  const [row] = readJson(join(dir, "user_1/out.json"));
  assert.deepEqual([row.gt_coord, row.gt_content], [[100, 200], "button 0"]);
});

/** `user_<id>.csv` with so many rows each, on pictures of the fixture. */
function writeUsers(dir: string, rows: Readonly<Record<number, number>>): void {
  mkdirSync(dir);
  cpSync(join(FIXTURE, "data/images"), join(dir, "images"), { recursive: true });
  for (const [user, count] of Object.entries(rows)) {
    const lines = Array.from(
      { length: count },
      (_, i) => `images/${i % 4}.png,press ${user}-${i},button ${i},${100 + i},200,0`,
    );
    writeFileSync(join(dir, `user_${user}.csv`), ["image,command,referring,x,y,episode", ...lines, ""].join("\n"));
  }
}
