import assert from "node:assert/strict";
import { test } from "node:test";
import { mropePositions, nextPosition } from "../../src/text/mrope.ts";
import type { GridThw } from "../../src/vision/image.ts";
import { readFixture } from "./models.ts";

interface Sample {
  input_ids: number[];
  position_ids: number[][];
  image_grid_thw: GridThw[] | null;
}

const golden = readFixture<{ special_ids: Record<string, number>; samples: Sample[] }>("tiny-qwen3vl", "golden.json");
const imageTokenId = golden.special_ids["<|image_pad|>"] as number;

test("positions equal transformers' on all samples", () => {
  assert.equal(golden.samples.length, 8);
  for (const { input_ids: inputIds, position_ids, image_grid_thw } of golden.samples) {
    const positions = mropePositions({ inputIds, grids: image_grid_thw ?? [], imageTokenId, mergeSize: 2 });
    assert.deepEqual([...positions], position_ids.flat());
  }
});

test("a tall picture, text between and a wide picture, by hand", () => {
  const inputIds = [1, 9, 9, 9, 2, 9, 9, 3];
  const grids: GridThw[] = [
    [1, 6, 2],
    [1, 2, 4],
  ];
  const positions = mropePositions({ inputIds, grids, imageTokenId: 9, mergeSize: 2 });
  assert.deepEqual([...positions.subarray(0, 8)], [0, 1, 1, 1, 4, 5, 5, 7]);
  assert.deepEqual([...positions.subarray(8, 16)], [0, 1, 2, 3, 4, 5, 5, 7]);
  assert.deepEqual([...positions.subarray(16)], [0, 1, 1, 1, 4, 5, 6, 7]);
  assert.equal(nextPosition(positions), 8);
  assert.equal(
    nextPosition(mropePositions({ inputIds: [1, 9, 9, 9], grids: [[1, 6, 2]], imageTokenId: 9, mergeSize: 2 })),
    4,
  );
  assert.equal(nextPosition(new Int32Array(0)), 0);
});

test("grids that do not fit their tokens are our own error", () => {
  const of = (inputIds: number[], grids: GridThw[]) => () =>
    mropePositions({ inputIds, grids, imageTokenId: 9, mergeSize: 2 });
  assert.throws(of([9], []), /internal: image token 0 belongs to none of 0 grids/);
  assert.throws(of([1], [[1, 2, 2]]), /internal: 1 grids for the tokens of 0 pictures/);
  assert.throws(of([9], [[1, 4, 2]]), /internal: a grid \[1,4,2\] at token 0 of 1/);
});
