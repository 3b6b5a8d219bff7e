// Golden: numpy and scipy (test/fixtures/utils/statistics.json).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { bootstrapMean, mcnemarTest, quantile, signFlipTest } from "../../src/utils/statistics.ts";

interface Golden {
  readonly quantiles: readonly { sorted: number[]; share: number; value: number }[];
  readonly flips: readonly { differences: number[]; p: number }[];
  readonly mcnemar: readonly { gained: number; lost: number; p: number }[];
  readonly bootstrap: readonly { groups: number[][]; value: number; low: number; high: number; deviation: number }[];
}
const golden: Golden = JSON.parse(readFileSync("test/fixtures/utils/statistics.json", "utf8"));

const ROUNDING = 1e-12;
const isNear = (actual: number, expected: number, tolerance: number, what: string): void =>
  assert.ok(Math.abs(actual - expected) <= tolerance, `${what}: ${actual}, expected ${expected} within ${tolerance}`);

test("quantiles are numpy's", () => {
  assert.equal(golden.quantiles.length, 18);
  for (const { sorted, share, value } of golden.quantiles)
    isNear(quantile(sorted, share), value, ROUNDING, `${share} of ${sorted.length}`);
});

test("the exact sign-flip test is scipy's permutation test of paired samples", () => {
  assert.equal(golden.flips.length, 8);
  for (const { differences, p } of golden.flips) {
    const test = signFlipTest(differences, 0);
    assert.deepEqual([test.isExact, test.patterns], [true, 2 ** differences.length]);
    isNear(test.p, p, ROUNDING, differences.join());
  }
});

test("with more differences than can be enumerated, patterns are drawn: near the exact p, and the same for a seed", () => {
  const ten = [0.1, -0.05, 0.2, 0.12, -0.08, 0.3, 0.02, -0.15, 0.06, 0.09];
  const exact = signFlipTest(ten, 0);
  // differences of 0 change nothing but the number of patterns
  const drawn = signFlipTest([...ten, ...new Array<number>(11).fill(0)], 7);
  assert.deepEqual([drawn.isExact, drawn.patterns], [false, 100_000]);
  isNear(drawn.p, exact.p, 5 * Math.sqrt((exact.p * (1 - exact.p)) / 100_000), "p drawn");
  assert.deepEqual(signFlipTest([...ten, ...new Array<number>(11).fill(0)], 7), drawn);
  assert.equal(signFlipTest(new Array<number>(40).fill(1), 7).p, 1 / 100_000);
});

test("McNemar's exact p is scipy's binomial test of the pairs that changed", () => {
  assert.equal(golden.mcnemar.length, 9);
  for (const { gained, lost, p } of golden.mcnemar) {
    isNear(mcnemarTest(gained, lost), p, 1e-9 * p + 1e-300, `${gained} against ${lost}`);
    assert.equal(mcnemarTest(gained, lost), mcnemarTest(lost, gained));
  }
  assert.equal(mcnemarTest(0, 0), 1);
});

test("clustered bootstrap intervals are numpy's, to the error of 10,000 draws", () => {
  assert.equal(golden.bootstrap.length, 3);
  for (const { groups, value, low, high, deviation } of golden.bootstrap) {
    const estimate = bootstrapMean(groups, { draws: 10_000, seed: 42 });
    isNear(estimate.value, value, 1e-9, "value");
    // deviation of a 2.5 % quantile of 10,000 normal draws: sqrt(.025 * .975 / 10,000) / density(1.96) = 0.027 deviations
    isNear(estimate.low, low, 4 * 0.027 * deviation, "low");
    isNear(estimate.high, high, 4 * 0.027 * deviation, "high");
  }
});

test("a bootstrap repeats by its seed, keeps what cannot vary, and widens with the level", () => {
  const [one, two] = [
    [0, 1, 1, 0, 1],
    [1, 0, 0, 0],
  ];
  const options = { draws: 500, seed: 3 };
  assert.deepEqual(bootstrapMean([one, two], options), bootstrapMean([one, two], options));
  assert.notDeepEqual(bootstrapMean([one, two], options), bootstrapMean([one, two], { ...options, seed: 4 }));
  assert.deepEqual(bootstrapMean([[2, 2], [2]], options), { value: 2, low: 2, high: 2 });
  fc.assert(
    fc.property(fc.array(fc.array(fc.nat(9), { minLength: 1 }), { minLength: 1, maxLength: 6 }), (groups) => {
      const narrow = bootstrapMean(groups, { draws: 60, seed: 1, level: 0.5 });
      const wide = bootstrapMean(groups, { draws: 60, seed: 1, level: 0.95 });
      assert.ok(wide.low <= narrow.low && narrow.low <= narrow.high && narrow.high <= wide.high);
    }),
  );
  assert.throws(() => bootstrapMean([[1], []], options), /bootstrap of nothing/);
});
