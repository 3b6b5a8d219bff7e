import assert from "node:assert/strict";
import { test } from "node:test";
import { hashOf, randomFrom } from "../../src/utils/random.ts";

const COUNT = 20_000;
const SIGMAS = 4.5; // a sound generator misses it once in 150,000 draws of these fixed seeds

/** How many standard deviations the mean of `values` lies from what it should be. */
function offBy(values: readonly number[], expected: number, deviation: number): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return (Math.abs(mean - expected) * Math.sqrt(values.length)) / deviation;
}

const SNAPSHOT = [1788989773, 907, 830, "75431026"]; // our own numbers: it pins them, it does not prove them

test("the stream is a snapshot: changing it would change every seeded run", () => {
  const random = randomFrom(42, "shuffle", 0);
  assert.deepEqual(
    [
      hashOf(42, "shuffle", 0),
      random.below(1000),
      random.below(1000),
      random.shuffled([0, 1, 2, 3, 4, 5, 6, 7]).join(""),
    ],
    SNAPSHOT,
  );
});

test("equal parts give equal numbers, any other parts other ones", () => {
  const draw = (...parts: (number | string)[]): string => {
    const random = randomFrom(...parts);
    return Array.from({ length: 8 }, () => random.uniform()).join();
  };
  assert.equal(draw(1, "a"), draw(1, "a"));
  const parts = [
    [],
    [0],
    [1],
    [-1],
    [2 ** 32],
    [2 ** 32 + 1],
    [0.5],
    [0.25],
    [0, 0],
    ["a"],
    ["b"],
    ["ab"],
    ["a", "b"],
    ["b", "a"],
    [""],
    [1, "a"],
    ["a", 1],
  ];
  assert.equal(new Set(parts.map((list) => draw(...list))).size, parts.length);
});

test("hashes of neighbouring seeds and steps do not collide more than chance would", () => {
  const hashes = new Set<number>();
  for (let seed = 0; seed < 200; seed++)
    for (let step = 0; step < 200; step++) hashes.add(hashOf(seed, "dropout", step));
  assert.ok(hashes.size >= 40_000 - 3, `${40_000 - hashes.size} collisions; 0.2 expected`);
});

test("uniform: mean, spread, bins and bounds", () => {
  const random = randomFrom("uniform");
  const values = Array.from({ length: COUNT }, () => random.uniform());
  assert.ok(values.every((value) => value >= 0 && value < 1));
  assert.ok(offBy(values, 0.5, Math.sqrt(1 / 12)) < SIGMAS);
  assert.ok(
    offBy(
      values.map((value) => (value - 0.5) ** 2),
      1 / 12,
      Math.sqrt(1 / 180),
    ) < SIGMAS,
  );
  const bins = new Array<number>(100).fill(0);
  for (const value of values) bins[Math.floor(value * 100)] = (bins[Math.floor(value * 100)] ?? 0) + 1;
  const chiSquare = bins.reduce((sum, count) => sum + (count - COUNT / 100) ** 2 / (COUNT / 100), 0);
  assert.ok(Math.abs(chiSquare - 99) < SIGMAS * Math.sqrt(2 * 99), `chi-square ${chiSquare} of 99 degrees`);
});

test("the first number of neighbouring streams is as good as one stream's", () => {
  const values = Array.from({ length: COUNT }, (_, step) => randomFrom(42, "step", step).uniform());
  assert.ok(offBy(values, 0.5, Math.sqrt(1 / 12)) < SIGMAS);
  const neighbours = values.slice(1).map((value, i) => (value - 0.5) * ((values[i] ?? 0) - 0.5));
  assert.ok(offBy(neighbours, 0, 1 / 12) < SIGMAS, "no correlation from step to step");
});

test("normal: first four moments", () => {
  const random = randomFrom("normal");
  const values = Array.from({ length: COUNT }, () => random.normal());
  assert.ok(values.every(Number.isFinite));
  assert.ok(offBy(values, 0, 1) < SIGMAS);
  assert.ok(
    offBy(
      values.map((value) => value ** 2),
      1,
      Math.sqrt(2),
    ) < SIGMAS,
  );
  assert.ok(
    offBy(
      values.map((value) => value ** 3),
      0,
      Math.sqrt(15),
    ) < SIGMAS,
  );
  assert.ok(
    offBy(
      values.map((value) => value ** 4),
      3,
      Math.sqrt(96),
    ) < SIGMAS,
  );
});

test("shuffled: every order of three equally often, the original untouched", () => {
  const random = randomFrom("shuffled");
  const items = ["a", "b", "c"];
  const counts = new Map<string, number>();
  for (let i = 0; i < 6000; i++) {
    const order = random.shuffled(items).join("");
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  assert.deepEqual(items, ["a", "b", "c"]);
  assert.equal(counts.size, 6);
  for (const [order, count] of counts)
    assert.ok(Math.abs(count - 1000) < SIGMAS * Math.sqrt(1000 * (5 / 6)), `${order}: ${count}`);
});

test("below and pick stay inside", () => {
  const random = randomFrom("below");
  const seen = new Set(Array.from({ length: 400 }, () => random.below(7)));
  assert.deepEqual([...seen].sort(), [0, 1, 2, 3, 4, 5, 6]);
  assert.ok(Array.from({ length: 50 }, () => random.pick(["x", "y"])).every((item) => item === "x" || item === "y"));
});
