import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  cpSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { type Checkpoint, openCheckpoint } from "../../src/model/checkpoint.ts";
import { trainableShapes } from "../../src/model/layers.ts";
import { EMBED, FINAL_NORM } from "../../src/model/parameters.ts";
import { FULL, FULL_TEXT, type TrainableSpec, trainablesOf } from "../../src/model/trainables.ts";
import { readAdapter } from "../../src/train/adapterFiles.ts";
import {
  listCheckpoints,
  newestCheckpoint,
  prepareRunFolder,
  pruneCheckpoints,
} from "../../src/train/checkpointFolders.ts";
import { type CheckpointContents, loadCheckpoint } from "../../src/train/checkpointReader.ts";
import { type CheckpointSource, saveCheckpoint, saveFinal } from "../../src/train/checkpointStore.ts";
import { type Moment, type MomentGroup, momentShapes } from "../../src/train/moments.ts";
import { callbacksState, readTrainerState, trainerState, writeTrainerState } from "../../src/train/trainerState.ts";
import { float32ToBf16 } from "../../src/utils/bf16.ts";
import { required, UserError } from "../../src/utils/errors.ts";
import { readHeader, readTensorBytes, writeSafetensors } from "../../src/utils/safetensors.ts";
import { readVisionSettings } from "../../src/vision/settings.ts";
import { copyWith, newFolder, randomArrays, readJson, scratchFolder, shardedBf16, TINY } from "./folders.ts";

const scratch = scratchFolder("checkpoint-store");
const tiny = openCheckpoint(TINY);
const bf16 = await shardedBf16(join(scratch, "bf16"));
const LORA = { r: 2, alpha: 4, dropout: 0.05, targetModules: ["q_proj", "down_proj"] };
const PROCESSOR = ["chat_template.jinja", "generation_config.json", "preprocessor_config.json"];

const sourceOf = (checkpoint: Checkpoint): CheckpointSource => {
  return { checkpoint, baseModel: "Qwen/Qwen3-VL-2B-Instruct", pixelBudget: { minPixels: 2048, maxPixels: 32768 } };
};

/** What a run might hold after `step` steps: numbers that differ from step to step. */
function contentsAt(step: number, checkpoint: Checkpoint, spec: TrainableSpec): CheckpointContents {
  const shapes = trainableShapes(checkpoint, trainablesOf(checkpoint, spec));
  const row = { step, epoch: step / 10, loss: 1 / 3, grad_norm: null, learning_rate: 1e-4, num_tokens: 321 };
  return {
    lora: spec.kind === "lora" ? spec.settings : null,
    shapes,
    values: randomArrays(shapes, `values ${step}`),
    moments: new Map([
      ["exp_avg", randomArrays(shapes, `expAvg ${step}`)],
      ["exp_avg_sq", randomArrays(shapes, `expAvgSq ${step}`)],
    ]),
    trainerState: trainerState({ global_step: step, epoch: step / 10, max_steps: 10, log_history: [row] }),
    cursor: { doneSteps: step, seed: 42 },
    runConfig: { lr: 1e-4, loraTargets: ["q_proj"], nested: { a: null } },
  };
}

const adapterAt = (step: number) => contentsAt(step, tiny, { kind: "lora", settings: LORA });
const saveAdapter = (runDir: string, step: number) => saveCheckpoint(runDir, adapterAt(step), sourceOf(tiny));

/** Every file of a folder by name. */
const filesOf = (dir: string): Map<string, Buffer> =>
  new Map(readdirSync(dir).map((name) => [name, readFileSync(join(dir, name))]));

const refused = (pattern: RegExp) => (thrown: unknown) => {
  assert.ok(thrown instanceof UserError, String(thrown));
  assert.match(thrown.message, pattern);
  return true;
};

