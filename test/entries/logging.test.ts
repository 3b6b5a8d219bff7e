// What a run tells beside its results: metrics.jsonl, TensorBoard's events, the log file; also when it is killed and goes on.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { eventsIn } from "../utils/eventReader.ts";
import { DATA, MODEL, readJson, runEntry, startEntry, workingFolder } from "./entry.ts";

const RUN_DIR = "checkpoints/global_agent_lora";
const STEPS = 12;
const FLAGS = [
  ...["cpu", "--lora", "--model", MODEL, "--data", DATA, "--no-eval", "--val-fraction", "0.25", "--seed", "5"],
  ...["--max-steps", String(STEPS), "--accumulation", "4", "--warmup-steps", "2", "--lr", "1e-3"],
  ...["--save-steps", "3", "--eval-steps", "4", "--keep", "9"],
];

type Row = Readonly<Record<string, unknown>>;

const metricsIn = (cwd: string): Row[] =>
  readFileSync(join(cwd, RUN_DIR, "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
const historyIn = (cwd: string): Row[] => readJson(join(cwd, RUN_DIR, "trainer_state.json")).log_history;
const logsIn = (cwd: string): string[] =>
  readdirSync(join(cwd, "logs"))
    .sort()
    .map((name) => readFileSync(join(cwd, "logs", name), "utf8"));

/** Each row of log_history stands in metrics.jsonl, word for word, in the same order. */
function assertTellsAll(rows: readonly Row[], history: readonly Row[]): void {
  const told = rows.filter((row) => !("train_runtime" in row));
  assert.equal(told.length, history.length);
  told.forEach((row, i) => {
    for (const [key, value] of Object.entries(history[i] ?? {})) assert.deepEqual(row[key], value, `row ${i}, ${key}`);
  });
}

/** Losses as TensorBoard shows them, from all files of the one run that is there. */
function lossCurve(cwd: string): number[] {
  const runs = readdirSync(join(cwd, RUN_DIR, "runs"));
  assert.equal(runs.length, 1, `${runs}`);
  const losses = new Map<number, number>();
  for (const { step, isRestart, values } of eventsIn(join(cwd, RUN_DIR, "runs", runs[0] ?? "")).flat()) {
    if (isRestart) for (const later of [...losses.keys()].filter((one) => one >= step)) losses.delete(later);
    const loss = values["train/loss"];
    if (typeof loss === "number") losses.set(step, loss);
  }
  return [...losses].sort(([a], [b]) => a - b).map(([, loss]) => loss);
}

const straight = (async () => {
  const cwd = workingFolder();
  const ended = await runEntry("finetuneGlobal", FLAGS, cwd);
  assert.equal(ended.code, 0, ended.stderr);
  return { cwd, ...ended };
})();

test("metrics.jsonl has what log_history has, and what the clock said beside it", async () => {
  const { cwd } = await straight;
  const rows = metricsIn(cwd);
  assertTellsAll(rows, historyIn(cwd));
  const step = rows.find((row) => row.step === 3 && "loss" in row) ?? {};
  for (const name of ["step_seconds", "tokens_per_second", "trained_tokens_per_second", "samples_per_second"])
    assert.ok(Number(step[name]) > 0, name);
  assert.ok(Number(step.data_wait) >= 0 && Number(step.data_wait) <= 1);
  assert.ok(Number(step.peak_memory_gb) > 0.05);
  const evaluation = rows.find((row) => "eval_loss" in row) ?? {};
  assert.ok(Number(evaluation.eval_runtime) > 0 && Number(evaluation.eval_samples_per_second) > 0);
  const { train_loss: loss, train_steps_per_second: pace, step: last } = rows.at(-1) ?? {};
  assert.ok(Number(loss) > 0 && Number(pace) > 0 && last === STEPS);
});

test("TensorBoard is told the same, the settings, and some samples with their pictures", async () => {
  const { cwd } = await straight;
  const told = historyIn(cwd).flatMap(({ loss }) => (typeof loss === "number" ? [Math.fround(loss)] : []));
  assert.equal(told.length, STEPS);
  assert.deepEqual(lossCurve(cwd), told);
  const [run = ""] = readdirSync(join(cwd, RUN_DIR, "runs"));
  const values = Object.assign({}, ...eventsIn(join(cwd, RUN_DIR, "runs", run)).flat().map((event) => event.values)); // biome-ignore format: one line
  for (const tag of ["train/epoch", "train/learning_rate", "train/grad_norm", "eval/loss", "train/data_wait"])
    assert.equal(typeof values[tag], "number", tag);
  assert.match(values["args/text_summary"], /"loraR": 4/);
  assert.match(values["model_config/text_summary"], /"model_type": "qwen3_vl"/);
  assert.match(values["samples/1/text_summary"], /\*\*user\*\*[\s\S]*\*\*assistant\*\*/);
  const [width, height] = values["samples/1"];
  assert.ok(width > 10 && height > 10, `${width} x ${height}`);
});

test("the log file holds what was printed, each line with its time, and settings, versions and how it ended", async () => {
  const { cwd, stderr } = await straight;
  const [name = "", ...others] = readdirSync(join(cwd, "logs"));
  assert.deepEqual(others, []);
  assert.match(name, /^finetune_global_lora_\d{8}_\d{6}\.log$/);
  const lines = (logsIn(cwd)[0] ?? "").trimEnd().split("\n");
  const text = lines.map((line) => {
    assert.match(line, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} /);
    return line.slice("2026-01-31 09:05:07.123 ".length);
  });
  assert.match(text[0] ?? "", /^command: \S*finetuneGlobal\.ts cpu --lora --model /);
  assert.match(text[1] ?? "", /^versions: \S+ [\d.]+, node v[\d.]+, onnxruntime-node [\d.]+, sharp [\d.]+, /);
  assert.match(text[2] ?? "", /^machine: \w+ \w+, \d+ x .*, [\d.]+ GB$/);
  assert.deepEqual(text.slice(3, -1), stderr.trimEnd().split("\n"));
  assert.ok(text.includes("loraR = 4 (default)") && text.includes("lr = 0.001 (flag)"));
  assert.match(text.at(-1) ?? "", /^ended with exit code 0 after \d/);
});

test("killed and gone on with: one curve, each step once, and a log file for each start", async () => {
  const cwd = workingFolder();
  const run = startEntry("finetuneGlobal", FLAGS, cwd);
  let isOver = false;
  void run.ended.then(() => {
    isOver = true;
  });
  while (!isOver && !existsSync(join(cwd, RUN_DIR, "checkpoint-6"))) await new Promise((wake) => setTimeout(wake, 2));
  run.kill();
  assert.equal((await run.ended).signal, "SIGKILL");
  const before = metricsIn(cwd);
  assert.ok(!/ended with/.test(logsIn(cwd)[0] ?? ""));
  const resumed = await runEntry("finetuneGlobal", [...FLAGS, "--resume", "--quiet"], cwd);
  assert.equal(resumed.code, 0, resumed.stderr);
  assert.deepEqual(historyIn(cwd), historyIn((await straight).cwd));
  const rows = metricsIn(cwd);
  assertTellsAll(rows, historyIn(cwd));
  assert.deepEqual(rows[2], before[2], "a row from before it was killed keeps its time");
  assert.deepEqual(lossCurve(cwd), lossCurve((await straight).cwd));
  const [, second = ""] = logsIn(cwd);
  assert.match(second, /going on from checkpoints\/global_agent_lora\/checkpoint-\d+, after step \d+/, "quiet or not");
});

test("--report-to none and --log-dir; an error stands in the log", async () => {
  const cwd = workingFolder();
  const short = [...FLAGS, "--report-to", "none", "--log-dir", "told/here", "--quiet"];
  writeFileSync(join(cwd, "checkpoints"), "in the way");
  const { code, stderr } = await runEntry("finetuneGlobal", short, cwd);
  assert.equal(code, 2);
  assert.ok(!existsSync(join(cwd, "logs")));
  const [name = ""] = readdirSync(join(cwd, "told/here"));
  const text = readFileSync(join(cwd, "told/here", name), "utf8");
  assert.ok(text.includes(` ${stderr}`), stderr);
  assert.match(text, /ended with exit code 2 after /);
});

test("a log file that cannot be written ends no run, and is told in the end", async () => {
  const cwd = workingFolder();
  writeFileSync(join(cwd, "logs"), "in the way");
  const flags = FLAGS.map((word, i) => (FLAGS[i - 1] === "--max-steps" ? "1" : word));
  const { code, stderr } = await runEntry("finetuneGlobal", [...flags, "--report-to", "none", "--quiet"], cwd);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^warning: logs\/finetune_global_lora_\d+_\d+\.log: holds no more than what came before E\w+/m);
  assert.ok(!existsSync(join(cwd, RUN_DIR, "runs")));
});
