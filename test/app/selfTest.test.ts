// A saved adapter is loaded again and must answer as the one that was trained.
import assert from "node:assert/strict";
import { join } from "node:path";
import { Writable } from "node:stream";
import { test } from "node:test";
import { openModel } from "../../src/app/model.ts";
import { testSavedAdapter } from "../../src/app/selfTest.ts";
import { initialValues } from "../../src/model/initialValues.ts";
import { trainableShapes } from "../../src/model/layers.ts";
import { type TrainableSpec, trainablesOf } from "../../src/model/trainables.ts";
import { writeAdapter } from "../../src/train/adapterFiles.ts";
import type { NamedArrays } from "../../src/train/replica.ts";
import { checkedAdapter } from "../../src/train/savedAdapter.ts";
import { required } from "../../src/utils/errors.ts";
import { createLog } from "../../src/utils/log.ts";
import { readFloat32, readHeader, writeSafetensors } from "../../src/utils/safetensors.ts";
import { randomAdapter } from "../eval/randomAdapter.ts";
import { adapterOf, loadTiny, loraSpec, openEngine } from "../tiny.ts";
import { copyWith, scratchFolder } from "../train/folders.ts";

const scratch = scratchFolder("self-test");
const tiny = await loadTiny();
const limits = { minPixels: null, maxPixels: null, maxImageTokens: null, maxVideoPixels: null, pixelCap: 1e6 };
const model = await openModel({ model: join(tiny.dir, "model"), ...limits, log: createLog({ quiet: true }) });
const { checkpoint } = model;

async function saved(name: string, spec: TrainableSpec, values: NamedArrays): Promise<string> {
  assert.ok(spec.kind === "lora");
  const shapes = trainableShapes(checkpoint, trainablesOf(checkpoint, spec));
  const dir = join(scratch, name);
  await writeAdapter(dir, { settings: spec.settings, values, shapes, architecture: checkpoint.architecture, baseModel: null }); // biome-ignore format: one line
  return dir;
}

/** @returns what was told */
async function tested(dir: string, spec: TrainableSpec, trained: NamedArrays): Promise<string> {
  let told = "";
  const stream = new Writable({ write: (chunk, _, done) => { told += chunk; done(); } }); // biome-ignore format: one line
  const engine = openEngine(tiny, spec);
  await engine.setValues(trained);
  await testSavedAdapter(dir, engine, { model, log: createLog({ quiet: false, stream }) });
  return told;
}

const spec = loraSpec();
const trained = new Map([...adapterOf(tiny), ...randomAdapter(checkpoint, spec.kind === "lora" ? spec.settings : assert.fail(), 0.05)]); // biome-ignore format: one line

test("an adapter that was saved well is told with how much it moves", async () => {
  const told = await tested(await saved("well", spec, trained), spec, trained);
  assert.match(told, /^self-test: the saved adapter loads, and moves logits by up to \S+ % of the largest\n$/);
});

test("with parts trained whole beside it, and lengths of DoRA, in the tower too", async () => {
  const settings = { r: 2, alpha: 8, dropout: 0.1, targetModules: "all-linear", useDora: true, modulesToSave: ["patch_embed"] }; // biome-ignore format: one line
  const all = { kind: "lora", settings } as const;
  const start = initialValues(checkpoint, trainablesOf(checkpoint, all), 5);
  const values = new Map([...start].map(([name, array]) => [name, array.map((value, i) => value * 1.01 + (i % 7) / 500)])); // biome-ignore format: one line
  assert.match(await tested(await saved("dora", all, values), all, values), /^self-test: .* loads/);
});

test("one that is not the trained one is told with how far it is from it", async () => {
  const other = new Map(trained);
  const key = required(
    [...trained.keys()].find((name) => name.endsWith("lora_B.weight")),
    "a B",
  );
  other.set(
    key,
    required(trained.get(key), key).map((value) => value * 1.5),
  );
  const dir = await saved("other", spec, other);
  await assert.rejects(tested(dir, spec, trained), /^UserError: .*other: loaded again, the adapter is not the one that was trained: logits of a small question differ by \S+e-\d of the largest, expected at most 0.00001; .*$/); // biome-ignore format: one line
});

test("one that changes nothing is a warning: the run did what it was asked", async () => {
  const idle = initialValues(checkpoint, trainablesOf(checkpoint, spec), 5);
  const told = await tested(await saved("idle", spec, idle), spec, idle);
  assert.match(told, /^warning: .*idle: the adapter changes nothing, every lora_B in it is zero\n$/);
});

test("read back number by number: a byte that differs, a key that is gone or belongs nowhere", async () => {
  const dir = await saved("bytes", spec, trained);
  assert.equal(checkedAdapter(dir, checkpoint, trained).values.size, trained.size);
  const { tensors } = readHeader(join(dir, "adapter_model.safetensors"));
  const damaged = async (
    name: string,
    change: (entries: { name: string; values: Float32Array }[]) => void,
  ): Promise<string> => {
    // biome-ignore format: one line
    const copy = copyWith(dir, join(scratch, name));
    const entries = [...tensors.values()].map((entry) => ({ ...entry, values: readFloat32(entry) }));
    change(entries);
    await writeSafetensors(join(copy, "adapter_model.safetensors"), entries);
    return copy;
  };
  const flipped = await damaged("flipped", ([first]) => required(first, "a tensor").values.set([0.5], 3));
  assert.throws(() => checkedAdapter(flipped, checkpoint, trained), /adapter_model\.safetensors: read back, ".*lora_A\.weight" is 0\.5 at place 3; -?[\d.e-]+ was saved; is the disk sound\?$/); // biome-ignore format: one line
  const gone = await damaged("gone", (entries) => entries.splice(0, 1));
  assert.throws(() => checkedAdapter(gone, checkpoint, trained), /^UserError: .*: lacks ".*lora_A\.weight" \[4,64\]/);
  const stray = await damaged("stray", ([first]) => Object.assign(required(first, "a tensor"), { name: "base_model.model.nowhere.lora_A.weight" })); // biome-ignore format: one line
  assert.throws(() => checkedAdapter(stray, checkpoint, trained), /"base_model\.model\.nowhere\.lora_A\.weight" belongs to no layer/); // biome-ignore format: one line
});
