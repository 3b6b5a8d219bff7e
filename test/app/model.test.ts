import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { test } from "node:test";
import { openModel } from "../../src/app/model.ts";
import { createLog } from "../../src/utils/log.ts";
import { gridOf, imageTokenCount } from "../../src/vision/patches.ts";
import { TINY_MODEL } from "../text/models.ts";

const log = createLog({ quiet: true, stream: new Writable({ write: (_, __, done) => done() }) });
const NONE = { minPixels: null, maxPixels: null, maxImageTokens: null, maxVideoPixels: null, pixelCap: 50000 };
const open = async (limits: Partial<typeof NONE> | Record<string, number>) =>
  (await openModel({ model: TINY_MODEL, ...NONE, ...limits, log })).processor;

test("the checkpoint's own budgets, pictures capped", async () => {
  const { vision, video } = await open({});
  assert.deepEqual([vision.minPixels, vision.maxPixels], [4096, 50000]);
  assert.deepEqual([video.minPixels, video.maxPixels], [4096, 65536]);
  assert.equal((await open({ pixelCap: 1 })).vision.maxPixels, 4096, "a cap below the smallest picture leaves that");
});

test("--max-image-tokens is --max-pixels in tokens, and takes transformers' size rule along", async () => {
  const { vision } = await open({ maxImageTokens: 20 });
  assert.equal(vision.maxPixels, 20 * 32 * 32);
  assert.deepEqual(vision, (await open({ maxPixels: 20 * 32 * 32 })).vision);
  const tokens = (width: number, height: number): number => imageTokenCount(gridOf({ width, height }, vision), vision);
  assert.deepEqual([tokens(1000, 1000), tokens(300, 170), tokens(64, 64)], [16, 15, 4]);
  assert.equal(tokens(40, 900), 21, "a long picture is one token wide, however little is left for its length");
});

test("--max-pixels and --max-video-pixels go before the cap and the checkpoint", async () => {
  const { vision, video } = await open({ maxPixels: 60000, minPixels: 5000, maxVideoPixels: 9000 });
  assert.deepEqual([vision.minPixels, vision.maxPixels, video.maxPixels], [5000, 60000, 9000]);
});

test("budgets that no picture or video could meet are refused", async () => {
  await assert.rejects(
    open({ maxImageTokens: 3 }),
    /^UserError: .*\(min_pixels 4096\) is larger than the largest \(max_pixels 3072\)/,
  );
  await assert.rejects(open({ maxVideoPixels: 3000 }), /^UserError: .*the smallest video/);
});
