import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { pythonShuffled } from "../../src/utils/mersenne.ts";

interface Case {
  readonly n: number;
  readonly seed: number;
  readonly expected: readonly number[];
}
const { permutations }: { permutations: readonly Case[] } = JSON.parse(
  readFileSync("test/fixtures/utils/shuffles.json", "utf8"),
);

const inOrder = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

test("shuffles are Python's, whole permutations of many lengths and seeds", () => {
  for (const { n, seed, expected } of permutations)
    assert.deepEqual(pythonShuffled(inOrder(n), seed), expected, `${n} steps, seed ${seed}`);
  assert.equal(permutations.length, 13);
});

test("the list that is shuffled stays as it is", () => {
  const steps = inOrder(7);
  pythonShuffled(steps, 42);
  assert.deepEqual(steps, inOrder(7));
});