test("an adapter's checkpoint: what is loaded is what was saved, and saving it again gives the same bytes", async () => {
  const contents = adapterAt(7);
  const dir = await saveCheckpoint(join(scratch, "lora"), contents, sourceOf(tiny));
  assert.equal(dir, join(scratch, "lora", "checkpoint-7"));
  assert.deepEqual(readdirSync(join(scratch, "lora")), ["checkpoint-7"]);
  assert.deepEqual(readdirSync(dir).sort(), [
    ...["README.md", "SHA256SUMS", "adapter_config.json", "adapter_model.safetensors", ...PROCESSOR.slice(0, 2)],
    ...["optimizer.safetensors", "preprocessor_config.json", "run_config.json", "tokenizer.json"],
    ...["tokenizer_config.json", "trainer_state.json"],
  ]);
  const loaded = loadCheckpoint(dir, contents.shapes);
  assert.deepEqual(loaded, contents);
  assert.deepEqual(readAdapter(dir, tiny), { settings: LORA, values: contents.values });
  const { minPixels, maxPixels } = readVisionSettings(dir);
  assert.deepEqual([minPixels, maxPixels], [2048, 32768]);
  const again = await saveCheckpoint(join(scratch, "lora-again"), loaded, sourceOf(tiny));
  assert.deepEqual(filesOf(again), filesOf(dir));
});

test("a model's checkpoint holds its float32 values, though its weights are bfloat16", async () => {
  const contents = contentsAt(3, bf16, FULL_TEXT);
  const dir = await saveCheckpoint(join(scratch, "full"), contents, sourceOf(bf16));
  const loaded = loadCheckpoint(dir, contents.shapes);
  assert.deepEqual(loaded, contents);
  const again = await saveCheckpoint(join(scratch, "full-again"), loaded, sourceOf(bf16));
  assert.deepEqual(filesOf(again), filesOf(dir));

  const model = openCheckpoint(dir);
  for (const [name, entry] of model.tensors) {
    const trained = contents.values.get(name);
    const frozen = bf16.tensors.get(name) ?? assert.fail(name);
    assert.equal(trained === undefined, name.startsWith("model.visual."));
    const expected = trained ? new Uint8Array(float32ToBf16(trained).buffer) : readTensorBytes(frozen);
    assert.deepEqual(readTensorBytes(entry), expected, name);
  }
});

test("with a moving average, that is what stands in the weights; the values themselves come back to the bit", async () => {
  const dora = { ...LORA, useDora: true, modulesToSave: ["visual.merger", "embed_tokens"] };
  const cases = [
    { checkpoint: tiny, spec: { kind: "lora", settings: dora } },
    { checkpoint: bf16, spec: { kind: "full", groups: ["llm"] } },
  ] as const;
  for (const [i, { checkpoint, spec }] of cases.entries()) {
    const plain = contentsAt(4, checkpoint, spec);
    const contents = { ...plain, average: randomArrays(plain.shapes, "average") };
    const dir = await saveCheckpoint(join(scratch, `average-${i}`), contents, sourceOf(checkpoint));
    const loaded = loadCheckpoint(dir, contents.shapes);
    assert.deepEqual(loaded, contents);
    assert.notDeepEqual(loaded.average, loaded.values);
    if (spec.kind === "lora") assert.deepEqual(readAdapter(dir, checkpoint).values, contents.average);
    else
      for (const [name, values] of contents.average)
        assert.deepEqual(
          readTensorBytes(openCheckpoint(dir).tensors.get(name) ?? assert.fail(name)),
          new Uint8Array(float32ToBf16(values).buffer),
        );
    const again = await saveCheckpoint(join(scratch, `average-${i}-again`), loaded, sourceOf(checkpoint));
    assert.deepEqual(filesOf(again), filesOf(dir));
  }
});

for (const optim of ["adafactor", "adamw_8bit"] as const)
  test(`what ${optim} remembers comes back to the bit, and a part of it missing is told`, async () => {
    const contents = contentsAt(4, tiny, FULL);
    const moments = new Map<MomentGroup, Map<string, Moment>>();
    for (const [name, shape] of contents.shapes)
      for (const { group, dtype, shape: of } of momentShapes(optim, shape)) {
        const numbers = required(randomArrays(new Map([[name, of]]), group).get(name), name);
        const values = dtype === "U8" ? Uint8Array.from(numbers, (value) => Math.abs(value) * 1000) : numbers;
        moments.set(group, (moments.get(group) ?? new Map()).set(name, values));
      }
    const dir = await saveCheckpoint(newFolder(scratch, optim), { ...contents, moments }, sourceOf(tiny));
    assert.deepEqual(loadCheckpoint(dir, contents.shapes).moments, moments);
    const file = join(dir, "optimizer.safetensors");
    const without = [...readHeader(file).tensors.values()].slice(1);
    await writeSafetensors(
      file,
      without.map((entry) => ({ ...entry, values: readTensorBytes(entry) })),
    );
    assert.throws(() => loadCheckpoint(dir), refused(/its parameters are not those of the weights beside it/));
  });

