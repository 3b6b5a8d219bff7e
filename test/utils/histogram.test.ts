import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { barLines, binName, binsOf } from "../../src/utils/histogram.ts";

test("every value is in one bin; bins are neighbours of one round width, at most so many", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(1_000_000), { minLength: 1 }), fc.integer({ min: 1, max: 30 }), (values, most) => {
      const bins = binsOf(values, most);
      assert.ok(bins.length >= 1 && bins.length <= most);
      const [first] = bins;
      assert.ok(first);
      const width = first.to - first.from;
      assert.match(String(width), /^[125]0*$/);
      bins.forEach((bin, i) => {
        assert.deepEqual([bin.from, bin.to], [first.from + i * width, first.from + (i + 1) * width]);
        assert.equal(bin.count, values.filter((value) => value >= bin.from && value < bin.to).length);
      });
      assert.ok(first.count > 0 && (bins.at(-1)?.count ?? 0) > 0);
    }),
  );
  assert.deepEqual(binsOf([]), []);
});

test("bars are as long as their counts, and never nothing for something", () => {
  const bins = binsOf([5, 5, 5, 5, 25, ...new Array<number>(800).fill(17)], 3);
  assert.deepEqual(bins.map(binName), ["0-9", "10-19", "20-29"]);
  assert.deepEqual(barLines(bins, 10), ["  0-9 │▏ 4", "10-19 │██████████ 800", "20-29 │▏ 1"]);
  assert.deepEqual(barLines(binsOf([1000, 1002]), 2), ["1,000 │██ 1", "1,001 │ 0", "1,002 │██ 1"]);
});
