// Our adapters in PEFT, and the models that they were merged into in transformers, give our logits.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { EXPORTS, weightsHash, writeExport } from "../../scripts/fixtures/exports.ts";
import { Engine } from "../../src/engine/engine.ts";
import { PictureStore } from "../../src/engine/pictures.ts";
import { decoderPrompt } from "../../src/eval/prompts.ts";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import type { TrainableSpec } from "../../src/model/trainables.ts";
import { CPU } from "../../src/runtime/device.ts";
import { readAdapter } from "../../src/train/adapterFiles.ts";
import { required } from "../../src/utils/errors.ts";
import { readFloat32, readHeader } from "../../src/utils/safetensors.ts";
import { loadTiny, type Tiny } from "../tiny.ts";
import { readJson, scratchFolder } from "./folders.ts";

const FOLDER = "test/fixtures/train/exports";
const LOGITS = 1e-5; // of the largest
const { exports, stride } = readJson(join(FOLDER, "exports.json"));
const { tensors } = readHeader(join(FOLDER, "exports.safetensors"));
const scratch = scratchFolder("exports");

const opened: Engine[] = [];
after(() => Promise.all(opened.map((engine) => engine.release())));
function open(modelDir: string, trainable: TrainableSpec): Engine {
  const engine = new Engine({ modelDir, device: CPU, trainable });
  opened.push(engine);
  return engine;
}

async function logitsOf(tiny: Tiny, sample: number, engine: Engine, set: string | null): Promise<Float32Array> {
  const { imageTokenId, vision } = tiny.processor;
  const remote = { encodePictures: async (...[pixels, by]: Parameters<Engine["encodePictures"]>) => engine.encodePictures(pixels, by) }; // biome-ignore format: one line
  const pictures = new PictureStore(remote, vision, { parameterSet: set });
  const encoded = required(tiny.encoded[sample], `sample ${sample}`);
  const prompt = await decoderPrompt(encoded, { imageTokenId, mergeSize: vision.mergeSize, pictures });
  return engine.logits(prompt, set);
}

/** @returns the largest difference from a tensor of the fixture, as a share of the largest logit */
function difference(name: string, kind: "adapter" | "merged", sample: number, got: Float32Array): number {
  const expected = readFloat32(required(tensors.get(`${name}/${kind}/${sample}`), name));
  assert.equal(Math.ceil(got.length / stride), expected.length);
  const differences = expected.map((value, i) => Math.abs((got[i * stride] as number) - value));
  return Math.max(...differences) / exports[name].largest[`${kind}/${sample}`];
}

test("the fixture holds every export", () => {
  assert.deepEqual(Object.keys(exports).sort(), Object.keys(EXPORTS).sort());
});

for (const [name, { golden }] of Object.entries(EXPORTS))
  test(`${name}: logits with the adapter are PEFT's, those of the merged model transformers'`, async (t) => {
    const { adapter, merged } = await writeExport(name, scratch);
    const { adapter_sha256, merged_sha256, files, tied, merged_apart, merge_and_unload_apart } = exports[name];
    assert.deepEqual([weightsHash(adapter), weightsHash(merged)], [adapter_sha256, merged_sha256]);
    assert.deepEqual(readdirSync(merged).filter((file) => file.includes("safetensors")).sort(), files); // biome-ignore format: one line
    const base = join("test/fixtures", golden, "model");
    const { settings, values } = readAdapter(adapter, openCheckpoint(base));
    const beside = open(base, { kind: "lora", settings });
    beside.setParameters("adapter", values);
    const whole = open(merged, { kind: "none" });
    assert.equal(openCheckpoint(merged).architecture.isHeadTied, tied);

    const tiny = await loadTiny(golden);
    const apart: Record<string, number> = {};
    for (const sample of [0, 2]) {
      apart[`adapter/${sample}`] = difference(name, "adapter", sample, await logitsOf(tiny, sample, beside, "adapter"));
      apart[`merged/${sample}`] = difference(name, "merged", sample, await logitsOf(tiny, sample, whole, null));
    }
    t.diagnostic(JSON.stringify(apart));
    for (const [what, share] of Object.entries(apart)) assert.ok(share <= LOGITS, `${what} is ${share} apart`);
    // in float32 PEFT's adapter and our merged model are one model, and PEFT merges to the same weights
    if (golden === "tiny-qwen3vl") for (const share of merged_apart) assert.ok(share <= LOGITS, `merged is ${share} apart`); // biome-ignore format: one line
    if (golden === "tiny-qwen3vl" && merge_and_unload_apart !== undefined) assert.ok(merge_and_unload_apart <= 1e-6, `weights are ${merge_and_unload_apart} apart`); // biome-ignore format: one line
  });
