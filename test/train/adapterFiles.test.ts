import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { trainableShapes } from "../../src/model/layers.ts";
import { type LoraSettings, loraModules } from "../../src/model/lora.ts";
import { readAdapter, writeAdapter } from "../../src/train/adapterFiles.ts";
import { bf16ToFloat32, float16ToFloat32, float32ToBf16, float32ToFloat16 } from "../../src/utils/bf16.ts";
import { UserError } from "../../src/utils/errors.ts";
import { readFloat32, readHeader, type WritableTensor, writeSafetensors } from "../../src/utils/safetensors.ts";
import { copyWith, GOLDEN_ADAPTER, newFolder, randomArrays, readJson, scratchFolder, TINY } from "./folders.ts";

const checkpoint = openCheckpoint(TINY);
const scratch = scratchFolder("adapter-files");
const WEIGHTS = "adapter_model.safetensors";
const CONFIG = "adapter_config.json";

/** PEFT's own adapter of the tiny model, tensor by tensor. */
const golden = new Map(
  [...readHeader(join(GOLDEN_ADAPTER, WEIGHTS)).tensors].map(([name, entry]) => [name, readFloat32(entry)]),
);

const refused = (pattern: RegExp) => (thrown: unknown) => {
  assert.ok(thrown instanceof UserError, String(thrown));
  assert.match(thrown.message, pattern);
  return true;
};

function writable(settings: LoraSettings, baseModel: string | null = null) {
  const lora = { settings, modules: loraModules(checkpoint.architecture, settings) };
  const shapes = trainableShapes(checkpoint, { full: new Set(), lora });
  const { architecture } = checkpoint;
  return { settings, shapes, values: randomArrays(shapes, "adapter"), architecture, baseModel };
}

test("PEFT's own adapter is read whole", () => {
  const { settings, values } = readAdapter(GOLDEN_ADAPTER, checkpoint);
  const { target_modules: targetModules } = readJson(join(GOLDEN_ADAPTER, CONFIG));
  assert.deepEqual(settings, { r: 4, alpha: 32, dropout: 0, targetModules });
  assert.equal(golden.size, 42);
  assert.deepEqual(new Map([...values].sort()), new Map([...golden].sort()));
});

interface TargetCase {
  readonly about: string;
  readonly target_modules: string | string[];
  readonly shapes: Record<string, number[]>;
}
const { cases } = readJson("test/fixtures/train/adapters/targets.json") as { cases: TargetCase[] };

/** A folder as PEFT would save it for these targets. */
async function peftFolder(name: string, { target_modules, shapes }: TargetCase): Promise<string> {
  const dir = copyWith(GOLDEN_ADAPTER, join(scratch, name), { [CONFIG]: { target_modules, r: 2, lora_alpha: 4 } });
  const arrays = randomArrays(new Map(Object.entries(shapes)), name);
  const tensors = Object.entries(shapes).map(([key, shape]): WritableTensor => {
    return { name: key, shape, dtype: "F32", values: arrays.get(key) ?? assert.fail(key) };
  });
  await writeSafetensors(join(dir, WEIGHTS), tensors);
  return dir;
}

