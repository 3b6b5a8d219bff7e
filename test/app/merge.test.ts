// Adapters worked into their bases: what stands in the folder afterwards, and what is refused.
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { EXPORTS, writeExport } from "../../scripts/fixtures/exports.ts";
import { type MergeOptions, mergeInto, refuseOccupied, refuseWhole } from "../../src/app/merge.ts";
import { openTarget, type Target } from "../../src/app/target.ts";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { EMBED, HEAD } from "../../src/model/parameters.ts";
import { Interrupted, required } from "../../src/utils/errors.ts";
import { createLog } from "../../src/utils/log.ts";
import { readFloat32, readHeader, readTensorBytes, writeSafetensors } from "../../src/utils/safetensors.ts";
import { readVisionSettings } from "../../src/vision/settings.ts";
import { copyWith, newFolder, readJson, scratchFolder, TINY } from "../train/folders.ts";

const scratch = scratchFolder("merge");
const log = createLog({ quiet: true });
const limits = { minPixels: null, maxPixels: null, maxImageTokens: null, maxVideoPixels: null, pixelCap: 1e6 };
const target = (dir: string, model: string | null = null): Promise<Target> =>
  openTarget(dir, { ...limits, model, log });

const { signal } = new AbortController();
const merge = (of: Target, out: string, options: Partial<MergeOptions> = {}): Promise<string> =>
  mergeInto(of, { out, dtype: null, maxShardSize: 5e9, check: false, log, signal, ...options });