test("a checkpoint of other parameters is refused", async () => {
  const dir = await saveAdapter(join(scratch, "other"), 1);
  const other = contentsAt(1, tiny, { kind: "lora", settings: { ...LORA, r: 3 } });
  const expected =
    /checkpoint-1: does not fit this run: ".*q_proj\.lora_A\.weight" is \[2,64\] in the checkpoint and \[3,64\] here/;
  assert.throws(() => loadCheckpoint(dir, other.shapes), refused(expected));
  const full = contentsAt(1, tiny, FULL);
  assert.throws(() => loadCheckpoint(dir, full.shapes), refused(/is nothing in the checkpoint and \[.*\] here/));
});

test("trainer_state.json has transformers' fields, and ours where transformers leaves them alone", async () => {
  const { expected } = readJson("test/fixtures/train/trainer_state.json");
  const dir = newFolder(scratch, "trainer-state");
  const { stateful_callbacks: theirs, ...rest } = expected;
  assert.deepEqual(callbacksState(false, { patience: 3, threshold: 0.25, counter: 1 }), theirs);
  assert.deepEqual(Object.keys(callbacksState(true, null)), ["TrainerControl"]);
  const known = { ...rest, stateful_callbacks: theirs };
  await writeTrainerState(dir, known, null);
  assert.deepEqual(readJson(join(dir, "trainer_state.json")), expected);
  assert.deepEqual(Object.keys(readJson(join(dir, "trainer_state.json"))), Object.keys(expected));
  await writeTrainerState(dir, known, { doneSteps: 2 });
  assert.deepEqual(readTrainerState(dir), { state: known, cursor: { doneSteps: 2 } });
  const { stateful_callbacks: all, ...written } = readJson(join(dir, "trainer_state.json"));
  assert.deepEqual(written, rest);
  assert.equal(Object.keys(all).length, Object.keys(theirs).length + 1);
});

/** A run folder with three checkpoints, the newest of which is then damaged. */
async function damagedRun(name: string, damage: (dir: string) => void): Promise<string> {
  const runDir = copyWith(await goodRun, join(scratch, name));
  damage(join(runDir, "checkpoint-30"));
  return runDir;
}
const goodRun = (async () => {
  const runDir = join(scratch, "good-run");
  for (const step of [9, 10, 30]) await saveAdapter(runDir, step);
  return runDir;
})();

test("whole checkpoints are listed by step, newest first", async () => {
  const runDir = await goodRun;
  const whole = [30, 10, 9].map((step) => ({ dir: join(runDir, `checkpoint-${step}`), step }));
  assert.deepEqual(listCheckpoints(runDir), { whole, skipped: [] });
  assert.deepEqual(listCheckpoints(join(scratch, "nowhere")), { whole: [], skipped: [] });
});

const cutOff = (name: string) => (dir: string) =>
  truncateSync(join(dir, name), readFileSync(join(dir, name)).length - 1);
const gone = (name: string) => (dir: string) => rmSync(join(dir, name));

