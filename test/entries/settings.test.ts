// Settings as a user meets them: a run from the file that an earlier run left, and presets end to end.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { contentsOf, DATA, filesIn, MODEL, readJson, runEntry, workingFolder } from "./entry.ts";

const RUN_DIR = "checkpoints/global_agent_lora";

test("a run from an earlier run's settings.toml writes the same bytes", async () => {
  const [flagged, filed] = [workingFolder(), workingFolder()];
  const flags = ["cpu", "--lora", "--model", MODEL, "--data", DATA, "--max-steps", "3", "--accumulation", "2"];
  const more = [
    "--lora-targets",
    "q_proj",
    "v_proj",
    "--lr",
    "1e-3",
    "--schedule",
    "cosine",
    "--seed",
    "9",
    "--no-eval",
  ];
  const first = await runEntry("finetuneGlobal", [...flags, ...more], flagged);
  assert.equal(first.code, 0, first.stderr);
  const settings = readFileSync(join(flagged, RUN_DIR, "settings.toml"), "utf8");
  writeFileSync(join(filed, "again.toml"), settings);
  const second = await runEntry("finetuneGlobal", ["--config", "again.toml"], filed);
  assert.equal(second.code, 0, second.stderr);
  assert.match(second.stderr, /^lr = 0\.001 \(file again\.toml\)$/m);
  const [a, b] = [contentsOf(join(filed, RUN_DIR)), contentsOf(join(flagged, RUN_DIR))];
  assert.deepEqual(Object.keys(a), Object.keys(b));
  const weights = Object.keys(b).filter((file) => file.endsWith(".safetensors"));
  assert.ok(weights.length >= 3, weights.join());
  for (const file of weights) assert.ok(a[file] === b[file], `${file} differs`);
  const values = (cwd: string): object => {
    const { sources: _, config: __, ...rest } = readJson(join(cwd, RUN_DIR, "run_config.json"));
    return rest;
  };
  assert.deepEqual(values(filed), values(flagged));
});

test("--preset debug shows every stage: steps, a checkpoint, a validation loss, answers", async () => {
  const cwd = workingFolder();
  const { code, stdout, stderr } = await runEntry("finetuneGlobal", ["cpu", "--lora", "--preset", "debug"], cwd);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^maxSteps = 4 \(preset debug\)$/m);
  assert.match(stderr, /^lr = 0\.002 \(embedded-model default\)$/m);
  assert.match(stderr, /on 8 samples: 4 steps of 2 micro-batches of 1$/m);
  assert.match(stderr, /step 2: .*loss/);
  assert.match(stdout, /macro average │ 8 │/);
  const files = filesIn(cwd);
  for (const file of [
    ...[`${RUN_DIR}/checkpoint-2/optimizer.safetensors`, `${RUN_DIR}/adapter_model.safetensors`],
    ...["out/global_agent/test/user_2/out.json", `${RUN_DIR}/settings.toml`],
  ])
    assert.ok(files.includes(file), file);
});

test("a mistake in a settings file ends with 2, one message and nothing written", async () => {
  const cwd = workingFolder();
  writeFileSync(join(cwd, "run.toml"), 'device = "cpu"\n[lora]\nlora = true\nlora-rank = 8\nlora-alpha = "32"\n');
  const { code, stdout, stderr } = await runEntry("finetuneGlobal", ["--config", "run.toml"], cwd);
  assert.deepEqual([code, stdout], [2, ""]);
  assert.equal(
    stderr,
    'finetuneGlobal: 2 faults\n  run.toml:4: lora-rank: unknown setting; did you mean lora-r?\n  run.toml:5: lora-alpha: expected a number above 0, got the text "32"\n',
  );
  assert.deepEqual(filesIn(cwd), ["run.toml"]);
});
