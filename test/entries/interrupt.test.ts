import assert from "node:assert/strict";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { contentsOf, copyWith, DATA, filesIn, MODEL, readJson, runEntry, startEntry, workingFolder } from "./entry.ts";

const RUN_DIR = "checkpoints/global_agent_lora";
const STEPS = 40;
/** Everything random is in play: the new adapter, the order of the samples, dropout. */
const FLAGS = [
  ...["cpu", "--lora", "--model", MODEL, "--data", DATA, "--no-eval", "--max-steps", String(STEPS)],
  ...["--accumulation", "4", "--warmup-steps", "5", "--lr", "1e-3", "--lora-dropout", "0.1", "--seed", "5"],
  ...["--save-steps", "15", "--keep", "2"],
];

const checkpointsIn = (cwd: string): string[] =>
  readdirSync(join(cwd, RUN_DIR)).filter((name) => name.startsWith("checkpoint-"));

test("interrupted training saves, refuses other settings, and resumed ends as if nothing had happened", async () => {
  const [whole, broken] = [workingFolder(), workingFolder()];
  const straight = await runEntry("finetuneGlobal", FLAGS, whole);
  assert.equal(straight.code, 0, straight.stderr);
  assert.deepEqual(checkpointsIn(whole).sort(), ["checkpoint-30", `checkpoint-${STEPS}`]); // 15 was pruned

  const first = startEntry("finetuneGlobal", FLAGS, broken);
  await first.sees("training 1/");
  first.interrupt();
  const stopped = await first.ended;
  assert.equal(stopped.code, 130, stopped.stderr);
  const step = Number(
    /stopped after step (\d+), saved in \S+; --resume goes on from there\n$/.exec(stopped.stderr)?.[1],
  );
  assert.ok(step >= 1 && step < STEPS, stopped.stderr);
  assert.ok(checkpointsIn(broken).includes(`checkpoint-${step}`), `${checkpointsIn(broken)} after step ${step}`);
  assert.equal(existsSync(join(broken, RUN_DIR, "adapter_model.safetensors")), false, "no result before the end");

  const before = contentsOf(broken);
  const refused = await runEntry("finetuneGlobal", [...withLr(FLAGS, "2e-3"), "--resume", "--quiet"], broken);
  assert.equal(refused.code, 2);
  assert.equal(
    refused.stderr,
    `${RUN_DIR}/checkpoint-${step}: was trained with other settings; give the same flags to go on, or --resume-anyway\n  lr: 0.001 there, 0.002 here\n`,
  );
  assert.deepEqual(contentsOf(broken), before);

  const anyway = copyWith(broken, workingFolder());
  const flags = [...withLr(FLAGS, "2e-3"), "--resume", "--resume-anyway", "--quiet"];
  const other = await runEntry("finetuneGlobal", flags, anyway);
  assert.equal(other.code, 0, other.stderr);
  assert.equal(
    other.stderr,
    `warning: going on with other settings than ${RUN_DIR}/checkpoint-${step} was trained with\n  lr: 0.001 there, 0.002 here\n`,
  );
  const rates = (cwd: string): number[] =>
    readJson(join(cwd, RUN_DIR, "trainer_state.json")).log_history.map((row: { learning_rate: number }) => row.learning_rate); // biome-ignore format: one line
  const [before40, after40] = [rates(whole), rates(anyway)];
  assert.deepEqual(after40.slice(0, step), before40.slice(0, step));
  const doubled = before40.map((rate) => 2 * rate);
  assert.deepEqual(after40.slice(step), doubled.slice(step));

  const resumed = await runEntry("finetuneGlobal", [...FLAGS, "--resume"], broken);
  assert.equal(resumed.code, 0, resumed.stderr);
  assert.match(resumed.stderr, new RegExp(`^going on from ${RUN_DIR}/checkpoint-${step}, after step ${step}$`, "m"));
  assertSameRun(broken, whole);
});

const withLr = (flags: readonly string[], lr: string): string[] =>
  flags.map((word, i) => (flags[i - 1] === "--lr" ? lr : word));

/** The same files, byte for byte, the optimizer's moments and the log of the steps included. */
function assertSameRun(actual: string, expected: string): void {
  const [a, b] = [contentsOf(join(actual, RUN_DIR)), contentsOf(join(expected, RUN_DIR))];
  assert.deepEqual(Object.keys(a), Object.keys(b));
  for (const [file, content] of Object.entries(b)) assert.ok(a[file] === content, `${file} differs`);
}

