import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cutLeft, cutRight, largestFittingShare, type TokenRow } from "../../src/text/truncation.ts";
import type { VisualBlock } from "../../src/text/visuals.ts";
import type { PlacedImage } from "../../src/vision/placement.ts";

const IGNORE = -8; // sentinels that no tokenizer gives
const [OPEN, CLOSE] = [-1, -2];
const VISUAL = 1_000_000; // + number of the image: its tokens
const RUNS = { numRuns: 500, seed: 20251104 };

const imageOf = (number: number): PlacedImage => ({
  frames: [{ kind: "bytes", name: `image ${number}`, bytes: new Uint8Array() }],
  grid: [1, 2, 2],
});

type Segment = { readonly text: number } | { readonly images: number; readonly tokens: number };

/** Text tokens are numbered from 0, so that a cut can be told from what is left; every third is learnt. */
function rowOf(segments: readonly Segment[]): TokenRow {
  const ids: number[] = [];
  const images: PlacedImage[] = [];
  const blocks: VisualBlock[] = [];
  for (const segment of segments) {
    if ("text" in segment) {
      for (let i = 0; i < segment.text; i++) ids.push(ids.length);
      continue;
    }
    const start = ids.length;
    ids.push(OPEN);
    for (let i = 0; i < segment.images; i++) {
      ids.push(...new Array<number>(segment.tokens).fill(VISUAL + images.length));
      images.push(imageOf(images.length));
    }
    ids.push(CLOSE);
    blocks.push({ start, end: ids.length, images: segment.images });
  }
  const labels = ids.map((id) => (id >= 0 && id < VISUAL && id % 3 === 0 ? id : IGNORE));
  return { inputIds: Int32Array.from(ids), labels: Int32Array.from(labels), images, blocks };
}

const segments = fc.array(
  fc.oneof(
    fc.record({ text: fc.integer({ min: 0, max: 6 }) }),
    fc.record({ images: fc.integer({ min: 1, max: 3 }), tokens: fc.integer({ min: 1, max: 5 }) }),
  ),
  { maxLength: 8 },
);
/** A head of text before anything else. */
const cases = fc.record({
  head: fc.integer({ min: 0, max: 6 }),
  segments,
  maxLength: fc.integer({ min: 1, max: 50 }),
});

/** Every picture and video is whole, in its place among the blocks, and belongs to the image that the row names. */
function assertWhole({ inputIds, images, blocks }: TokenRow): void {
  const inside = new Set<number>();
  let image = 0;
  for (const { start, end, images: count } of blocks) {
    assert.deepEqual([inputIds[start], inputIds[end - 1]], [OPEN, CLOSE]);
    const named = images.slice(image, image + count).map(({ frames: [frame] }) => frame);
    const tokens = [...new Set(inputIds.slice(start + 1, end - 1))].map((id) => imageOf(id - VISUAL).frames[0]);
    assert.deepEqual(tokens, named);
    image += count;
    for (let t = start; t < end; t++) inside.add(t);
  }
  assert.equal(image, images.length);
  inputIds.forEach((id, t) => {
    assert.equal(inside.has(t), id < 0 || id >= VISUAL, `token ${t}`);
  });
}

const sizeOf = ({ start, end }: VisualBlock): number => end - start;
const lengthOf = (row: TokenRow): number => row.inputIds.length;

/** The block of `row` that lies across the place `at`. */
const across = (row: TokenRow, at: number): VisualBlock | undefined =>
  row.blocks.find(({ start, end }) => start < at && end > at);

test("cutting right keeps the beginning, whole pictures and the limit; a second cut changes nothing", () => {
  fc.assert(
    fc.property(cases, ({ head, segments: rest, maxLength }) => {
      const row = rowOf([{ text: head }, ...rest]);
      const before = structuredClone(row);
      const cut = cutRight(row, maxLength);
      assertWhole(cut);
      const kept = lengthOf(cut);
      const straddling = lengthOf(row) > maxLength ? across(row, maxLength) : undefined;
      assert.equal(kept, straddling?.start ?? Math.min(lengthOf(row), maxLength));
      assert.deepEqual(cut.inputIds, row.inputIds.slice(0, kept));
      assert.deepEqual(cut.labels, row.labels.slice(0, kept));
      assert.deepEqual(cutRight(cut, maxLength), cut);
      assert.deepEqual(row, before);
    }),
    RUNS,
  );
});

test("cutting left keeps head and end, whole pictures and the limit; a second cut changes nothing", () => {
  let withHead = 0;
  fc.assert(
    fc.property(cases, ({ head, segments: rest, maxLength }) => {
      const row = rowOf([{ text: head }, ...rest]);
      const before = structuredClone(row);
      const options = { maxLength, head, ignore: IGNORE };
      const cut = cutLeft(row, options);
      assertWhole(cut);
      assert.ok(lengthOf(cut) <= maxLength);
      assert.deepEqual(cutLeft(cut, options), cut);
      assert.deepEqual(row, before);
      if (lengthOf(row) <= maxLength) assert.equal(cut, row);
      else if (head < maxLength) {
        withHead += head > 0 ? 1 : 0;
        const seam = lengthOf(row) - (maxLength - head);
        const from = across(row, seam)?.end ?? seam;
        assert.deepEqual([...cut.inputIds], [...row.inputIds.slice(0, head), ...row.inputIds.slice(from)]);
        const labels = [...row.labels.slice(0, head), ...row.labels.slice(from)];
        if (head < labels.length) labels[head] = IGNORE; // what stood before it is gone
        assert.deepEqual([...cut.labels], labels);
      }
    }),
    RUNS,
  );
  assert.ok(withHead > 100);
});

test("by hand: a picture across either cut goes with its marks, one beside it stays", () => {
  const row = rowOf([{ text: 2 }, { images: 1, tokens: 2 }, { text: 2 }, { images: 2, tokens: 1 }, { text: 1 }]);
  assert.equal(lengthOf(row), 13);
  const left = (maxLength: number, head = 0): number[] => [
    ...cutLeft(row, { maxLength, head, ignore: IGNORE }).inputIds,
  ];
  assert.deepEqual([...cutRight(row, 5).inputIds], [0, 1]);
  assert.deepEqual([...cutRight(row, 6).inputIds], [0, 1, OPEN, VISUAL, VISUAL, CLOSE]);
  assert.deepEqual(left(4), [12]);
  assert.deepEqual(left(5), [OPEN, VISUAL + 1, VISUAL + 2, CLOSE, 12]);
  assert.deepEqual(left(6, 1), [0, OPEN, VISUAL + 1, VISUAL + 2, CLOSE, 12]);
  assert.deepEqual(left(2, 2), [0, 1]);
  assert.equal(sizeOf(row.blocks[1] as VisualBlock), 4);
});

test("the largest share that fits is found, or none", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 1, max: 2000 }), (text, maxLength) => {
      const lengthAt = (share: number): number => text + Math.floor(64 + share * 960);
      const share = largestFittingShare(maxLength, lengthAt);
      if (share === null) return assert.ok(lengthAt(0) > maxLength);
      assert.ok(lengthAt(share) <= maxLength);
      if (lengthAt(1) > maxLength) assert.equal(lengthAt(share), maxLength, "no token is given away");
      else assert.equal(share, 1);
    }),
    RUNS,
  );
});
