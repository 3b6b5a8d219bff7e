import assert from "node:assert/strict";
import { test } from "node:test";
import { UserError } from "../../src/utils/errors.ts";
import type { GridThw } from "../../src/vision/image.ts";
import { measure, place } from "../../src/vision/placement.ts";
import { resizeBicubic } from "../../src/vision/resize.ts";
import type { VisionSettings } from "../../src/vision/settings.ts";
import { temporalPatches, timestampsOf, videoGridOf } from "../../src/vision/video.ts";
import { fixture, picture, pngOf, sha256 } from "./pictures.ts";

const SETTINGS: VisionSettings = {
  ...{ patchSize: 16, mergeSize: 2, temporalPatchSize: 2, rescaleFactor: 1 / 255 },
  ...{ imageMean: [0.5, 0.5, 0.5], imageStd: [0.5, 0.5, 0.5], minPixels: 4096, maxPixels: 65536 },
};
const LIMITS = { vision: SETTINGS, video: { minPixels: 4096, maxPixels: 65536, maxFrameTokens: null } };

type SizeRow = [number, number, number, number, number, boolean, number, number, number];

test("grids of videos equal transformers' on every case, capped or not", () => {
  const { rows } = fixture<{ rows: readonly SizeRow[] }>("../video/sizes.json");
  assert.ok(rows.length > 140);
  for (const [frames, height, width, minPixels, maxPixels, isCapped, ...grid] of rows) {
    const budget = { minPixels, maxPixels, maxFrameTokens: isCapped ? 12 : null };
    const ours = videoGridOf({ frames, height, width }, SETTINGS, budget);
    assert.deepEqual(ours, grid, `${frames} frames of ${width}x${height}, ${JSON.stringify(budget)}`);
  }
  assert.ok(rows.filter(([, , , , , isCapped]) => isCapped).length > 40);
});

test("a video needs as many frames as one temporal patch, of a possible shape", () => {
  const of = (frames: number, height: number, width: number) => () =>
    videoGridOf({ frames, height, width }, SETTINGS, LIMITS.video);
  assert.throws(of(1, 64, 64), /^UserError: a video of 1 frame; expected at least 2: give it as a picture/);
  assert.throws(of(2, 64, 64 * 201), /^UserError: image of 12864x64 pixels: .*at most 200/);
});

test("times equal transformers' text, ties to the even tenth included", () => {
  const { rows } = fixture<{ rows: readonly [number, number, string[]][] }>("../video/times.json");
  assert.equal(rows.length, 70);
  for (const [frames, fps, times] of rows) assert.deepEqual(timestampsOf(frames, fps, SETTINGS), times, `${fps} fps`);
});

test("the last frame fills its patch", () => {
  assert.deepEqual(temporalPatches([1, 2, 3], SETTINGS), [
    [1, 2],
    [3, 3],
  ]);
});

interface ResizeRow {
  readonly from: readonly [width: number, height: number];
  readonly to: readonly [width: number, height: number];
  readonly sha256: string;
  readonly first: readonly number[];
  readonly last: readonly number[];
}

test("frames are resized as PyTorch does, byte for byte", () => {
  const { rows } = fixture<{ rows: readonly ResizeRow[] }>("../video/resize.json");
  assert.equal(rows.length, 17);
  let unlikePillow = 0;
  for (const { from, to, ...expected } of rows) {
    const [width, height] = to;
    const { data } = resizeBicubic(picture(...from), { width, height }, "torch");
    assert.deepEqual([...data.subarray(0, 12)], expected.first, `${from} -> ${to}`);
    assert.deepEqual([...data.subarray(-12)], expected.last, `${from} -> ${to}`);
    assert.equal(sha256(data), expected.sha256, `${from} -> ${to}`);
    if (sha256(resizeBicubic(picture(...from), { width, height }).data) !== expected.sha256) unlikePillow++;
  }
  assert.ok(unlikePillow > 5, "the fixture tells the two ways apart");
});

test("a share of the budget makes pictures and videos smaller, never below the smallest", async () => {
  const image = { type: "image" as const, image: await pngOf(picture(300, 200)) };
  const frame = await pngOf(picture(100, 90));
  const video = { type: "video" as const, video: [frame, frame, frame, frame], fps: 2 };
  const sizes = await Promise.all([image, video].map(measure));
  const areas = (share: number): number[] =>
    place(sizes, LIMITS, share).map((images) => images.reduce((sum, { grid: [, h, w] }) => sum + h * w * 256, 0));
  const steps = [1, 0.5, 0.25, 0.1, 0].map(areas);
  for (const k of [0, 1]) {
    const own = steps.map((step) => step[k] as number);
    assert.deepEqual(
      own,
      own.toSorted((a, b) => b - a),
    );
    assert.ok((own[0] as number) > (own[4] as number));
  }
  const smallest = place(sizes, LIMITS, 0).flatMap((images) => images.map(({ grid }) => grid));
  const expected: GridThw[] = [
    [1, 4, 6],
    [1, 2, 2], // 1024 pixels in each of four frames
    [1, 2, 2],
  ];
  assert.deepEqual(smallest, expected);
});

test("frames of unequal size are refused by the file's name", async () => {
  const video = [await pngOf(picture(20, 30)), await pngOf(picture(20, 30)), await pngOf(picture(30, 20))];
  await assert.rejects(measure({ type: "video", video, fps: 1 }), (thrown: Error) => {
    assert.ok(thrown instanceof UserError);
    assert.match(thrown.message, /^picture 30x20: frame 3 of a video is 30x20, its first frame is 20x30; expected/);
    return true;
  });
});
