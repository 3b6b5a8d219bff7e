import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { required, UserError } from "../../src/utils/errors.ts";
import { readFloat32, readHeader } from "../../src/utils/safetensors.ts";
import { decodeImage, readImageSize } from "../../src/vision/decode.ts";
import type { GridThw, ImageSource } from "../../src/vision/image.ts";
import { gridOf, imageTokenCount, patchesOf } from "../../src/vision/patches.ts";
import { readVisionSettings, type VisionSettings } from "../../src/vision/settings.ts";
import { farthest, fixture, picture, pngOf, sha256 } from "./pictures.ts";

const TINY = fileURLToPath(new URL("../fixtures/tiny-qwen3vl", import.meta.url));

interface Processor {
  readonly patch_size: number;
  readonly merge_size: number;
  readonly temporal_patch_size: number;
  readonly image_mean: readonly number[];
  readonly image_std: readonly number[];
  readonly size: { readonly shortest_edge: number; readonly longest_edge: number };
}

interface PatchRow {
  readonly settings: string;
  readonly size: readonly [width: number, height: number];
  readonly grid: GridThw;
  readonly length: number;
  readonly sha256: string;
  readonly first: readonly number[];
  readonly last: readonly number[];
}

const settingsOf = (of: Processor): VisionSettings => ({
  patchSize: of.patch_size,
  mergeSize: of.merge_size,
  temporalPatchSize: of.temporal_patch_size,
  imageMean: of.image_mean,
  imageStd: of.image_std,
  rescaleFactor: 1 / 255,
  minPixels: of.size.shortest_edge,
  maxPixels: of.size.longest_edge,
});

const golden = fixture<{ settings: Record<string, Processor>; rows: readonly PatchRow[] }>("patches.json");

for (const [name, processor] of Object.entries(golden.settings)) {
  test(`patches by the ${name} settings are transformers', bit for bit, from PNG files of 20 sizes`, async () => {
    const rows = golden.rows.filter((row) => row.settings === name);
    assert.equal(rows.length, 20);
    for (const row of rows) {
      const source = await pngOf(picture(...row.size));
      const settings = settingsOf(processor);
      const { grid, pixelValues } = patchesOf(await decodeImage(source), settings);
      const where = `picture ${row.size.join("x")}`;
      assert.deepEqual(grid, row.grid, where);
      assert.deepEqual(gridOf(await readImageSize(source), settings), row.grid, where);
      assert.equal(pixelValues.length, row.length * row.grid[1] * row.grid[2], where);
      assert.ok(farthest(pixelValues.subarray(0, 4), row.first).error < 1e-7, where); // printed decimals of float32
      assert.ok(farthest(pixelValues.subarray(-4), row.last).error < 1e-7, where);
      assert.equal(sha256(pixelValues), row.sha256, where); // the whole array
    }
  });
}

interface GoldenSample {
  readonly image_grid_thw: readonly GridThw[] | null;
  readonly input_ids: readonly number[];
}

const imagesOf = (row: string): ImageSource[] => {
  const { messages } = JSON.parse(row) as { messages: { content: { type: string; image?: string }[] }[] };
  const parts = messages.flatMap(({ content }) => content).filter(({ type }) => type === "image");
  return parts.map(({ image }) => ({ kind: "file", path: join(TINY, "data", required(image, "image path")) }));
};

test("pixel_values, grids and image tokens of the tiny checkpoint's samples equal the golden ones", async () => {
  const { samples, special_ids } = JSON.parse(readFileSync(join(TINY, "golden.json"), "utf8")) as {
    samples: readonly GoldenSample[];
    special_ids: Record<string, number>;
  };
  const { tensors } = readHeader(join(TINY, "golden.safetensors"));
  const settings = readVisionSettings(join(TINY, "model"));
  const rows = readFileSync(join(TINY, "data/train.jsonl"), "utf8").trim().split("\n");
  let compared = 0;
  for (const [k, row] of rows.entries()) {
    const patches = await Promise.all(
      imagesOf(row).map(async (image) => patchesOf(await decodeImage(image), settings)),
    );
    const sample = required(samples[k], `sample ${k}`);
    assert.deepEqual(
      patches.map(({ grid }) => grid),
      sample.image_grid_thw ?? [],
      `sample ${k}`,
    );
    const tokens = sample.input_ids.filter((id) => id === special_ids["<|image_pad|>"]).length;
    assert.equal(
      patches.reduce((sum, { grid }) => sum + imageTokenCount(grid, settings), 0),
      tokens,
      `sample ${k}`,
    );
    if (patches.length === 0) continue;
    const expected = readFloat32(required(tensors.get(`${k}.pixel_values`), `${k}.pixel_values`));
    const ours = Float32Array.from(patches.flatMap(({ pixelValues }) => [...pixelValues]));
    assert.deepEqual(farthest(ours, expected), { error: 0, at: -1 }, `sample ${k}`);
    compared++;
  }
  assert.equal(compared, 7);
});

test("gridOf and patchesOf refuse a picture of extreme shape", () => {
  const settings = settingsOf(required(golden.settings.tiny, "tiny settings"));
  assert.throws(() => gridOf({ width: 1, height: 201 }, settings), UserError);
  assert.throws(() => patchesOf(picture(1, 201), settings), UserError);
});
