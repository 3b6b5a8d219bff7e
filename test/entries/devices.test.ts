// Several devices by the command line: what one device makes, in every bit, however the run is broken off; and a worker that is lost.
import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { DATA, filesIn, MODEL, readJson, runEntry, startEntry, tensorsOf, workingFolder } from "./entry.ts";

const LORA_DIR = "checkpoints/global_agent_lora";
/** Samples with one picture, with two and with none; the last step of an epoch is short, and dropout draws. */
const FLAGS = [
  ...["--lora", "--model", MODEL, "--data", DATA, "--no-eval", "--max-steps", "24", "--accumulation", "3"],
  ...[
    "--lr",
    "2e-3",
    "--warmup-steps",
    "5",
    "--lora-dropout",
    "0.1",
    "--seed",
    "5",
    "--save-steps",
    "8",
    "--keep",
    "5",
  ],
];

/** What training has made: weights, moments, the log. The settings beside it name the devices. */
const SAME = ["adapter_model.safetensors", "trainer_state.json", "checkpoint-24/optimizer.safetensors"];

function assertSameRun(actual: string, expected: string): void {
  for (const file of SAME) {
    const [a, b] = [actual, expected].map((cwd) => readFileSync(join(cwd, LORA_DIR, file)));
    assert.ok(a?.length && b && a.equals(b), `${file} differs`);
  }
}

test("LoRA: broken off by Ctrl-C on two devices and gone on with; begun on one and gone on with on three: the bytes of one", async () => {
  const [one, two, both] = [workingFolder(), workingFolder(), workingFolder()];
  const straight = await runEntry("finetuneGlobal", ["cpu", ...FLAGS], one);
  assert.equal(straight.code, 0, straight.stderr);

  const first = startEntry("finetuneGlobal", ["cpu,cpu", ...FLAGS], two);
  await first.sees("training 1/");
  first.interrupt();
  const stopped = await first.ended;
  assert.equal(stopped.code, 130, stopped.stderr);
  const step = Number(
    /stopped after step (\d+), saved in \S+; --resume goes on from there\n$/.exec(stopped.stderr)?.[1],
  );
  assert.ok(step >= 1 && step < 24 && existsSync(join(two, LORA_DIR, `checkpoint-${step}`)), stopped.stderr);
  const resumed = await runEntry("finetuneGlobal", ["cpu,cpu", ...FLAGS, "--resume"], two);
  assert.equal(resumed.code, 0, resumed.stderr);
  assertSameRun(two, one);

  const checkpoint = join(LORA_DIR, "checkpoint-8");
  cpSync(join(one, checkpoint), join(both, checkpoint), { recursive: true });
  const grown = await runEntry("finetuneGlobal", ["cpu,cpu,cpu", ...FLAGS, "--resume"], both);
  assert.equal(grown.code, 0, grown.stderr);
  assertSameRun(both, one);
});

test("full fine-tuning, vision included: every weight as on one device, in every bit", async () => {
  const [one, two] = [workingFolder(), workingFolder()];
  const flags = ["--model", MODEL, "--data", DATA, "--no-eval", "--max-steps", "3", "--batch-size", "2", "--accumulation", "3", "--lr", "1e-3", "--warmup-steps", "0", "--quiet"]; // biome-ignore format: one line
  for (const [devices, cwd] of Object.entries({ cpu: one, "cpu,cpu": two })) {
    const { code, stderr } = await runEntry("finetuneGlobal", [devices, ...flags], cwd);
    assert.deepEqual([code, stderr], [0, ""]);
  }
  const [expected, actual] = [one, two].map((cwd) =>
    tensorsOf(join(cwd, "checkpoints/global_agent_full/model.safetensors")),
  );
  const start = tensorsOf(join(MODEL, "model.safetensors"));
  assert.ok(expected && expected.size === start.size && [...start].some(([name, bytes]) => Buffer.compare(bytes, expected.get(name) ?? bytes) !== 0)); // biome-ignore format: one line
  for (const [name, bytes] of expected) assert.deepEqual(actual?.get(name), bytes, name);
  const [a, b] = [one, two].map((cwd) => readJson(join(cwd, "checkpoints/global_agent_full/trainer_state.json")));
  assert.deepEqual(b, a);
});