test("Ctrl-C during a step is heard at once; once more ends at once, without a crash and without half-written files", async () => {
  const cwd = workingFolder();
  const content = "a long question ".repeat(250); // 2500 tokens: the micro-batch of eight takes seconds
  const messages = [{ role: "user", content }, { role: "assistant", content: "no" }]; // biome-ignore format: one line
  writeFileSync(join(cwd, "long.jsonl"), `${JSON.stringify({ messages })}\n`.repeat(8));
  const flags = ["cpu", "--lora", "--model", MODEL, "--data", "long.jsonl", "--no-eval", "--batch-size", "8"];
  const run = startEntry("finetuneGlobal", [...flags, "--max-steps", "2", "--accumulation", "1"], cwd);
  await run.sees("training 13,440 parameters");
  await pause(800); // sessions are open: the first micro-batch is under way
  const heard = await timed(async () => {
    run.interrupt();
    await run.sees("stopping after the work at hand; once more to stop at once");
  });
  run.interrupt(); // as tsx does, which passes the same key press on
  await pause(600);
  const over = await timed(async () => {
    run.interrupt();
    await run.ended;
  });
  const { code, signal, stderr } = await run.ended;
  assert.deepEqual([code, signal], [null, "SIGINT"]); // what shells report as 130
  assert.match(stderr, /stop at once\n$/, "no word of a crash, nor of an orderly end");
  assert.ok(heard < AT_ONCE_MS, `the first was heard after ${heard} ms`);
  assert.ok(over < AT_ONCE_MS, `ended ${over} ms after the second`);
  const written = filesIn(cwd).filter((file) => !file.includes("/artifacts/"));
  assert.deepEqual(written, [`${RUN_DIR}/settings.toml`, "long.jsonl"]);
});

const AT_ONCE_MS = 1_000; // on busy machines; a micro-batch takes ten times as long
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function timed(run: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

test("--resume refuses where there is nothing to go on from", async () => {
  const cwd = workingFolder();
  const none = await runEntry("finetuneGlobal", [...FLAGS, "--resume", "--quiet"], cwd);
  assert.equal(none.code, 2);
  assert.equal(
    none.stderr,
    `--resume: no whole checkpoint in ${RUN_DIR}; leave --resume out to start anew, or name a checkpoint folder\n`,
  );
  const missing = await runEntry("finetuneGlobal", [...FLAGS, "--resume", "nowhere", "--quiet"], cwd);
  assert.equal(missing.code, 2);
  assert.match(missing.stderr, /^nowhere\/trainer_state\.json: not found; .*check the folder.*\n$/);
  assert.deepEqual(filesIn(cwd), []);
});

const EVAL_FLAGS = ["cpu", "--u", "1", "3", "--limit", "16", "--max-new-tokens", "10"];

test("an interrupted evaluation goes on with the same command and ends with the same files", async () => {
  const [whole, broken] = [workingFolder(), workingFolder()];
  const straight = await runEntry("vanillaEval", EVAL_FLAGS, whole);
  assert.equal(straight.code, 0, straight.stderr);

  const first = startEntry("vanillaEval", EVAL_FLAGS, broken);
  await first.sees("evaluating 8/48");
  first.interrupt();
  const stopped = await first.ended;
  assert.equal(stopped.code, 130, stopped.stderr);
  assert.equal(stopped.stdout, "");
  assert.match(
    stopped.stderr,
    /evaluation stopped; the answers so far are in out\/qwen3_vanilla, and the same command goes on from there\n$/,
  );
  const kept: unknown[] = readJson(join(broken, "out/qwen3_vanilla/user_1/out.json"));
  assert.ok(kept.length >= 8, `${kept.length} answers were kept`);
  assert.equal(existsSync(join(broken, "out/qwen3_vanilla/summary.json")), false);

  const again = await runEntry("vanillaEval", EVAL_FLAGS, broken);
  assert.equal(again.code, 0, again.stderr);
  assert.doesNotMatch(again.stderr, /evaluating 8\/48/, "the first answers are not given twice");
  assert.equal(again.stdout, straight.stdout);
  assert.deepEqual(contentsOf(broken), contentsOf(whole));
});
