import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type Checkpoint, openCheckpoint } from "../../src/model/checkpoint.ts";
import { EMBED, FINAL_NORM, HEAD } from "../../src/model/parameters.ts";
import { copyProcessorFiles, writeModel } from "../../src/train/modelFiles.ts";
import { float32ToBf16, float32ToFloat16 } from "../../src/utils/bf16.ts";
import { InternalError, UserError } from "../../src/utils/errors.ts";
import { readFloat32, readHeader, readTensorBytes, writeSafetensors } from "../../src/utils/safetensors.ts";
import { readVisionSettings } from "../../src/vision/settings.ts";
import { readVideoBudget } from "../../src/vision/videoBudget.ts";
import { copyWith, newFolder, randomArrays, readJson, scratchFolder, shardedBf16, TINY } from "./folders.ts";

const scratch = scratchFolder("model-files");
const bf16 = await shardedBf16(join(scratch, "bf16"));
const Q_PROJ = "model.language_model.layers.0.self_attn.q_proj.weight";
const INDEX = "model.safetensors.index.json";

/** New values for some of a model's parameters. */
function changesOf({ tensors }: Checkpoint, names: readonly string[]): Map<string, Float32Array> {
  return randomArrays(new Map(names.map((name) => [name, tensors.get(name)?.shape ?? assert.fail(name)])), "changed");
}

const bytesOf = ({ tensors }: Checkpoint, name: string): Uint8Array =>
  readTensorBytes(tensors.get(name) ?? assert.fail(name));

/** Tensors of every weight file by name: the last one wins, so twins are told apart by count. */
function storedIn(dir: string): { names: string[]; files: string[] } {
  const files = readdirSync(dir).filter((name) => name.endsWith(".safetensors"));
  return { files, names: files.flatMap((file) => [...readHeader(join(dir, file)).tensors.keys()]) };
}

const refused = (pattern: RegExp) => (thrown: unknown) => {
  assert.ok(thrown instanceof UserError, String(thrown));
  assert.match(thrown.message, pattern);
  return true;
};

test("without changes every tensor and the configuration are the source's bytes", async () => {
  const source = openCheckpoint(TINY);
  const dir = join(scratch, "same");
  await writeModel(dir, { checkpoint: source, values: new Map() });
  const written = openCheckpoint(dir);
  assert.deepEqual(readdirSync(dir).sort(), ["config.json", "generation_config.json", "model.safetensors"]);
  for (const name of source.tensors.keys()) assert.deepEqual(bytesOf(written, name), bytesOf(source, name), name);
  for (const name of ["config.json", "generation_config.json"])
    assert.deepEqual(readFileSync(join(dir, name)), readFileSync(join(TINY, name)), name);
});

test("of a sharded bfloat16 model only the changed tensors change, rounded to bfloat16", async () => {
  const values = changesOf(bf16, [EMBED, Q_PROJ, FINAL_NORM]);
  const dir = join(scratch, "changed");
  await writeModel(dir, { checkpoint: bf16, values });
  const written = openCheckpoint(dir);
  assert.deepEqual(storedIn(dir).files, ["model.safetensors"]);
  for (const [name, entry] of bf16.tensors) {
    const changed = values.get(name);
    const expected = changed ? new Uint8Array(float32ToBf16(changed).buffer) : readTensorBytes(entry);
    assert.deepEqual(bytesOf(written, name), expected, name);
    assert.equal(written.tensors.get(name)?.dtype, "BF16");
  }
});

test("over the limit it is cut into shards with an index; a tied head gets no tensor", async () => {
  const maxShardBytes = 150_000; // the patch embedding takes 147,456 bytes, all others less
  const dir = join(scratch, "shards");
  await writeModel(dir, { checkpoint: bf16, values: changesOf(bf16, [Q_PROJ]), maxShardBytes });
  const { weight_map, metadata } = readJson(join(dir, INDEX));
  const { files, names } = storedIn(dir);
  assert.ok(files.length > 3);
  const of = String(files.length).padStart(5, "0");
  assert.deepEqual(
    files,
    files.map((_, i) => `model-${String(i + 1).padStart(5, "0")}-of-${of}.safetensors`),
  );
  assert.deepEqual(names.sort(), [...bf16.tensors.keys()].sort());
  assert.ok(!names.includes(HEAD));
  const sizes = [...bf16.tensors.values()].map(({ byteLength }) => byteLength);
  const total_size = sizes.reduce((sum, bytes) => sum + bytes, 0);
  assert.deepEqual(metadata, { total_size, total_parameters: total_size / 2 });
  for (const file of files) {
    const tensors = [...readHeader(join(dir, file)).tensors.values()];
    assert.ok(tensors.reduce((sum, { byteLength }) => sum + byteLength, 0) <= maxShardBytes, file);
    for (const { name } of tensors) assert.equal(weight_map[name], file);
  }
  assert.equal(Object.keys(weight_map).length, names.length);
  assert.equal(openCheckpoint(dir).tensors.size, bf16.tensors.size);
});