for (const [about, damage, reason] of [
  ["cut off optimizer", cutOff("optimizer.safetensors"), /optimizer\.safetensors: cut off: tensor/],
  ["cut off adapter", cutOff("adapter_model.safetensors"), /adapter_model\.safetensors: cut off: tensor/],
  [
    "cut off trainer state",
    (d) => truncateSync(join(d, "trainer_state.json"), 40),
    /trainer_state\.json: cannot be read/,
  ],
  [
    "cut off run config",
    (d) => truncateSync(join(d, "run_config.json"), 5),
    /run_config\.json: cannot be read as JSON/,
  ],
  [
    "cut off adapter config",
    (d) => truncateSync(join(d, "adapter_config.json"), 9),
    /adapter_config\.json: cannot be read/,
  ],
  ["no optimizer", gone("optimizer.safetensors"), /optimizer\.safetensors: cannot be opened/],
  ["no adapter", gone("adapter_model.safetensors"), /adapter_model\.safetensors: not found/],
  ["no adapter config", gone("adapter_config.json"), /adapter_config\.json: not found/],
  ["no trainer state", gone("trainer_state.json"), /trainer_state\.json: not found/],
  ["no run config", gone("run_config.json"), /run_config\.json: not found/],
  ["more than the header says", (d) => appendFileSync(join(d, "optimizer.safetensors"), "x"), /its header says/],
  [
    "another step's state",
    (d) => cpSync(join(d, "../checkpoint-9/trainer_state.json"), join(d, "trainer_state.json")),
    /is of step 9/,
  ],
  [
    "a state of transformers' own",
    (d) => writeFileSync(join(d, "trainer_state.json"), '{"global_step": 30, "log_history": []}'),
    /was not written by this program/,
  ],
] satisfies [string, (dir: string) => void, RegExp][]) {
  test(`a damaged checkpoint is skipped with a reason, the one before stays: ${about}`, async () => {
    const runDir = await damagedRun(about, damage);
    const { whole, skipped } = listCheckpoints(runDir);
    assert.deepEqual(
      whole.map(({ step }) => step),
      [10, 9],
    );
    assert.deepEqual(
      skipped.map(({ dir }) => basename(dir)),
      ["checkpoint-30"],
    );
    assert.match(skipped[0]?.reason ?? "", reason);
    if (about === "another step's state") return; // a checkpoint that was moved elsewhere may still be loaded by name
    assert.throws(() => loadCheckpoint(join(runDir, "checkpoint-30")), refused(reason));
  });
}

test("the newest whose every byte is as it was saved is gone on from, and what was skipped is told", async () => {
  const runDir = copyWith(await goodRun, join(scratch, "bits"));
  const found = (step: number) => ({ dir: join(runDir, `checkpoint-${step}`), step });
  assert.deepEqual(await newestCheckpoint(runDir), { newest: found(30), skipped: [] });
  const flip = (file: string, at: number): void => {
    const bytes = readFileSync(file);
    bytes[bytes.length - at] = (bytes[bytes.length - at] ?? 0) ^ 4;
    writeFileSync(file, bytes);
  };
  flip(join(runDir, "checkpoint-30/optimizer.safetensors"), 2_000); // of the same length, so only the sum tells
  const { newest, skipped } = await newestCheckpoint(runDir);
  assert.deepEqual([newest, skipped.map(({ dir }) => dir)], [found(10), [join(runDir, "checkpoint-30")]]);
  assert.match(skipped[0]?.reason ?? "", /checkpoint-30\/optimizer\.safetensors: damaged: its SHA-256 is/);
  cutOff("optimizer.safetensors")(join(runDir, "checkpoint-10"));
  flip(join(runDir, "checkpoint-9/run_config.json"), 6);
  const none = await newestCheckpoint(runDir);
  assert.deepEqual(
    [none.newest, none.skipped.map(({ dir }) => basename(dir)).sort()],
    [null, ["checkpoint-10", "checkpoint-30", "checkpoint-9"]],
  );
});

test("a folder is made ready: leavings of killed runs go, and one that cannot be written is refused at once", async () => {
  const runDir = copyWith(await goodRun, join(scratch, "ready"));
  const ended = spawnSync(process.execPath, ["-e", ""]).pid;
  cpSync(join(runDir, "checkpoint-9"), join(runDir, `checkpoint-31.tmp-${ended}`), { recursive: true });
  writeFileSync(join(newFolder(runDir, "artifacts"), `training_model.onnx.tmp-${ended}`), "half");
  await prepareRunFolder(runDir);
  assert.deepEqual(readdirSync(runDir).sort(), ["artifacts", "checkpoint-10", "checkpoint-30", "checkpoint-9"]);
  assert.deepEqual(readdirSync(join(runDir, "artifacts")), []);
  writeFileSync(join(scratch, "no-folder"), "");
  await assert.rejects(
    prepareRunFolder(join(scratch, "no-folder/run")),
    refused(/no-folder\/run: the run cannot write/),
  );
});