for (const [i, one] of cases.entries()) {
  test(`targets as PEFT reads them: ${one.about}`, async () => {
    const dir = await peftFolder(`targets-${i}`, one);
    if (Object.keys(one.shapes).some((key) => key.includes("patch_embed"))) {
      assert.throws(
        () => readAdapter(dir, checkpoint),
        refused(/patch_embed\.proj\.lora_A\.weight" belongs to no layer/),
      );
      return;
    }
    assert.deepEqual([...readAdapter(dir, checkpoint).values.keys()].sort(), Object.keys(one.shapes).sort());
  });
}

test("bfloat16 and float16 files give the numbers that they hold", async () => {
  for (const [dtype, toBits, fromBits] of [
    ["BF16", float32ToBf16, bf16ToFloat32],
    ["F16", float32ToFloat16, float16ToFloat32],
  ] as const) {
    const dir = copyWith(GOLDEN_ADAPTER, join(scratch, dtype));
    const { tensors } = readHeader(join(GOLDEN_ADAPTER, WEIGHTS));
    const half = [...tensors.values()].map(({ name, shape }) => {
      return { name, shape, dtype, values: toBits(golden.get(name) ?? assert.fail(name)) };
    });
    await writeSafetensors(join(dir, WEIGHTS), half);
    const { values } = readAdapter(dir, checkpoint);
    for (const { name, values: bits } of half) assert.deepEqual(values.get(name), fromBits(bits), name);
  }
});

test("what is not computed is refused by name, never passed over", () => {
  const cases: [object, RegExp][] = [
    [{ use_dora: true }, /adapter_model\.safetensors: lacks ".*lora_magnitude_vector" \[64\]/],
    [{ use_dora: "yes" }, /adapter_config\.json: use_dora is "yes"; expected true or false/],
    [{ use_rslora: 1 }, /use_rslora is 1; expected true or false/],
    [{ use_qalora: true }, /use_qalora is true/],
    [{ bias: "lora_only" }, /bias is "lora_only"; only "none" is supported/],
    [{ lora_bias: true }, /lora_bias is true/],
    [{ fan_in_fan_out: true }, /fan_in_fan_out is true/],
    [{ modules_to_save: ["lm_head"] }, /adapter_config\.json: modules_to_save unties the head/],
    [{ modules_to_save: ["embed_tokens"] }, /modules_to_save unties the head/],
    [{ modules_to_save: ["merger"] }, /lacks "base_model\.model\.model\.visual\.merger\.linear_fc1\.weight"/],
    [{ modules_to_save: ["mergers"] }, /adapter_config\.json: modules_to_save: no module .* is called "mergers"/],
    [{ modules_to_save: ["layers.1"] }, /modules_to_save: model.*layers\.1.*q_proj would train whole and under an/],
    [{ modules_to_save: "merger" }, /modules_to_save is "merger"; expected a list of module names/],
    [{ rank_pattern: { q_proj: 8 } }, /rank_pattern is \{"q_proj":8\}/],
    [{ alpha_pattern: { q_proj: 8 } }, /alpha_pattern is/],
    [{ layers_to_transform: [1] }, /layers_to_transform is \[1\]/],
    [{ layers_to_transform: 0 }, /layers_to_transform is 0/],
    [{ layer_replication: [[0, 2]] }, /layer_replication is/],
    [{ exclude_modules: ["v_proj"] }, /exclude_modules is/],
    [{ target_parameters: ["experts.w"] }, /target_parameters is/],
    [{ trainable_token_indices: [5] }, /trainable_token_indices is/],
    [{ init_lora_weights: "pissa" }, /init_lora_weights is "pissa"; such an adapter belongs to changed base weights/],
    [{ use_something_new: true }, /use_something_new is true; only null is supported/],
    [{ peft_type: "LOHA" }, /peft_type is "LOHA"; expected "LORA"/],
    [{ r: 0 }, /r is 0; expected a whole number of at least 1/],
    [{ r: "4" }, /r is "4"/],
    [{ lora_alpha: null }, /lora_alpha is null; expected a number above 0/],
    [{ lora_dropout: 1 }, /lora_dropout is 1; expected a number from 0 to below 1/],
    [{ target_modules: null }, /target_modules is null; expected a list of module names, or a regex/],
    [{ target_modules: [] }, /target_modules is a list/],
    [{ target_modules: ["nowhere"] }, /adapter_config\.json: target_modules: \["nowhere"\] matches no linear layer/],
    [{ target_modules: "(" }, /adapter_config\.json: target_modules: "\(" is not a regular expression/],
    [{ use_qalora: true, r: -1 }, /r is -1.*\n.*use_qalora is true/],
  ];
  for (const [i, [change, pattern]] of cases.entries()) {
    const dir = copyWith(GOLDEN_ADAPTER, join(scratch, `refused-${i}`), { [CONFIG]: change });
    assert.throws(() => readAdapter(dir, checkpoint), refused(pattern));
  }
});

test("settings that change nothing once an adapter is trained are let through", () => {
  const harmless = { init_lora_weights: "gaussian", task_type: null, revision: "main", peft_version: "0.9.0" };
  const more = { layers_to_transform: [], exclude_modules: [], use_something_new: false };
  const dir = copyWith(GOLDEN_ADAPTER, join(scratch, "harmless"), { [CONFIG]: { ...harmless, ...more } });
  assert.equal(readAdapter(dir, checkpoint).values.size, 42);
});

test("every key must be there, with its shape, and belong to a layer", async () => {
  const all = [...readHeader(join(GOLDEN_ADAPTER, WEIGHTS)).tensors.values()].map((entry): WritableTensor => {
    return { name: entry.name, shape: entry.shape, dtype: "F32", values: readFloat32(entry) };
  });
  const [first, ...rest] = all;
  assert.ok(first);
  const renamed = (from: string, to: string) =>
    all.map((tensor) => ({ ...tensor, name: tensor.name.replace(from, to) }));
  const turned = { ...first, shape: first.shape.toReversed() };
  const cases: [WritableTensor[], RegExp][] = [
    [rest, /adapter_model\.safetensors: lacks "base_model.*lora_A\.weight" \[4,\d+\], which adapter_config\.json/],
    [[...all, { ...first, name: "extra" }], /"extra" belongs to no layer/],
    [[turned, ...rest], /lora_A\.weight" is \[\d+,4\], the model calls for \[4,\d+\]/],
    [renamed("base_model.model.", ""), /and 41 more of this kind\)\n.*expected keys like "base_model\.model\.model\./],
    [renamed(".weight", ".default.weight"), /lora_A\.default\.weight" belongs to no layer/],
  ];
  for (const [i, [tensors, pattern]] of cases.entries()) {
    const dir = copyWith(GOLDEN_ADAPTER, join(scratch, `keys-${i}`));
    await writeSafetensors(join(dir, WEIGHTS), tensors);
    assert.throws(() => readAdapter(dir, checkpoint), refused(pattern));
  }
});

test("missing and broken files are named", () => {
  const dir = copyWith(GOLDEN_ADAPTER, join(scratch, "broken"));
  writeFileSync(join(dir, WEIGHTS), readFileSync(join(dir, WEIGHTS)).subarray(0, -10));
  assert.throws(() => readAdapter(dir, checkpoint), refused(/adapter_model\.safetensors: cut off/));
  rmSync(join(dir, WEIGHTS));
  assert.throws(() => readAdapter(dir, checkpoint), refused(/adapter_model\.safetensors: not found/));
  writeFileSync(join(dir, "adapter_model.bin"), "pickle");
  assert.throws(() => readAdapter(dir, checkpoint), refused(/adapter_model\.bin is a pickle, which is not read/));
  rmSync(join(dir, CONFIG));
  assert.throws(() => readAdapter(dir, checkpoint), refused(/adapter_config\.json: not found; an adapter folder/));
});

test("a written adapter has PEFT's fields, reads back equal, and gives the same bytes when written again", async () => {
  const dir = join(scratch, "written");
  const { settings, values } = readAdapter(GOLDEN_ADAPTER, checkpoint);
  await writeAdapter(dir, { ...writable(settings), values });
  const theirs = { ...readJson(join(GOLDEN_ADAPTER, CONFIG)), task_type: "CAUSAL_LM" };
  assert.deepEqual(readJson(join(dir, CONFIG)), theirs);
  assert.deepEqual(Object.keys(readJson(join(dir, CONFIG))), Object.keys(readJson(join(GOLDEN_ADAPTER, CONFIG))));
  assert.deepEqual(readHeader(join(dir, WEIGHTS)).metadata, { format: "pt" });
  const again = readAdapter(dir, checkpoint);
  assert.deepEqual(again, { settings, values });
  const second = join(scratch, "written-again");
  await writeAdapter(second, { ...writable(again.settings), values: again.values });
  for (const name of [WEIGHTS, CONFIG, "README.md"])
    assert.deepEqual(readFileSync(join(second, name)), readFileSync(join(dir, name)), name);
});

test("targets that PEFT would also apply to an embedding, a convolution or a block are written out by name", async () => {
  const written = async (targetModules: LoraSettings["targetModules"]): Promise<unknown> => {
    const dir = newFolder(scratch, "targets-written");
    await writeAdapter(dir, writable({ r: 2, alpha: 4, dropout: 0.1, targetModules }));
    assert.equal(
      readAdapter(dir, checkpoint).values.size,
      writable({ r: 2, alpha: 4, dropout: 0, targetModules }).values.size,
    );
    return readJson(join(dir, CONFIG)).target_modules;
  };
  const blocks = [0, 1, 2].map((i) => `model.visual.blocks.${i}.attn.proj`);
  assert.deepEqual(await written(["proj"]), blocks);
  assert.deepEqual(await written(".*language_model\\.layers\\.0\\.mlp.*"), [
    ...["gate_proj", "up_proj", "down_proj"].map((name) => `model.language_model.layers.0.mlp.${name}`),
  ]);
  const safe = ".*language_model.*(q|v)_proj";
  assert.equal(await written(safe), safe);
  assert.deepEqual(await written(["q_proj", "attn.proj"]), ["q_proj", "attn.proj"]);
});

test("the card names a base model from the hub, and no folder", async () => {
  const settings = { r: 2, alpha: 4, dropout: 0, targetModules: ["q_proj"] };
  const head = async (baseModel: string | null): Promise<string> => {
    const dir = newFolder(scratch, "card");
    await writeAdapter(dir, writable(settings, baseModel));
    assert.equal(readJson(join(dir, CONFIG)).base_model_name_or_path, baseModel);
    return readFileSync(join(dir, "README.md"), "utf8").split("---\n")[1] ?? "";
  };
  const hub = await head("Qwen/Qwen3-VL-2B-Instruct");
  assert.match(hub, /^base_model: Qwen\/Qwen3-VL-2B-Instruct\nlibrary_name: peft\n/);
  assert.match(hub, /^- base_model:adapter:Qwen\/Qwen3-VL-2B-Instruct$/m);
  for (const folder of ["/models/qwen", "./models/qwen", "src/model", null])
    assert.match(await head(folder), /^library_name: peft\npipeline_tag: image-text-to-text\ntags:\n- lora\n$/);
});

test("a folder that cannot be written is an error that names it, and what stood there stays", async () => {
  const dir = copyWith(GOLDEN_ADAPTER, join(scratch, "blocked"));
  rmSync(join(dir, WEIGHTS));
  cpSync(GOLDEN_ADAPTER, join(dir, WEIGHTS), { recursive: true }); // a folder where the file should go
  const adapter = writable({ r: 2, alpha: 4, dropout: 0, targetModules: ["q_proj"] });
  await assert.rejects(writeAdapter(dir, adapter), refused(/adapter_model\.safetensors: cannot be written/));
  assert.deepEqual(readJson(join(dir, CONFIG)), readJson(join(GOLDEN_ADAPTER, CONFIG)));
});