test("a tensor larger than the limit has a shard to itself", async () => {
  const dir = join(scratch, "tiny-shards");
  await writeModel(dir, { checkpoint: bf16, values: new Map(), maxShardBytes: 1 });
  assert.equal(storedIn(dir).files.length, bf16.tensors.size);
});

test("names stay as the source file has them", async () => {
  const oldName = (name: string): string =>
    name.replace("model.visual.", "visual.").replace("model.language_model.", "model.");
  const old = await shardedBf16(join(scratch, "old-names"), oldName);
  const dir = join(scratch, "old-written");
  const values = changesOf(old, [Q_PROJ]);
  await writeModel(dir, { checkpoint: old, values });
  assert.deepEqual(storedIn(dir).names.sort(), [...bf16.tensors.keys()].map(oldName).sort());
  const changed = new Uint8Array(float32ToBf16(values.get(Q_PROJ) ?? assert.fail()).buffer);
  assert.deepEqual(bytesOf(openCheckpoint(dir), Q_PROJ), changed);
});

test("an untied head is written", async () => {
  const source = copyWith(TINY, join(scratch, "untied"), { "config.json": { tie_word_embeddings: false } });
  const config = readJson(join(source, "config.json"));
  writeFileSync(
    join(source, "config.json"),
    JSON.stringify({ ...config, text_config: { ...config.text_config, tie_word_embeddings: false } }),
  );
  const tied = openCheckpoint(TINY);
  const tensors = [...tied.tensors.values()].map((entry) => ({ ...entry, values: readFloat32(entry) }));
  const head = { ...(tensors.find(({ name }) => name === EMBED) ?? assert.fail()), name: HEAD };
  await writeSafetensors(join(source, "model.safetensors"), [...tensors, head]);
  const untied = openCheckpoint(source);
  const values = changesOf(untied, [HEAD]);
  await writeModel(join(scratch, "untied-written"), { checkpoint: untied, values });
  const written = openCheckpoint(join(scratch, "untied-written"));
  assert.deepEqual(readFloat32(written.tensors.get(HEAD) ?? assert.fail()), values.get(HEAD));
  assert.deepEqual(bytesOf(written, EMBED), bytesOf(untied, EMBED));
});

test("weights of an earlier run in the folder do not outlive the new ones", async () => {
  const dir = join(scratch, "reused");
  await writeModel(dir, { checkpoint: bf16, values: new Map(), maxShardBytes: 150_000 });
  writeFileSync(join(dir, "adapter_config.json"), "{}");
  await writeModel(dir, { checkpoint: bf16, values: new Map() });
  assert.deepEqual(readdirSync(dir).sort(), ["config.json", "generation_config.json", "model.safetensors"]);
  await writeModel(dir, { checkpoint: bf16, values: new Map(), maxShardBytes: 300_000 });
  assert.ok(!existsSync(join(dir, "model.safetensors")));
  assert.equal(openCheckpoint(dir).tensors.size, bf16.tensors.size);
});