test("checkpoints of another run are put aside before the first of this one stands, and go with the next clearing", async () => {
  const runDir = copyWith(await goodRun, join(scratch, "superseded"));
  await saveCheckpoint(runDir, adapterAt(5), sourceOf(tiny), ["checkpoint-30", "checkpoint-10", "checkpoint-9"]);
  const aside = ["earlier-checkpoint-10", "earlier-checkpoint-30", "earlier-checkpoint-9"];
  assert.deepEqual(readdirSync(runDir).sort(), ["checkpoint-5", ...aside]);
  assert.deepEqual((await newestCheckpoint(runDir)).newest?.step, 5);
  await pruneCheckpoints(runDir, 3);
  assert.deepEqual(readdirSync(runDir), ["checkpoint-5"]);
});

test("a model's checkpoint without one of its weight files is skipped", async () => {
  const runDir = join(scratch, "full-damaged");
  const dir = await saveCheckpoint(runDir, contentsAt(3, bf16, FULL_TEXT), sourceOf(bf16));
  assert.equal(listCheckpoints(runDir).whole.length, 1);
  cutOff("model.safetensors")(dir);
  assert.match(listCheckpoints(runDir).skipped[0]?.reason ?? "", /model\.safetensors: cut off/);
  gone("model.safetensors")(dir);
  assert.match(listCheckpoints(runDir).skipped[0]?.reason ?? "", /checkpoint-3: no weights/);
});

test("a checkpoint of a step that has one replaces it", async () => {
  const runDir = copyWith(await goodRun, join(scratch, "replaced"));
  const changed = { ...adapterAt(10), values: adapterAt(11).values };
  await saveCheckpoint(runDir, changed, sourceOf(tiny));
  assert.deepEqual(loadCheckpoint(join(runDir, "checkpoint-10")), changed);
  assert.deepEqual(readdirSync(runDir).sort(), ["checkpoint-10", "checkpoint-30", "checkpoint-9"]);
});

test("pruning keeps the newest and the protected, and clears away what was left unfinished", async () => {
  const runDir = copyWith(await goodRun, join(scratch, "pruned"));
  await saveAdapter(runDir, 40);
  const unfinished = newFolder(runDir, `checkpoint-50.tmp-${process.pid}`);
  utimesSync(unfinished, 1e9, 1e9); // a former process had our id
  const ended = spawnSync(process.execPath, ["-e", ""]).pid;
  cpSync(join(runDir, "checkpoint-9"), join(runDir, `old-checkpoint-8.tmp-${ended}`), { recursive: true });
  const live = newFolder(runDir, `checkpoint-60.tmp-${process.ppid}`);
  newFolder(runDir, "checkpoint-70"); // broken, so none of ours to judge
  assert.match(listCheckpoints(runDir).skipped.at(-1)?.reason ?? "", /saving it was cut short/);

  assert.deepEqual(await pruneCheckpoints(runDir, 3, [join(runDir, "checkpoint-9")]), ["checkpoint-10"]);
  const left = ["checkpoint-30", "checkpoint-40", basename(live), "checkpoint-70", "checkpoint-9"];
  assert.deepEqual(readdirSync(runDir).sort(), left);
  assert.deepEqual(
    await pruneCheckpoints(runDir, 1, ["checkpoint-9"]),
    ["checkpoint-30"],
    "the best stays, and the newest",
  );
  assert.deepEqual(await pruneCheckpoints(runDir, 1), ["checkpoint-9"]);
  assert.deepEqual(await pruneCheckpoints(join(scratch, "nowhere"), 1), []);
});

test("when saving fails half-way, what was there stays and nothing half-written does", async () => {
  const runDir = join(scratch, "failing");
  const source = await shardedBf16(join(scratch, "failing-source"));
  const spec = FULL_TEXT;
  await saveCheckpoint(runDir, contentsAt(1, source, spec), sourceOf(source));
  await saveFinal(runDir, contentsAt(1, source, spec), sourceOf(source));
  const before = [filesOf(join(runDir, "checkpoint-1")), readdirSync(runDir).sort()];
  rmSync(join(source.dir, "model-00002-of-00003.safetensors"));
  const told =
    /failing: checkpoint-2 could not be saved: .*model-00002-of-00003\.safetensors.*; checkpoint-1 is whole and untouched/;
  await assert.rejects(saveCheckpoint(runDir, contentsAt(2, source, spec), sourceOf(source)), refused(told));
  await assert.rejects(
    saveCheckpoint(runDir, contentsAt(1, source, spec), sourceOf(source)),
    refused(/checkpoint-1 could not/),
  );
  await assert.rejects(
    saveFinal(runDir, contentsAt(2, source, spec), sourceOf(source)),
    refused(/the result could not be saved/),
  );
  assert.deepEqual([filesOf(join(runDir, "checkpoint-1")), readdirSync(runDir).sort()], before);
});

