// What a run keeps: the best checkpoint, its result, the end when nothing gets better, and what an earlier run left.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { contentsOf, copyWith, DATA, MODEL, readJson, runEntry, workingFolder } from "./entry.ts";

const RUN_DIR = "checkpoints/global_agent_lora";
/** With such a rate the validation loss falls for some steps and then rises. */
const DEFAULTS: Readonly<Record<string, string>> = {
  ...{ "--model": MODEL, "--data": DATA, "--max-steps": "20", "--accumulation": "4", "--warmup-steps": "0" },
  ...{ "--lr": "2e-2", "--seed": "5", "--save-steps": "5" },
};

const VALIDATED = ["--val-fraction", "0.25"];

/** Those, unless `more` says otherwise. */
const flagsWith = (more: readonly string[]): string[] => {
  const kept = Object.entries(DEFAULTS).filter(([name]) => !more.includes(name));
  return ["cpu", "--lora", "--no-eval", "--quiet", ...kept.flat(), ...more];
};

interface Row {
  readonly step: number;
  readonly loss?: number;
  readonly eval_loss?: number;
}

const stateIn = (cwd: string, dir = "") => readJson(join(cwd, RUN_DIR, dir, "trainer_state.json"));
const adapterIn = (cwd: string, dir = ""): Buffer => readFileSync(join(cwd, RUN_DIR, dir, "adapter_model.safetensors"));
const checkpointsIn = (cwd: string): string[] =>
  readdirSync(join(cwd, RUN_DIR))
    .filter((name) => name.includes("checkpoint-"))
    .sort();

async function run(cwd: string, ...more: readonly string[]): Promise<string> {
  const { code, stderr } = await runEntry("finetuneGlobal", flagsWith([...VALIDATED, ...more]), cwd);
  assert.equal(code, 0, stderr);
  return stderr;
}

const trained = (async () => {
  const cwd = workingFolder();
  await run(cwd, "--eval-steps", "2", "--keep", "1");
  return cwd;
})();

test("the best checkpoint is saved when it is evaluated, kept whatever else goes, and is the result", async () => {
  const cwd = await trained;
  const { log_history: history, best_global_step: best, ...state } = stateIn(cwd);
  const losses: readonly (readonly [number, number])[] = history.flatMap(({ step, eval_loss: loss }: Row) =>
    loss === undefined ? [] : [[step, loss]],
  );
  assert.deepEqual(
    losses.map(([step]) => step),
    [2, 4, 6, 8, 10, 12, 14, 16, 18, 20],
  );
  const lowest = Math.min(...losses.map(([, loss]) => loss));
  assert.deepEqual(
    [best, state.best_metric],
    losses.find(([, loss]) => loss === lowest),
  );
  assert.ok(
    best > 0 && best < 20 && best % 5 !== 0,
    `the best step, ${best}, is neither the last nor one that saves anyway`,
  );
  assert.equal(state.best_model_checkpoint, `${RUN_DIR}/checkpoint-${best}`);
  assert.equal(state.global_step, 20);
  assert.deepEqual(checkpointsIn(cwd), ["checkpoint-20", `checkpoint-${best}`].sort());
  assert.ok(adapterIn(cwd).equals(adapterIn(cwd, `checkpoint-${best}`)));
  assert.ok(!adapterIn(cwd).equals(adapterIn(cwd, "checkpoint-20")));
  assert.equal(stateIn(cwd, `checkpoint-${best}`).best_model_checkpoint, `${RUN_DIR}/checkpoint-${best}`);
});

test("without --load-best the result is the last step, and nothing is saved for an evaluation's sake", async () => {
  const cwd = workingFolder();
  await run(cwd, "--eval-steps", "2", "--no-load-best");
  assert.deepEqual(checkpointsIn(cwd), ["checkpoint-10", "checkpoint-15", "checkpoint-20"]);
  assert.ok(adapterIn(cwd).equals(adapterIn(cwd, "checkpoint-20")));
  const { best_global_step: best, best_model_checkpoint: dir, log_history: history } = stateIn(cwd);
  assert.deepEqual(
    [best, dir],
    [stateIn(await trained).best_global_step, null],
    "which was the best is told all the same",
  );
  assert.deepEqual(history, stateIn(await trained).log_history);
});

test("the last step takes part in the choice, though no evaluation is due", async () => {
  const cwd = workingFolder();
  await run(cwd, "--eval-steps", "8", "--lr", "1e-3");
  const { log_history: history, best_global_step: best } = stateIn(cwd);
  const evaluated = history.filter((row: Row) => row.eval_loss !== undefined).map(({ step }: Row) => step);
  assert.deepEqual([evaluated, best], [[8, 16, 20], 20]);
  assert.ok(adapterIn(cwd).equals(adapterIn(cwd, "checkpoint-20")));
});

