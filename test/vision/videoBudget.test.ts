import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readVisionSettings } from "../../src/vision/settings.ts";
import { readVideoBudget, type VideoBudget } from "../../src/vision/videoBudget.ts";

const root = mkdtempSync(join(tmpdir(), "video-budget-"));
after(() => rmSync(root, { recursive: true }));

const PICTURES = {
  patch_size: 16,
  merge_size: 2,
  temporal_patch_size: 2,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
};
const sized = (shortest_edge: number, longest_edge: number) => ({ ...PICTURES, size: { shortest_edge, longest_edge } });

/** A folder with the pictures' settings and these files. */
function folderWith(files: Readonly<Record<string, unknown>>): string {
  const folder = mkdtempSync(join(root, "model-"));
  const all = { "preprocessor_config.json": { ...sized(65536, 16777216), min_pixels: 1, max_pixels: 2 }, ...files };
  for (const [name, content] of Object.entries(all)) writeFileSync(join(folder, name), JSON.stringify(content));
  return folder;
}

const read = (folder: string, overrides = {}): VideoBudget =>
  readVideoBudget(folder, { ...readVisionSettings(folder) }, overrides);
const VIDEO = "video_preprocessor_config.json";
const NESTED = "processor_config.json";

test("as Qwen/Qwen3-VL-2B-Instruct ships it", () => {
  const folder = folderWith({ [VIDEO]: { ...sized(4096, 25165824), fps: 2, min_frames: 4, max_frames: 768 } });
  assert.deepEqual(read(folder), { minPixels: 4096, maxPixels: 25165824, maxFrameTokens: null });
});

test("nested settings go before the videos' own file, that before the pictures', and only size counts", () => {
  const nested = { image_processor: PICTURES, video_processor: sized(11, 12) };
  assert.equal(read(folderWith({ [NESTED]: nested, [VIDEO]: sized(21, 22) })).maxPixels, 12);
  assert.equal(read(folderWith({ [NESTED]: { image_processor: PICTURES }, [VIDEO]: sized(21, 22) })).maxPixels, 22);
  assert.deepEqual(read(folderWith({})), { minPixels: 65536, maxPixels: 16777216, maxFrameTokens: null });
});

test("what a file leaves out is transformers' default", () => {
  assert.deepEqual(read(folderWith({ [VIDEO]: {} })), { minPixels: 131072, maxPixels: 786432, maxFrameTokens: null });
  assert.equal(read(folderWith({ [VIDEO]: { cap_pixels_per_frame: true } })).maxFrameTokens, 768);
  const capped = { cap_pixels_per_frame: true, max_video_tokens: 128 };
  assert.equal(read(folderWith({ [VIDEO]: capped })).maxFrameTokens, 128);
});

test("a run's own budget replaces the checkpoint's", () => {
  const folder = folderWith({ [VIDEO]: sized(4096, 25165824) });
  assert.deepEqual(read(folder, { maxVideoPixels: 5000 }), { minPixels: 4096, maxPixels: 5000, maxFrameTokens: null });
  assert.deepEqual(read(folder, { minVideoPixels: 1, maxPixels: 7 }).minPixels, 1);
});

for (const [what, files, message, overrides] of [
  [
    "another patch size",
    { [VIDEO]: { patch_size: 14 } },
    /config\.json: patch_size is 14 for videos and 16 for pictures/,
  ],
  ["another mean", { [VIDEO]: { image_mean: [0, 0, 0] } }, /image_mean is \[0,0,0\] for videos and \[0\.5,0\.5,0\.5\]/],
  ["a size that is none", { [VIDEO]: { size: { longest_edge: "a" } } }, /size\.longest_edge is "a"; expected a whole/],
  ["no resizing", { [VIDEO]: { do_resize: false } }, /do_resize is false, which is not supported/],
  [
    "limits the wrong way round",
    { [VIDEO]: sized(9, 8) },
    /the smallest video \(size\.shortest_edge 9\) is larger than/,
  ],
  [
    "a limit below the smallest",
    { [VIDEO]: sized(9, 99) },
    /larger than the largest \(8\); raise --max-video-pixels/,
    { maxVideoPixels: 8 },
  ],
] as const) {
  test(`${what} is refused by file and key`, () => {
    const folder = folderWith(files);
    assert.throws(
      () => read(folder, overrides),
      (thrown: Error) => {
        assert.match(thrown.message, message);
        assert.ok(thrown.message.startsWith(join(folder, VIDEO)));
        return thrown.name === "UserError";
      },
    );
  });
}