test("the source's own folder, unknown parameters and values beyond float16 are refused", async () => {
  const values = changesOf(bf16, [FINAL_NORM]);
  await assert.rejects(writeModel(bf16.dir, { checkpoint: bf16, values }), refused(/is the folder of the model/));
  await assert.rejects(copyProcessorFiles(TINY, join(TINY, "../model")), refused(/is the folder of the model/));
  const strange = writeModel(join(scratch, "strange"), {
    checkpoint: bf16,
    values: new Map([["x", new Float32Array(1)]]),
  });
  await assert.rejects(strange, InternalError);

  const halfDir = copyWith(TINY, join(scratch, "f16"));
  const halves = [...openCheckpoint(TINY).tensors.values()].map((entry) => {
    return { ...entry, dtype: "F16" as const, values: float32ToFloat16(readFloat32(entry)) };
  });
  await writeSafetensors(join(halfDir, "model.safetensors"), halves);
  const half = openCheckpoint(halfDir);
  const dir = join(scratch, "f16-written");
  await writeModel(dir, { checkpoint: half, values });
  const norm = values.get(FINAL_NORM) ?? assert.fail();
  assert.deepEqual(bytesOf(openCheckpoint(dir), FINAL_NORM), new Uint8Array(float32ToFloat16(norm).buffer));
  const before = readFileSync(join(dir, "model.safetensors"));
  norm[3] = 70000;
  const tooLarge = writeModel(dir, { checkpoint: half, values });
  await assert.rejects(tooLarge, refused(/norm\.weight" has grown to 70000, more than float16/));
  assert.deepEqual(readFileSync(join(dir, "model.safetensors")), before, "the file that stood there stays");
});

const PROCESSOR = ["chat_template.jinja", "generation_config.json", "preprocessor_config.json", "tokenizer.json"];

test("processor files are copied as they are", async () => {
  const dir = join(scratch, "processor");
  await copyProcessorFiles(TINY, dir);
  assert.deepEqual(readdirSync(dir).sort(), [...PROCESSOR, "tokenizer_config.json"]);
  for (const name of PROCESSOR) assert.deepEqual(readFileSync(join(dir, name)), readFileSync(join(TINY, name)), name);
});

test("the run's pixel budget is written into the copy in both spellings", async () => {
  const dir = join(scratch, "budget");
  await copyProcessorFiles(TINY, dir, { minPixels: 2048, maxPixels: 32768 });
  const source = readJson(join(TINY, "preprocessor_config.json"));
  assert.deepEqual(readJson(join(dir, "preprocessor_config.json")), {
    ...source,
    min_pixels: 2048,
    max_pixels: 32768,
    size: { shortest_edge: 2048, longest_edge: 32768 },
  });
  assert.deepEqual(readVisionSettings(dir), { ...readVisionSettings(TINY), minPixels: 2048, maxPixels: 32768 });
  await copyProcessorFiles(TINY, dir, { maxPixels: 16384 });
  assert.deepEqual(readVisionSettings(dir), { ...readVisionSettings(TINY), maxPixels: 16384 });
});

const videoBudget = (dir: string) => readVideoBudget(dir, readVisionSettings(dir));
const PIXELS = { minPixels: 2048, maxPixels: 32768 };

test("videos keep their budget though they had none of their own and the pictures' has changed", async () => {
  const dir = join(scratch, "video-budget");
  const own = videoBudget(TINY);
  const budget = { ...PIXELS, minVideoPixels: own.minPixels, maxVideoPixels: own.maxPixels };
  await copyProcessorFiles(TINY, dir, budget);
  assert.deepEqual(videoBudget(dir), own);
  assert.equal(readVisionSettings(dir).maxPixels, 32768);
  const { size } = readJson(join(dir, "video_preprocessor_config.json"));
  assert.deepEqual(size, { shortest_edge: own.minPixels, longest_edge: own.maxPixels });
  const untouched = join(scratch, "video-untouched");
  await copyProcessorFiles(TINY, untouched, { ...budget, minPixels: own.minPixels, maxPixels: own.maxPixels });
  assert.ok(!readdirSync(untouched).includes("video_preprocessor_config.json"), "nothing to tell apart");
});

test("the videos' budget is written where the source has it: in a file of its own, or nested", async () => {
  const from = copyWith(TINY, join(scratch, "video-file"));
  const settings = readJson(join(from, "preprocessor_config.json"));
  const video = { ...settings, fps: 2, size: { shortest_edge: 4096, longest_edge: 999999 } };
  const changed = { ...PIXELS, minVideoPixels: 4096, maxVideoPixels: 77777 };
  writeFileSync(join(from, "video_preprocessor_config.json"), JSON.stringify(video));
  const dir = join(scratch, "video-file-copy");
  await copyProcessorFiles(from, dir, changed);
  assert.equal(videoBudget(dir).maxPixels, 77777);
  assert.equal(readJson(join(dir, "video_preprocessor_config.json")).fps, 2);

  writeFileSync(join(from, "processor_config.json"), JSON.stringify({ video_processor: video }));
  const nested = join(scratch, "video-nested-copy");
  await copyProcessorFiles(from, nested, changed);
  assert.equal(videoBudget(nested).maxPixels, 77777);
  assert.equal(readJson(join(nested, "processor_config.json")).video_processor.size.longest_edge, 77777);
});

test("so it is where the picture settings are nested in processor_config.json", async () => {
  const from = copyWith(TINY, join(scratch, "nested"));
  const image_processor = readJson(join(from, "preprocessor_config.json"));
  writeFileSync(join(from, "processor_config.json"), JSON.stringify({ image_processor, processor_class: "X" }));
  for (const hasBoth of [true, false]) {
    if (!hasBoth) rmSync(join(from, "preprocessor_config.json"));
    const dir = newFolder(scratch, `nested-${hasBoth}`);
    await copyProcessorFiles(from, dir, { minPixels: 2048, maxPixels: 32768 });
    assert.deepEqual(readVisionSettings(dir), { ...readVisionSettings(TINY), minPixels: 2048, maxPixels: 32768 });
    assert.equal(readJson(join(dir, "processor_config.json")).processor_class, "X");
    assert.equal(existsSync(join(dir, "preprocessor_config.json")), hasBoth);
  }
});