test("a full disk (here a limit on the size of files) is told as such, and the checkpoint before stays", async () => {
  const runDir = join(scratch, "limited");
  await saveAdapter(runDir, 1);
  const before = filesOf(join(runDir, "checkpoint-1"));
  const script = [
    'process.on("SIGXFSZ", () => {});',
    'const { saveCheckpoint } = await import("./src/train/checkpointStore.ts");',
    'const { loadCheckpoint } = await import("./src/train/checkpointReader.ts");',
    'const { openCheckpoint } = await import("./src/model/checkpoint.ts");',
    `const source = { checkpoint: openCheckpoint("${TINY}"), baseModel: null, pixelBudget: {} };`,
    `const contents = loadCheckpoint(${JSON.stringify(join(runDir, "checkpoint-1"))});`,
    `await saveCheckpoint(${JSON.stringify(runDir)}, { ...contents, trainerState: { ...contents.trainerState, global_step: 2 } }, source)`,
    ".catch((error) => console.log(error.name + ': ' + error.message));",
  ].join("\n");
  const limited = `ulimit -f 16 && exec "$0" --import tsx --input-type=module -e "$1"`; // 16 blocks of 1 or 0.5 KiB
  const { stdout, stderr } = spawnSync("bash", ["-c", limited, process.execPath, script], { encoding: "utf8" });
  assert.match(
    stdout,
    /^UserError: .*limited: checkpoint-2 could not be saved: a file grew larger than allowed here/,
    stderr,
  );
  assert.match(stdout, /; checkpoint-1 is whole and untouched$/m);
  assert.deepEqual(readdirSync(runDir), ["checkpoint-1"]);
  assert.deepEqual(filesOf(join(runDir, "checkpoint-1")), before);
});

test("a run folder that is a file, or the model's own, is refused", async () => {
  const file = join(scratch, "file");
  writeFileSync(file, "");
  await assert.rejects(saveAdapter(file, 1), refused(/file: /));
  await assert.rejects(saveAdapter(TINY, 1), refused(/checkpoint-1 could not be saved: .*is the folder of the model/));
  assert.ok(!readdirSync(TINY).some((name) => name.startsWith("checkpoint")));
});

test("the result stands at the run folder's top, without an earlier run's weights", async () => {
  const runDir = join(scratch, "final");
  const full = contentsAt(5, bf16, FULL);
  await saveFinal(runDir, full, sourceOf(bf16));
  const weights = openCheckpoint(runDir).tensors;
  for (const name of [EMBED, FINAL_NORM]) {
    const trained = full.values.get(name) ?? assert.fail(name);
    assert.deepEqual(
      readTensorBytes(weights.get(name) ?? assert.fail(name)),
      new Uint8Array(float32ToBf16(trained).buffer),
    );
  }
  assert.deepEqual(readTrainerState(runDir), { state: full.trainerState, cursor: null });
  assert.deepEqual(readJson(join(runDir, "run_config.json")), full.runConfig);
  const common = ["run_config.json", "tokenizer.json", "tokenizer_config.json", "trainer_state.json"];
  const model = ["config.json", "model.safetensors", ...PROCESSOR, ...common];
  assert.deepEqual(readdirSync(runDir).sort(), model.sort());

  await saveFinal(runDir, adapterAt(6), sourceOf(tiny));
  assert.deepEqual(readAdapter(runDir, tiny).values, adapterAt(6).values);
  const adapter = [
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",

    ...PROCESSOR,
    ...common,
  ];
  assert.deepEqual(readdirSync(runDir).sort(), adapter.sort());
});
