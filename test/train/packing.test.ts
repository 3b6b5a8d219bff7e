// Packed rows: every sample once, none over the capacity, few rows.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { packRows } from "../../src/train/packing.ts";
import { planSteps } from "../../src/train/plan.ts";

const lengths = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 80 });

test("every sample stands in one row, and no row of several is over the capacity", () => {
  fc.assert(
    fc.property(lengths, fc.integer({ min: 1, max: 100 }), (sizes, capacity) => {
      const rows = packRows(sizes, capacity);
      assert.deepEqual(
        rows.flat().toSorted((a, b) => a - b),
        sizes.map((_, i) => i),
      );
      const used = rows.map((row) => row.reduce((sum, index) => sum + (sizes[index] ?? 0), 0));
      assert.ok(rows.every((row, i) => row.length === 1 || (used[i] ?? 0) <= capacity));
      // best fit leaves no two rows that would fit into one
      const short = used.filter((tokens) => 2 * tokens <= capacity);
      assert.ok(short.length <= 1, `${short.length} rows are at most half full`);
    }),
  );
});

test("rows and the samples in them keep the order of the data", () => {
  assert.deepEqual(packRows([5, 9, 4, 1, 10], 10), [[0, 2], [1, 3], [4]]);
  assert.deepEqual(packRows([30, 2], 10), [[0], [1]]);
});

test("rows of like length share a micro-batch, each row once an epoch, another order each epoch", () => {
  const groupedLengths = Array.from({ length: 230 }, (_, i) => (i * 37) % 101);
  const plan = { rows: 230, batchSize: 4, accumulation: 2, shuffle: true, seed: 3, groupedLengths };
  const epochs = [0, 1].map((epoch) =>
    [...planSteps(plan, 29 * epoch, 29 * (epoch + 1))].flatMap((step) => step.microBatches),
  );
  for (const batches of epochs) {
    assert.deepEqual(
      batches.flat().toSorted((a, b) => a - b),
      Array.from({ length: 230 }, (_, i) => i),
    );
    const spread = batches.map((batch) => {
      const own = batch.map((row) => groupedLengths[row] ?? 0);
      return Math.max(...own) - Math.min(...own);
    });
    assert.ok(Math.max(...spread) <= 20, `lengths in a micro-batch differ by ${Math.max(...spread)}`);
    const first = batches.slice(0, 50).map((batch) => groupedLengths[batch[0] ?? 0] ?? 0);
    assert.notDeepEqual(
      first,
      first.toSorted((a, b) => b - a),
      "micro-batches run from long to short",
    );
  }
  assert.notDeepEqual(epochs[0], epochs[1]);
});
