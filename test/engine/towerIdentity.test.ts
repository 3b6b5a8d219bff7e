// What a tower's outputs are kept under: the same for whatever leaves them alone, another for whatever does not.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { towerIdentity, towerSize } from "../../src/engine/towerIdentity.ts";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { FULL, FULL_TEXT, type TrainableSpec, trainablesOf } from "../../src/model/trainables.ts";
import { loadProcessor } from "../../src/processor.ts";
import { CPU } from "../../src/runtime/device.ts";
import { required } from "../../src/utils/errors.ts";
import { loraSpec } from "../tiny.ts";
import { copyWith, scratchFolder, TINY } from "../train/folders.ts";

const scratch = scratchFolder("tower");
const { vision } = loadProcessor(TINY);
const checkpoint = openCheckpoint(TINY);

function identity(dir = TINY, spec: TrainableSpec = loraSpec(), settings = vision): string | null {
  const opened = dir === TINY ? checkpoint : openCheckpoint(dir);
  return towerIdentity(opened, trainablesOf(opened, spec), { device: CPU, vision: settings });
}

test("adapters of the language model, the pixel budget and the folder do not matter", () => {
  const one = identity();
  assert.match(one ?? "", /^[0-9a-f]{32}$/);
  assert.equal(identity(TINY, loraSpec({ r: 8 })), one);
  assert.equal(identity(TINY, { kind: "none" }), one);
  assert.equal(identity(TINY, loraSpec(), { ...vision, maxPixels: vision.maxPixels * 2 }), one);
  assert.equal(identity(copyWith(TINY, join(scratch, "copy"))), one);
});

test("one bit of one weight of the tower matters, of the language model not", () => {
  const dir = copyWith(TINY, join(scratch, "bits"));
  const flip = (part: string): void => {
    const entry = [...checkpoint.tensors.values()].find(({ name }) => name.includes(part));
    const { file, offset, byteLength } = required(entry, part);
    const path = file.replace(checkpoint.dir, dir);
    const bytes = readFileSync(path);
    const at = offset + byteLength - 1;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    writeFileSync(path, bytes);
  };
  flip("language_model.layers.0.mlp.up_proj");
  assert.equal(identity(dir), identity());
  flip("visual.blocks.1.mlp");
  assert.notEqual(identity(dir), identity());
});

test("how pictures are prepared, and on what they are computed, matters", () => {
  assert.notEqual(identity(TINY, loraSpec(), { ...vision, imageMean: [0.4, 0.5, 0.5] }), identity());
  const trainables = trainablesOf(checkpoint, loraSpec());
  const onCard = towerIdentity(checkpoint, trainables, { device: { kind: "gpu", index: 0 }, vision });
  assert.notEqual(onCard, identity());
});

test("a tower that trains, or is adapted, has none", () => {
  assert.equal(identity(TINY, FULL), null);
  const onVision = { kind: "lora", settings: { r: 4, alpha: 8, dropout: 0, targetModules: "all-linear" } } as const;
  assert.equal(identity(TINY, onVision), null);
  assert.equal(typeof identity(TINY, FULL_TEXT), "string");
});

test("the size of the tower: the numbers of its own weights", () => {
  const own = [...checkpoint.tensors].filter(([name]) => name.startsWith("model.visual."));
  const count = own.reduce((sum, [, { shape }]) => sum + shape.reduce((a, b) => a * b, 1), 0);
  assert.equal(towerSize(checkpoint), count);
  assert.ok(count > 1000);
});