/** Ends the worker of the second device when it is asked for something for the n-th time. */
async function losing(what: string, cwd: string, flags: readonly string[] = FLAGS) {
  const script = pathToFileURL(resolve("test/entries/loseWorker.mjs")).href;
  const env = { NODE_OPTIONS: `--import ${script}`, LOSE_WORKER: what };
  const begun = performance.now();
  const run = startEntry("finetuneGlobal", ["cpu,cpu", ...flags], cwd, env);
  let lostAfter = 0;
  run.sees("a worker is ended").then(() => { lostAfter = performance.now() - begun; }, () => undefined); // biome-ignore format: one line
  const ended = await run.ended;
  return { ...ended, seconds: (performance.now() - begun - lostAfter) / 1000 };
}

const LOST = "device cpu (2 of 2): a worker thread ended with code 1 while it was needed";
const lastLine = (text: string): string => text.trimEnd().split("\n").at(-1) ?? "";

test("a worker that dies while it computes gradients: one message, within 10 s, and what was done is saved by the other", async () => {
  const cwd = workingFolder();
  const { code, stderr, seconds } = await losing("accumulate:16", cwd); // it is asked once in each step
  assert.equal(lastLine(stderr), `${LOST}; ended after step 15, saved in ${LORA_DIR}; --resume goes on from there`);
  assert.equal(code, 2);
  assert.ok(seconds < 10, `${seconds} s`);
  assert.deepEqual(checkpointsIn(cwd), ["checkpoint-15", "checkpoint-8"]);

  const one = workingFolder();
  const straight = await runEntry("finetuneGlobal", ["cpu", ...FLAGS], one);
  const resumed = await runEntry("finetuneGlobal", ["cpu,cpu", ...FLAGS, "--resume"], cwd);
  assert.deepEqual([straight.code, resumed.code], [0, 0]);
  assertSameRun(cwd, one);
});

test("one that dies in an update: the state of that step is nowhere whole, so the checkpoint before stays the last", async () => {
  const cwd = workingFolder();
  const { code, stderr, seconds } = await losing("update:11", cwd);
  assert.equal(lastLine(stderr), `${LOST}; the last checkpoint is that of step 8; --resume goes on from there`);
  assert.match(stderr, /^warning: the steps done since the last checkpoint could not be saved: device cpu \(2 of 2\)/m);
  assert.equal(code, 2);
  assert.ok(seconds < 10, `${seconds} s`);
  assert.deepEqual(checkpointsIn(cwd), ["checkpoint-8"]);
  assert.equal(filesIn(cwd).filter((file) => file.endsWith(".safetensors")).length, 2, "nothing half-written");
});

test("another that is in the middle of a long computation is not waited for", async () => {
  const cwd = workingFolder();
  const messages = [{ role: "user", content: "a long question ".repeat(250) }, { role: "assistant", content: "no" }]; // biome-ignore format: one line
  writeFileSync(join(cwd, "long.jsonl"), `${JSON.stringify({ messages })}\n`.repeat(12));
  const flags = ["--lora", "--model", MODEL, "--data", "long.jsonl", "--no-eval", "--batch-size", "6", "--accumulation", "2", "--max-steps", "1"]; // biome-ignore format: one line
  const { code, signal, stderr, seconds } = await losing("accumulate:1", cwd, flags);
  assert.equal(lastLine(stderr), LOST);
  assert.ok(code === 2 || signal === "SIGKILL", `${code}, ${signal}`); // it depends on how long the computation took
  assert.ok(seconds < 10, `${seconds} s`);
});

const checkpointsIn = (cwd: string): string[] =>
  readdirSync(join(cwd, LORA_DIR))
    .filter((name) => name.startsWith("checkpoint-"))
    .sort();

test("evaluation over two devices gives the answers of one", async () => {
  const [one, two] = [workingFolder(), workingFolder()];
  const flags = ["--u", "1", "2", "--limit", "10", "--max-new-tokens", "12", "--eval-batch-size", "3", "--quiet"];
  const [a, b] = [await runEntry("vanillaEval", ["cpu", ...flags], one), await runEntry("vanillaEval", ["cpu,cpu", ...flags], two)]; // biome-ignore format: one line
  assert.deepEqual([a.code, b.code, b.stdout], [0, 0, a.stdout]);
  for (const file of ["user_1/out.json", "user_2/out.json", "summary.json"].map((name) =>
    join("out/qwen3_vanilla", name),
  ))
    assert.equal(readFileSync(join(two, file), "utf8"), readFileSync(join(one, file), "utf8"), file);
});
