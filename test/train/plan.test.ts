// Which examples a step takes: every one once an epoch, the same whenever it is asked.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { dropoutSeed, orderOf, type PlanOptions, planSteps, stepsPerEpoch } from "../../src/train/plan.ts";

const options: fc.Arbitrary<PlanOptions> = fc.record({
  rows: fc.integer({ min: 1, max: 40 }),
  batchSize: fc.integer({ min: 1, max: 5 }),
  accumulation: fc.integer({ min: 1, max: 5 }),
  shuffle: fc.boolean(),
  seed: fc.nat(),
});

test("an epoch takes every example once, in full steps but for the last", () => {
  fc.assert(
    fc.property(options, fc.integer({ min: 1, max: 3 }), (plan, epochs) => {
      const perEpoch = stepsPerEpoch(plan);
      const steps = [...planSteps(plan, 0, epochs * perEpoch)];
      assert.deepEqual(
        steps.map(({ step }) => step),
        steps.map((_, i) => i + 1),
      );
      for (let epoch = 0; epoch < epochs; epoch++) {
        const own = steps.slice(epoch * perEpoch, (epoch + 1) * perEpoch);
        const seen = own.flatMap(({ microBatches }) => microBatches.flat());
        assert.deepEqual(seen, orderOf(plan, epoch));
        assert.deepEqual(
          seen.toSorted((a, b) => a - b),
          Array.from({ length: plan.rows }, (_, i) => i),
        );
        assert.equal(own.at(-1)?.epoch, epoch + 1);
        for (const { microBatches } of own.slice(0, -1)) assert.equal(microBatches.length, plan.accumulation);
        assert.ok(own.flatMap((step) => step.microBatches.slice(0, -1)).every((b) => b.length === plan.batchSize));
      }
    }),
  );
});

test("from any step on, the rest is the same", () => {
  fc.assert(
    fc.property(options, fc.nat(20), fc.nat(20), (plan, done, more) => {
      assert.deepEqual([...planSteps(plan, done, done + more)], [...planSteps(plan, 0, done + more)].slice(done));
    }),
  );
});

test("a partial group at the end of an epoch, batches of two", () => {
  const plan = { rows: 7, batchSize: 2, accumulation: 3, shuffle: false, seed: 0 };
  assert.deepEqual(
    [...planSteps(plan, 0, 3)],
    [
      {
        step: 1,
        epoch: 0.5,
        microBatches: [
          [0, 1],
          [2, 3],
          [4, 5],
        ],
      },
      { step: 2, epoch: 1, microBatches: [[6]] },
      {
        step: 3,
        epoch: 1.5,
        microBatches: [
          [0, 1],
          [2, 3],
          [4, 5],
        ],
      },
    ],
  );
});

test("the shuffle follows seed and epoch", () => {
  const plan = { rows: 30, batchSize: 1, accumulation: 1, shuffle: true, seed: 42 };
  assert.deepEqual(orderOf(plan, 1), orderOf(plan, 1));
  assert.notDeepEqual(orderOf(plan, 0), orderOf(plan, 1));
  assert.notDeepEqual(orderOf(plan, 0), orderOf({ ...plan, seed: 43 }, 0));
});

test("every micro-batch has a dropout of its own, within 31 bits", () => {
  const seeds = new Set<number>();
  for (let step = 1; step <= 50; step++)
    for (let microBatch = 0; microBatch < 8; microBatch++) seeds.add(dropoutSeed(7, step, microBatch));
  assert.equal(seeds.size, 400);
  assert.ok([...seeds].every((seed) => Number.isInteger(seed) && seed >= 0 && seed < 2 ** 31));
  assert.notEqual(dropoutSeed(7, 1, 0), dropoutSeed(8, 1, 0));
});
