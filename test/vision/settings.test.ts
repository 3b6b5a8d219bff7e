import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { UserError } from "../../src/utils/errors.ts";
import { readVisionSettings, type VisionSettings } from "../../src/vision/settings.ts";

const root = mkdtempSync(join(tmpdir(), "vision-settings-"));
after(() => rmSync(root, { recursive: true }));

/** A model folder with these files. */
function folderWith(files: Readonly<Record<string, unknown>>): string {
  const folder = mkdtempSync(join(root, "model-"));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), typeof content === "string" ? content : JSON.stringify(content));
  }
  return folder;
}

/** As Qwen/Qwen3-VL-2B-Instruct ships it. */
const HUB = {
  size: { longest_edge: 16777216, shortest_edge: 65536 },
  patch_size: 16,
  temporal_patch_size: 2,
  merge_size: 2,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
  processor_class: "Qwen3VLProcessor",
  image_processor_type: "Qwen2VLImageProcessorFast",
};

const HUB_SETTINGS: VisionSettings = {
  patchSize: 16,
  mergeSize: 2,
  temporalPatchSize: 2,
  imageMean: [0.5, 0.5, 0.5],
  imageStd: [0.5, 0.5, 0.5],
  rescaleFactor: 1 / 255,
  minPixels: 65536,
  maxPixels: 16777216,
};

const read = (content: unknown, overrides = {}): VisionSettings =>
  readVisionSettings(folderWith({ "preprocessor_config.json": content }), overrides);

test("the hub's file is read whole", () => assert.deepEqual(read(HUB), HUB_SETTINGS));

test("min_pixels and max_pixels go before size, overrides before both", () => {
  const both = { ...HUB, min_pixels: 4096, max_pixels: 8192 };
  assert.deepEqual(read(both), { ...HUB_SETTINGS, minPixels: 4096, maxPixels: 8192 });
  assert.deepEqual(read({ ...both, size: null }), { ...HUB_SETTINGS, minPixels: 4096, maxPixels: 8192 });
  assert.deepEqual(read({ ...HUB, min_pixels: null }), HUB_SETTINGS);
  assert.deepEqual(read(both, { minPixels: 1024 }), { ...HUB_SETTINGS, minPixels: 1024, maxPixels: 8192 });
  assert.deepEqual(read(HUB, { maxPixels: 65536 }), { ...HUB_SETTINGS, maxPixels: 65536 });
});

test("what the file leaves out is what transformers takes", () => {
  const { patchSize, imageMean, minPixels, maxPixels } = read({});
  assert.deepEqual({ patchSize, minPixels, maxPixels }, { patchSize: 14, minPixels: 3136, maxPixels: 1003520 });
  assert.deepEqual(imageMean, [0.48145466, 0.4578275, 0.40821073]);
});

test("the newer nested processor_config.json goes first, one without image_processor is passed over", () => {
  const nested = { image_processor: { ...HUB, patch_size: 8 }, processor_class: "Qwen3VLProcessor" };
  const files = { "processor_config.json": nested, "preprocessor_config.json": HUB };
  assert.equal(readVisionSettings(folderWith(files)).patchSize, 8);
  assert.equal(readVisionSettings(folderWith({ ...files, "processor_config.json": {} })).patchSize, 16);
  assert.equal(readVisionSettings(folderWith({ "processor_config.json": nested })).patchSize, 8);
});

const refusals: readonly (readonly [what: string, content: unknown, overrides: object, message: RegExp])[] = [
  ["bad JSON", "{", {}, /preprocessor_config\.json: cannot be read as JSON .*download it again/],
  ["no object", [], {}, /preprocessor_config\.json: its content is \[\]; expected an object/],
  ["patch_size text", { ...HUB, patch_size: "16" }, {}, /patch_size is "16"; expected a whole number above 0/],
  ["merge_size 0", { ...HUB, merge_size: 0 }, {}, /merge_size is 0; expected a whole number above 0/],
  ["size number", { ...HUB, size: 5 }, {}, /: size is 5; expected an object/],
  ["mean of two", { ...HUB, image_mean: [1, 2] }, {}, /image_mean is \[1,2\]; expected three numbers/],
  ["std zero", { ...HUB, image_std: [1, 0, 1] }, {}, /image_std is \[1,0,1\]; no entry may be 0/],
  ["factor text", { ...HUB, rescale_factor: "x" }, {}, /rescale_factor is "x"; expected a number/],
  ["no resizing", { ...HUB, do_resize: false }, {}, /do_resize is false, which is not supported; expected true/],
  ["bilinear", { ...HUB, resample: 2 }, {}, /resample is 2; only 3 \(bicubic\) is supported/],
  ["min over max", { ...HUB, min_pixels: 99, max_pixels: 98 }, {}, /min_pixels 99\) is larger .*max_pixels 98\); set/],
  ["max below min", HUB, { maxPixels: 65535 }, /min_pixels 65536\) is larger .*max_pixels 65535\)/],
  ["override", HUB, { minPixels: -1 }, /--min-pixels: it is -1; expected a whole number above 0/],
];

for (const [what, content, overrides, message] of refusals) {
  test(`refused: ${what}`, () => {
    assert.throws(
      () => read(content, overrides),
      (error) => error instanceof UserError && message.test(error.message),
    );
  });
}

test("refused: a folder without the file", () => {
  assert.throws(
    () => readVisionSettings(folderWith({})),
    (error) =>
      error instanceof UserError && /preprocessor_config\.json: not found; .*check the folder/.test(error.message),
  );
});
