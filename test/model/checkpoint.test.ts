// Checkpoint folders: one file or many, names of older transformers, and what is refused.
import assert from "node:assert/strict";
import { readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { UserError } from "../../src/utils/errors.ts";
import { readHeader, readTensorBytes, type WritableTensor, writeSafetensors } from "../../src/utils/safetensors.ts";
import { changed, readJson, SHARDED, TINY, withConfig } from "./folders.ts";

const WEIGHTS = "model.safetensors";
const INDEX = "model.safetensors.index.json";

function refuses(dir: string, ...messages: readonly RegExp[]): void {
  assert.throws(
    () => openCheckpoint(dir),
    (thrown: Error) => {
      for (const message of messages) assert.match(thrown.message, message);
      return thrown instanceof UserError && thrown.message.includes(dir);
    },
  );
}

/** The tiny weights under other names. */
async function renamed(rename: (name: string) => string | null): Promise<string> {
  const tensors: WritableTensor[] = [];
  for (const entry of readHeader(join(TINY, WEIGHTS)).tensors.values()) {
    const name = rename(entry.name);
    const { dtype, shape } = entry;
    if (name !== null) tensors.push({ name, dtype, shape, values: readTensorBytes(entry) });
  }
  const dir = changed(TINY, () => undefined);
  await writeSafetensors(join(dir, WEIGHTS), tensors);
  return dir;
}

test("every weight of a single file, and of many", () => {
  const { tensors } = openCheckpoint(TINY);
  assert.deepEqual([...tensors.keys()].sort(), [...readHeader(join(TINY, WEIGHTS)).tensors.keys()].sort());
  const sharded = openCheckpoint(SHARDED);
  const index = readJson(join(SHARDED, INDEX)).weight_map as Record<string, string>;
  assert.deepEqual(Object.fromEntries([...sharded.tensors].map(([name, { file }]) => [name, basename(file)])), index);
  assert.deepEqual(sharded.tensors.get("lm_head.weight")?.dtype, "BF16");
});

test("names as transformers wrote them before 4.52", async () => {
  const old = await renamed((name) =>
    name.replace(/^model\.visual\./, "visual.").replace(/^model\.language_model\./, "model."),
  );
  const { tensors } = openCheckpoint(old);
  assert.deepEqual([...tensors.keys()], [...openCheckpoint(TINY).tensors.keys()]);
  const name = "model.language_model.layers.1.self_attn.q_norm.weight";
  assert.equal(tensors.get(name)?.name, "model.layers.1.self_attn.q_norm.weight", "read under the name in the file");
});

test("refused: no folder, no weights, no shard", () => {
  refuses(join(TINY, "nowhere"), /no such folder; expected a Hugging Face checkpoint/);
  refuses(
    changed(TINY, (dir) => rmSync(join(dir, WEIGHTS))),
    /no weights; expected model\.safetensors, or model\.safetensors\.index\.json with its shards/,
  );
  refuses(
    changed(SHARDED, (dir) => rmSync(join(dir, "model-00002-of-00003.safetensors"))),
    /model-00002-of-00003\.safetensors: missing, though model\.safetensors\.index\.json names it; download it again/,
  );
});

test("refused: a file that is cut off", () => {
  refuses(
    changed(TINY, (dir) => truncateSync(join(dir, WEIGHTS), readFileSync(join(dir, WEIGHTS)).length - 1)),
    /model\.safetensors: cut off: tensor "/,
  );
  refuses(
    changed(TINY, (dir) => truncateSync(join(dir, WEIGHTS), 100)),
    /cut off or not safetensors: it announces a header of/,
  );
});

test("refused: an index that promises what no shard has, leads elsewhere or is none", () => {
  const withIndex = (weightMap: unknown): string =>
    changed(SHARDED, (dir) => writeFileSync(join(dir, INDEX), JSON.stringify({ weight_map: weightMap })));
  const index = readJson(join(SHARDED, INDEX)).weight_map as Record<string, string>;
  refuses(
    withIndex({ ...index, "model.more": "model-00001-of-00003.safetensors" }),
    /model-00001-of-00003\.safetensors: lacks the tensor "model\.more" that model\.safetensors\.index\.json promises/,
  );
  refuses(
    withIndex({ a: "../other.safetensors" }),
    /"a" lies in "\.\.\/other\.safetensors"; expected the name of a file in this folder/,
  );
  refuses(withIndex({ a: 3 }), /"a" lies in 3; expected the name of a file/);
  refuses(withIndex(undefined), /weight_map is nothing; expected shards by tensor/);
});

test("refused: a weight that is missing, of another shape or dtype", async () => {
  const name = "model.visual.merger.linear_fc1.weight";
  refuses(
    await renamed((known) => (known === name ? null : known)),
    /the weights lack "model\.visual\.merger\.linear_fc1/,
  );
  refuses(
    withConfig((config) => Object.assign(config.text_config as object, { intermediate_size: 161 })),
    /gate_proj\.weight" is \[160,64\], config\.json calls for \[161,64\]/,
  );
  refuses(
    withConfig((config) => {
      config.tie_word_embeddings = false;
    }),
    /the weights lack "lm_head\.weight" \[700,64\], which config\.json calls for/,
  );
  const bias = "model.visual.patch_embed.proj.bias";
  const dir = changed(TINY, () => undefined);
  const tensors = [...readHeader(join(TINY, WEIGHTS)).tensors.values()].map(
    (entry): WritableTensor =>
      entry.name === bias
        ? { ...entry, dtype: "F64", values: new Float64Array(48) }
        : { name: entry.name, dtype: entry.dtype, shape: entry.shape, values: readTensorBytes(entry) },
  );
  await writeSafetensors(join(dir, WEIGHTS), tensors);
  refuses(dir, /"model\.visual\.patch_embed\.proj\.bias" has dtype F64; expected F32, BF16 or F16/);
});