const lora = await writeExport("lora", scratch);
const PROCESSOR = ["chat_template.jinja", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"];

test("a whole folder: the base's files, weights changed where the adapter is and nowhere else", () => {
  const [base, merged] = [openCheckpoint(TINY), openCheckpoint(lora.merged)];
  assert.deepEqual(readdirSync(lora.merged).sort(), ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", ...PROCESSOR.slice(1)]); // biome-ignore format: one line
  for (const file of ["config.json", "generation_config.json", ...PROCESSOR]) assert.deepEqual(readFileSync(join(lora.merged, file)), readFileSync(join(TINY, file)), file); // biome-ignore format: one line
  assert.deepEqual([...merged.tensors.keys()], [...base.tensors.keys()]);
  for (const [name, entry] of base.tensors) {
    const isSame = Buffer.compare(readTensorBytes(entry), readTensorBytes(required(merged.tensors.get(name), name)));
    assert.equal(isSame !== 0, /layers\.\d+\.(self_attn\.[qv]|mlp\.down)_proj/.test(name), name);
  }
});

test("with the run's pixel budget and settings, where the adapter's folder has them", async () => {
  const run = copyWith(lora.adapter, join(scratch, "run"));
  const budget = { size: { shortest_edge: 5000, longest_edge: 60_000 }, min_pixels: 5000, max_pixels: 60_000 };
  cpSync(join(TINY, "preprocessor_config.json"), join(run, "preprocessor_config.json"));
  copyWith(run, join(scratch, "budget"), { "preprocessor_config.json": budget });
  writeFileSync(join(scratch, "budget", "run_config.json"), '{"model": "tiny"}\n');
  const out = join(scratch, "with-budget");
  await merge(await target(join(scratch, "budget")), out);
  const { minPixels, maxPixels } = readVisionSettings(out);
  assert.deepEqual([minPixels, maxPixels], [5000, 60_000]);
  assert.equal(readFileSync(join(out, "run_config.json"), "utf8"), '{"model": "tiny"}\n');
});

test("an adapter on a tied head: head and embedding part, in weights and in config.json", async () => {
  const { merged } = await writeExport("lora_on_tied_head", scratch);
  const { tensors, architecture } = openCheckpoint(merged);
  assert.equal(architecture.isHeadTied, false);
  assert.equal(readJson(join(merged, "config.json")).tie_word_embeddings, false);
  const [embed, head] = [EMBED, HEAD].map((name) => readTensorBytes(required(tensors.get(name), name)));
  assert.deepEqual(embed, readTensorBytes(required(openCheckpoint(TINY).tensors.get(EMBED), EMBED)));
  assert.notDeepEqual(head, embed);
});

test("an embedding that trained whole stays one with the head", async () => {
  const { merged } = await writeExport("tied_embedding", scratch);
  const { tensors, architecture } = openCheckpoint(merged);
  assert.ok(architecture.isHeadTied && !tensors.has(HEAD));
  assert.ok(!readHeader(join(merged, "model.safetensors")).tensors.has(HEAD));
  assert.notDeepEqual(readTensorBytes(required(tensors.get(EMBED), EMBED)), readTensorBytes(required(openCheckpoint(TINY).tensors.get(EMBED), EMBED))); // biome-ignore format: one line
});

test("another dtype: every weight is stored in it, and config.json says so", async () => {
  const of = await target(lora.adapter);
  for (const [dtype, stored] of [
    ["bfloat16", "BF16"],
    ["float16", "F16"],
  ] as const) {
    const out = join(scratch, dtype);
    assert.match(await merge(of, out, { dtype, check: true }), /^merged .*; logits of a small question are \S+ % .*which the adapter moves by \S+ % of the largest$/); // biome-ignore format: one line
    for (const { dtype: found } of openCheckpoint(out).tensors.values()) assert.equal(found, stored);
    assert.equal(readJson(join(out, "config.json")).dtype, dtype);
  }
});

test("what was there stays until the new model is whole; nothing is left of one that was broken off", async () => {
  const out = newFolder(scratch, "broken-off");
  writeFileSync(join(out, "config.json"), "former");
  const controller = new AbortController();
  controller.abort();
  const of = await target(lora.adapter);
  await assert.rejects(merge(of, out, { signal: controller.signal }), Interrupted);
  assert.deepEqual(readdirSync(out), ["config.json"]);
  const left = readdirSync(scratch).filter((name) => name.includes("tmp"));
  assert.deepEqual(left, []);
  // a process that was killed leaves its folder: the next merge into the same place clears it away, and nothing else
  for (const name of ["broken-off.tmp-999999", "other.tmp-999999"]) mkdirSync(join(scratch, name));
  await merge(of, out);
  assert.deepEqual(readdirSync(scratch).filter((name) => name.includes("tmp")), ["other.tmp-999999"]); // biome-ignore format: one line
  assert.ok(existsSync(join(out, "model.safetensors")));
});

test("a folder that is not empty is refused; with --overwrite, one that holds more than a model", () => {
  const out = newFolder(scratch, "occupied");
  refuseOccupied(out, false);
  refuseOccupied(join(scratch, "new"), false);
  writeFileSync(join(out, "config.json"), "{}");
  assert.throws(() => refuseOccupied(out, false), /^UserError: --out .*occupied: is not empty; name a new folder, or add --overwrite to replace the model in it$/); // biome-ignore format: one line
  refuseOccupied(out, true);
  writeFileSync(join(out, "thesis.tex"), "years");
  assert.throws(() => refuseOccupied(out, true), /^UserError: --overwrite: .*thesis\.tex is no part of a merged model and would be lost; name another folder with --out$/); // biome-ignore format: one line
  assert.throws(() => refuseOccupied(lora.adapter, true), /adapter\S+ is no part of a merged model/);
  assert.throws(() => refuseOccupied(join(out, "config.json"), true), /^UserError: --out .*: is a file; name a folder$/); // biome-ignore format: one line
});

test("the base's own folder, a whole model, an adapter that was never trained", async () => {
  const base = copyWith(TINY, join(scratch, "base"));
  await assert.rejects(merge(await target(lora.adapter, base), base), /^UserError: .*base: is the folder of the model that is read/); // biome-ignore format: one line
  assert.throws(() => refuseWhole(TINY), /^UserError: .*: is a whole model, as full fine-tuning writes it, and no adapter: there is nothing to merge, use the folder as it is$/); // biome-ignore format: one line
  refuseWhole(lora.adapter);

  const idle = copyWith(lora.adapter, join(scratch, "idle"));
  const { tensors } = readHeader(join(lora.adapter, "adapter_model.safetensors"));
  await writeSafetensors(
    join(idle, "adapter_model.safetensors"),
    [...tensors.values()].map((entry) => ({ ...entry, values: readFloat32(entry).map((value) => (entry.name.includes("lora_B") ? 0 : value)) })), // biome-ignore format: one line
  );
  await assert.rejects(merge(await target(idle), join(scratch, "never")), /^UserError: .*idle: every lora_B is zero, so the adapter changes nothing: it was never trained$/); // biome-ignore format: one line
  assert.ok(!existsSync(join(scratch, "never")));
});

test("every export that is compared with PEFT is one of the kinds named in the documentation", () => {
  const text = readFileSync("docs/exporting.md", "utf8");
  for (const name of Object.keys(EXPORTS)) assert.ok(text.includes(`\`${name}\``), name);
});