test("a best checkpoint that was damaged or deleted is told; the last step is saved in its place", async () => {
  const cwd = copyWith(await trained, workingFolder());
  const dir = join(cwd, RUN_DIR, `checkpoint-${stateIn(cwd).best_global_step}`);
  const file = join(dir, "adapter_model.safetensors");
  const bytes = readFileSync(file);
  bytes[30_000] = (bytes[30_000] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  const flags = flagsWith([...VALIDATED, "--eval-steps", "2", "--keep", "1", "--resume"]);
  const damaged = await runEntry("finetuneGlobal", flags, cwd);
  assert.equal(damaged.code, 2);
  assert.match(
    damaged.stderr,
    /^the best step, \d+ with eval_loss [\d.]+, cannot be loaded: \S+adapter_model\.safetensors: damaged: .*; checkpoints\/global_agent_lora holds the last step instead\n$/,
  );
  assert.ok(adapterIn(cwd).equals(adapterIn(cwd, "checkpoint-20")));
  rmSync(dir, { recursive: true });
  const gone = await runEntry("finetuneGlobal", flags, cwd);
  assert.equal(gone.code, 2);
  assert.match(
    gone.stderr,
    /^the best step, \d+ with eval_loss [\d.]+, has no checkpoint any more; .*last step instead\n$/,
  );
});

test("early stopping ends the run, with the best as its result; resumed, it does not go on unless it may", async () => {
  const cwd = workingFolder();
  const flags = ["--eval-steps", "2", "--early-stopping-patience", "2"];
  await run(cwd, ...flags);
  const { global_step: step, best_global_step: best, log_history: history } = stateIn(cwd);
  assert.deepEqual(
    [step, best],
    [stateIn(await trained).best_global_step + 4, stateIn(await trained).best_global_step],
  );
  const whole: readonly Row[] = stateIn(await trained).log_history;
  assert.deepEqual(
    history,
    whole.filter((row) => row.step <= step),
    "up to there it is the same run",
  );
  assert.ok(adapterIn(cwd).equals(adapterIn(await trained)));
  const before = contentsOf(cwd);
  await run(cwd, ...flags, "--resume");
  assert.deepEqual(contentsOf(cwd), before);
  await run(cwd, "--eval-steps", "2", "--early-stopping-patience", "9", "--keep", "1", "--resume");
  assert.deepEqual(stateIn(cwd).log_history, whole);
  assert.ok(adapterIn(cwd).equals(adapterIn(await trained)));
});

test("a new run in the folder of an earlier one replaces it at its first save; --resume never mixes the two", async () => {
  const cwd = copyWith(await trained, workingFolder());
  const told = await run(cwd, "--seed", "6", "--eval-steps", "50", "--max-steps", "10");
  assert.match(
    told,
    /^warning: checkpoints\/global_agent_lora: holds an earlier run, up to step 20; this new run replaces it/,
  );
  assert.deepEqual(checkpointsIn(cwd), ["checkpoint-10", "checkpoint-5"]);
  assert.equal(stateIn(cwd).best_global_step, null);
  assert.ok(!existsSync(join(cwd, RUN_DIR, "earlier-checkpoint-20")));
});

test("going back to an older checkpoint leaves the newer ones behind", async () => {
  const cwd = workingFolder();
  await run(cwd, "--eval-steps", "50", "--keep", "9");
  const before = contentsOf(cwd);
  await run(cwd, "--eval-steps", "50", "--keep", "9", "--resume", `${RUN_DIR}/checkpoint-5`);
  assert.deepEqual(contentsOf(cwd), before, "and comes to the same end");
  await run(cwd, "--eval-steps", "50", "--keep", "9", "--resume", `${RUN_DIR}/checkpoint-5`, "--save-steps", "7");
  assert.deepEqual(checkpointsIn(cwd), ["checkpoint-14", "checkpoint-20", "checkpoint-5", "checkpoint-7"]);
});

test("what will not be measured cannot judge the run", async () => {
  for (const [flags, expected] of [
    [
      [...VALIDATED, "--metric-for-best-model", "eval_accuracy"],
      /^--metric-for-best-model eval_accuracy: is not measured in this run, which measures eval_loss; choose one of these\n$/,
    ],
    [
      ["--early-stopping-patience", "1"],
      /^--early-stopping-patience: there are no validation samples to tell when to stop; name some/,
    ],
  ] as const) {
    const cwd = workingFolder();
    const { code, stderr } = await runEntry("finetuneGlobal", flagsWith(flags), cwd);
    assert.equal(code, 2, stderr);
    assert.match(stderr, expected);
    assert.ok(!existsSync(join(cwd, RUN_DIR, "checkpoint-5")));
  }
});
