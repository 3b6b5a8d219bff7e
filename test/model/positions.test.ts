// Where patches and tokens stand, against transformers, to the last bit where arithmetic is exact.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { TextArchitecture } from "../../src/model/architecture.ts";
import { inverseFrequencies } from "../../src/model/layers.ts";
import { mropeAxes } from "../../src/model/text.ts";
import { patchPositions } from "../../src/model/visionPositions.ts";

interface Frequencies {
  readonly theta: number;
  readonly head_dim: number;
  readonly inverse_frequency_bits: readonly number[];
}

const golden = JSON.parse(readFileSync("test/fixtures/model/positions.json", "utf8")) as {
  readonly grids: readonly {
    readonly grid: readonly [number, number, number];
    readonly side: number;
    readonly merge: number;
    readonly indices: readonly number[];
    readonly weight_bits: readonly number[];
    readonly rows_and_columns: readonly number[];
  }[];
  readonly text: readonly (Frequencies & {
    readonly section: readonly [number, number, number];
    readonly axes: readonly number[];
  })[];
  readonly vision: readonly Frequencies[];
};

const bitsOf = (values: Float32Array): number[] => [...new Int32Array(values.buffer, values.byteOffset, values.length)];
const fromBits = (bits: readonly number[]): Float32Array => new Float32Array(Int32Array.from(bits).buffer);

for (const { grid, side, merge, ...expected } of golden.grids) {
  test(`patches of a grid [${grid}] on a table of ${side} x ${side}, merged by ${merge}`, () => {
    const got = patchPositions(grid, merge, side);
    assert.deepEqual([...got.indices], expected.indices);
    assert.deepEqual(bitsOf(got.weights), expected.weight_bits);
    assert.deepEqual([...got.rowsAndColumns], expected.rows_and_columns);
  });
}

/** One unit in the last place: pow() of two libraries may round apart. */
const ONE_ULP = 2 ** -23;

for (const { theta, head_dim: dim, inverse_frequency_bits: bits } of [...golden.text, ...golden.vision]) {
  test(`rotary frequencies of base ${theta} over ${dim}`, () => {
    const got = inverseFrequencies(theta, dim, "float32");
    assert.equal(got.length, bits.length);
    fromBits(bits).forEach((expected, i) => {
      assert.ok(
        Math.abs((got[i] as number) / expected - 1) <= ONE_ULP,
        `frequency ${i}: ${got[i]}, expected ${expected}`,
      );
    });
  });
}

for (const { section, head_dim: headDim, axes } of golden.text) {
  test(`interleaved sections [${section}]`, () => {
    assert.deepEqual(mropeAxes({ headDim, mropeSection: section } as TextArchitecture), axes);
  });
}
