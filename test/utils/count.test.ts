// Numbers as people read them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { counted, ranges } from "../../src/utils/count.ts";

test("three numbers in a row and more are a range, in either direction", () => {
  const shown: readonly (readonly [readonly number[], string])[] = [
    [[], ""],
    [[7], "7"],
    [[5, 6], "5, 6"],
    [[5, 6, 7], "5-7"],
    [[1, 13, 14, 15, 16, 20, 21], "1, 13-16, 20, 21"],
    [[10, 9, 8, 7, 3], "10-7, 3"],
    [[5, 6, 5, 4], "5, 6, 5, 4"],
    [[2, 2, 3], "2, 2, 3"],
  ];
  for (const [numbers, text] of shown) assert.equal(ranges(numbers), text);
});

test("one thing is singular, none and many are not", () => {
  assert.deepEqual(
    [0, 1, 12_345].map((value) => counted(value, "sample")),
    ["0 samples", "1 sample", "12,345 samples"],
  );
});
