// Where features of pictures come from: the tower runs once for each, whatever memory holds, and the bits are the same.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FeatureFiles } from "../../src/engine/featureFiles.ts";
import { PictureStore } from "../../src/engine/pictures.ts";
import type { PlacedImage } from "../../src/vision/placement.ts";
import { loadTiny, loraSpec, openEngine } from "../tiny.ts";
import { newFolder, scratchFolder } from "../train/folders.ts";

const scratch = scratchFolder("pictures");
const tiny = await loadTiny();
const engine = openEngine(tiny, loraSpec(), { isTraining: false });
const { vision } = tiny.processor;

/** Every picture once. */
const images: readonly PlacedImage[] = [
  ...new Map(tiny.encoded.flatMap((one) => one.images).map((image) => [JSON.stringify(image), image])).values(),
];

function storeIn(root: string, maxBytes?: number) {
  let runs = 0;
  const counting: Pick<typeof engine, "encodePictures"> = {
    encodePictures: (...args) => {
      runs += args[0].length;
      return engine.encodePictures(...args);
    },
  };
  const onNote = (note: string) => assert.fail(note);
  const files = new FeatureFiles({ root, tower: "tiny", maxBytes: 1e9, onNote });
  return {
    store: new PictureStore(counting, vision, { files, ...(maxBytes === undefined ? {} : { maxBytes }) }),
    runs: () => runs,
  };
}

/** One micro-batch after another, as in training. */
async function pass(store: PictureStore, order: readonly PlacedImage[] = images) {
  const features = [];
  for (let at = 0; at < order.length; at += 2) features.push(...(await store.features(order.slice(at, at + 2))));
  return features;
}

test("the second pass runs no tower though memory holds nothing, and gives the same bits", async () => {
  const plain = await pass(new PictureStore(engine, vision));
  const { store, runs } = storeIn(newFolder(scratch, "passes"), 1);
  assert.deepEqual(await pass(store), plain);
  assert.equal(runs(), images.length);
  assert.deepEqual(await pass(store), plain);
  assert.equal(runs(), images.length);
  const { computed, onDisk } = store.counts();
  assert.equal(computed, images.length);
  assert.ok(onDisk >= images.length - 2, `${onDisk} on disk`); // the last may still lie in memory
});

test("another run finds them all, in another order and in other company", async () => {
  const root = newFolder(scratch, "runs");
  const first = await pass(storeIn(root).store);
  const { store, runs } = storeIn(root);
  assert.deepEqual(await pass(store, images.toReversed()), first.toReversed());
  assert.equal(runs(), 0);
  assert.deepEqual(store.counts(), { computed: 0, onDisk: images.length, inMemory: 0 });
});

test("some on disk, some not: each comes in its place", async () => {
  const root = newFolder(scratch, "some");
  const all = await new PictureStore(engine, vision).features(images);
  const known = images.filter((_, i) => i % 2 === 1);
  await storeIn(root).store.features(known);
  const { store, runs } = storeIn(root);
  assert.deepEqual(await store.features(images), all);
  assert.equal(runs(), images.length - known.length);
});

test("a picture is told by its content: the same bytes elsewhere are found, the same name with other bytes is not", async () => {
  const root = newFolder(scratch, "content");
  const [one, two] = images as readonly [PlacedImage, PlacedImage];
  await storeIn(root).store.features([one]);
  const { readFileSync, writeFileSync } = await import("node:fs");
  const bytesOf = ({ frames: [frame] }: PlacedImage) =>
    frame?.kind === "file" ? readFileSync(frame.path) : (frame?.bytes ?? new Uint8Array());
  const path = `${root}/copy`;
  const copy = { ...one, frames: [{ kind: "file" as const, path }] };
  writeFileSync(path, bytesOf(one));
  const same = storeIn(root);
  await same.store.features([copy, { ...one, frames: [{ kind: "bytes", name: "in memory", bytes: bytesOf(one) }] }]);
  assert.equal(same.runs(), 0);
  writeFileSync(path, bytesOf(two));
  const other = storeIn(root);
  await other.store.features([copy]);
  assert.equal(other.runs(), 1);
  const [, h, w] = one.grid;
  const larger = storeIn(root);
  await larger.store.features([{ ...one, grid: [1, h + 2, w + 2] }]);
  assert.equal(larger.runs(), 1);
});

test("what a picture becomes does not depend on its company, to the last bit", async () => {
  for (const grid of [
    [1, 4, 4],
    [1, 8, 4],
    [1, 6, 8],
    [1, 10, 6],
    [1, 16, 8],
  ] as const) {
    // biome-ignore format: one line
    const sized = Array.from({ length: 8 }, (_, i) => ({ ...(images[i % images.length] as PlacedImage), grid }));
    const distinct = sized.slice(0, Math.min(8, images.length));
    const together = await new PictureStore(engine, vision).features(distinct);
    const others = await new PictureStore(engine, vision).features(distinct.slice(1, 4));
    for (const [i, image] of distinct.entries()) {
      const [alone] = await new PictureStore(engine, vision).features([image]);
      assert.deepEqual(together[i], alone, `grid ${grid}, picture ${i}`);
      if (i >= 1 && i < 4) assert.deepEqual(others[i - 1], alone, `grid ${grid}, picture ${i} of three`);
    }
  }
});

test("a picture that is gone is named", async () => {
  const { store } = storeIn(newFolder(scratch, "gone"));
  const gone = { frames: [{ kind: "file" as const, path: "no/such.png" }], grid: [1, 4, 4] as const };
  await assert.rejects(store.features([gone]), /no\/such\.png: the picture cannot be read/);
});
