// What evalCheckpoint opens: on which base, with which pixel budget, and what it refuses.
import assert from "node:assert/strict";
import { cpSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { EMBEDDED_MODEL } from "../../src/app/model.ts";
import { nameOf, openTarget } from "../../src/app/target.ts";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { refuseOtherBase, weightsDigest } from "../../src/train/adapterBase.ts";
import { createLog } from "../../src/utils/log.ts";
import { readFloat32, writeSafetensors } from "../../src/utils/safetensors.ts";
import { copyWith, GOLDEN_ADAPTER, newFolder, readJson, scratchFolder, shardedBf16, TINY } from "../train/folders.ts";

const scratch = scratchFolder("target");
const NONE = { minPixels: null, maxPixels: null, maxImageTokens: null, maxVideoPixels: null };
const open = (path: string, model: string | null = null, limits: Partial<typeof NONE> | Record<string, number> = {}) =>
  openTarget(path, { ...NONE, ...limits, model, pixelCap: 50_000, log: createLog({ quiet: true }) });

/** The adapter of the tiny model as a run leaves it: its base's digest and its own pixel budget beside it. */
const run = join(scratch, "run");
before(() => {
  cpSync(GOLDEN_ADAPTER, run, { recursive: true });
  cpSync(join(TINY, "preprocessor_config.json"), join(run, "preprocessor_config.json"));
  for (const [name, fields] of Object.entries({
    "adapter_config.json": { base_model_name_or_path: TINY },
    "preprocessor_config.json": {
      size: { shortest_edge: 5000, longest_edge: 60_000 },
      min_pixels: 5000,
      max_pixels: 60_000,
    },
  }))
    writeFileSync(join(run, name), JSON.stringify({ ...readJson(join(run, name)), ...fields }));
  writeFileSync(join(run, "run_config.json"), JSON.stringify({ baseWeights: weightsDigest(openCheckpoint(TINY)) }));
});

test("an adapter is opened on the base that it names, with the pixel budget saved beside it", async () => {
  const { model, adapter } = await open(run);
  assert.equal(model.name, TINY);
  assert.equal(adapter?.values.size, 42);
  assert.deepEqual([model.processor.vision.minPixels, model.processor.vision.maxPixels], [5000, 60_000]); // over the cap
  const asked = await open(run, null, { maxPixels: 9000 });
  assert.equal(asked.model.processor.vision.maxPixels, 9000, "a flag goes before what was saved");
});

test("an adapter without a budget of its own takes its base's, capped", async () => {
  const { model } = await open(GOLDEN_ADAPTER, TINY);
  assert.deepEqual([model.processor.vision.minPixels, model.processor.vision.maxPixels], [4096, 50_000]);
});

test("a whole model: the budget of one trained here counts uncapped, another's is capped", async () => {
  const plain = await open(TINY);
  assert.deepEqual([plain.adapter, plain.model.processor.vision.maxPixels], [null, 50_000]);
  const trained = copyWith(TINY, join(scratch, "trained"));
  writeFileSync(join(trained, "run_config.json"), "{}");
  assert.equal((await open(trained)).model.processor.vision.maxPixels, 65_536);
  await assert.rejects(open(TINY, EMBEDDED_MODEL), /^UserError: --model names the base of an adapter, and .* is a whole model; leave --model out$/); // biome-ignore format: one line
});

test("another base than the adapter was trained on is refused, of the same shapes too", async () => {
  const other = /^UserError: .*run: this adapter was trained on other weights than those in .*; name its own base with --model$/; // biome-ignore format: one line
  await assert.rejects(open(run, EMBEDDED_MODEL), other);
  const moved = copyWith(TINY, join(scratch, "moved"));
  assert.equal((await open(run, moved)).adapter?.values.size, 42, "the same weights elsewhere are the same");

  const changed = copyWith(TINY, join(scratch, "changed"));
  const tensors = [...openCheckpoint(TINY).tensors.values()];
  const middle = Math.floor(tensors.length / 2);
  rmSync(join(changed, "model.safetensors"));
  await writeSafetensors(
    join(changed, "model.safetensors"),
    tensors.map((entry, i) => ({ ...entry, dtype: "F32" as const, values: readFloat32(entry).map((w) => (i === middle ? w * 1.001 : w)) })), // biome-ignore format: one line
  );
  await assert.rejects(open(run, changed), other);
});

test("of an adapter that says nothing of its base's weights the shapes must fit", async () => {
  await assert.rejects(open(GOLDEN_ADAPTER, EMBEDDED_MODEL), /^UserError: .*adapter_model\.safetensors: (.|\n)*the model calls for \[4,160\] (.|\n)*\nthe base here is .*tiny-qwen3vl; where it is another, name it with --model$/); // biome-ignore format: one line
  await assert.rejects(open(GOLDEN_ADAPTER), /^UserError: .*adapter_config\.json: names no base_model_name_or_path; name the base with --model$/); // biome-ignore format: one line
  const lost = copyWith(GOLDEN_ADAPTER, join(scratch, "lost"), { "adapter_config.json": { base_model_name_or_path: "/gone/base" } }); // biome-ignore format: one line
  await assert.rejects(open(lost), /^UserError: .*its base "\/gone\/base" is not here; name it with --model$/);
  const wrong = copyWith(GOLDEN_ADAPTER, join(scratch, "wrong"), { "adapter_config.json": { base_model_name_or_path: 7 } }); // biome-ignore format: one line
  await assert.rejects(open(wrong), /base_model_name_or_path is 7; expected a hub id or a folder$/);
});

test("the digest tells weights apart, however they lie in files", async () => {
  const bf16 = await shardedBf16(join(scratch, "bf16"));
  assert.notEqual(weightsDigest(bf16), weightsDigest(openCheckpoint(TINY)), "rounded weights are others");
  const copy = openCheckpoint(copyWith(bf16.dir, join(scratch, "copy")));
  assert.equal(weightsDigest(copy), weightsDigest(bf16));
  assert.doesNotThrow(() => refuseOtherBase(GOLDEN_ADAPTER, copy), "nothing is known of this adapter");
});

test("where there is nothing to evaluate, it is said what is there", async () => {
  const empty = newFolder(scratch, "empty");
  await assert.rejects(open(empty), /^UserError: .*empty: holds neither an adapter \(adapter_config\.json\) nor a model \(config\.json\)$/); // biome-ignore format: one line
  await assert.rejects(open("no/such/place"), /^UserError: "no\/such\/place": not found; expected the folder of a run, .*, or a hub id$/); // biome-ignore format: one line
});

test("answers go to a folder named after the target", () => {
  assert.equal(nameOf(run), "run");
  assert.equal(nameOf(`${newFolder(scratch, "runs/lora/checkpoint-20")}/`), "lora-checkpoint-20");
  assert.equal(nameOf("org/model"), "org--model");
  assert.equal(readJson(join(run, "adapter_config.json")).base_model_name_or_path, TINY);
});
