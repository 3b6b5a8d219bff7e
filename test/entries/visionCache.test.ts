// The outputs of the frozen tower on disk, as a user meets them: the same bytes with and without, one count in the log.
import assert from "node:assert/strict";
import { existsSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { DATA, filesIn, MODEL, runEntry, workingFolder } from "./entry.ts";

const cache = workingFolder();
process.env.XDG_CACHE_HOME = cache; // child processes have it from here
const kept = (): string[] =>
  filesIn(cache)
    .filter((name) => name.endsWith(".safetensors"))
    .map((name) => join(cache, name));

const FLAGS = [
  ...["cpu", "--model", MODEL, "--data", DATA, "--no-eval", "--accumulation", "2", "--batch-size", "2"],
  ...["--epochs", "2", "--lr", "1e-3", "--checkpoint-dir", "OUT"],
];

async function run(...more: readonly string[]) {
  const cwd = workingFolder();
  const { code, stderr } = await runEntry("finetuneGlobal", [...FLAGS, ...more], cwd);
  assert.equal(code, 0, stderr);
  const counts = /^vision tower: (\d+) pictures computed, (\d+) found on disk, (\d+) times in memory$/m.exec(stderr);
  const [computed, onDisk, inMemory] = (counts ?? []).slice(1).map(Number);
  const adapter = join(cwd, "OUT/adapter_model.safetensors");
  const state = readFileSync(join(cwd, "OUT/trainer_state.json"), "utf8");
  return { stderr, computed, onDisk, inMemory, state, adapter: existsSync(adapter) ? readFileSync(adapter) : null };
}

const losses = (state: string): unknown => JSON.parse(state).log_history.map(({ loss }: { loss: number }) => loss);

test("a tiny tower is not kept by default; asked for, a second run computes no picture and ends with the same bytes", async () => {
  const plain = await run("--lora");
  assert.ok((plain.computed ?? 0) > 0);
  assert.equal(plain.onDisk, 0);
  assert.ok((plain.inMemory ?? 0) >= (plain.computed ?? 0), "the second epoch");
  assert.ok(!existsSync(join(cache, "qwen3-vl-finetune")));

  const first = await run("--lora", "--vision-cache-gb", "1");
  assert.deepEqual([first.computed, first.onDisk], [plain.computed, 0]);
  assert.match(first.stderr, /^what the vision tower makes of pictures is kept in .*vision, at most 1 GB/m);
  assert.equal(kept().length, plain.computed);

  const second = await run("--lora", "--vision-cache-gb", "1");
  assert.deepEqual([second.computed, second.onDisk], [0, plain.computed]);
  for (const { adapter, state } of [first, second]) {
    assert.ok(adapter && plain.adapter?.equals(adapter));
    assert.deepEqual(losses(state), losses(plain.state));
  }

  const [damaged = ""] = kept();
  truncateSync(damaged, 100);
  const third = await run("--lora", "--vision-cache-gb", "1");
  assert.deepEqual([third.computed, third.onDisk], [1, (plain.computed ?? 0) - 1]);
  assert.match(third.stderr, /^warning: .*; it is made again$/m);
  assert.ok(third.adapter && plain.adapter?.equals(third.adapter));
});

test("a tower that trains has no files, whatever is asked", async () => {
  const before = kept();
  const { stderr } = await run("--vision-cache-gb", "1");
  assert.doesNotMatch(stderr, /vision tower/);
  assert.deepEqual(kept(), before);
});

test("an evaluation finds what another one left", async () => {
  const evaluate = async () => {
    const flags = ["cpu", "--preset", "debug", "--limit", "1", "--vision-cache-gb", "0.5"];
    const { code, stderr } = await runEntry("vanillaEval", flags, workingFolder());
    assert.equal(code, 0, stderr);
    return /^vision tower: .*$/m.exec(stderr)?.[0] ?? "";
  };
  const [, computed] = /^vision tower: (\d+) pictures computed, 0 found on disk/.exec(await evaluate()) ?? [];
  assert.ok(Number(computed) > 0);
  assert.match(await evaluate(), new RegExp(`^vision tower: 0 pictures computed, ${computed} found on disk`));
});
