// Weights in 8 and 4 bits: every stored number against plain arithmetic in double.
import assert from "node:assert/strict";
import { test } from "node:test";
import { rotationBlock } from "../../../src/graph/rotation.ts";
import {
  formOf,
  type MatrixSource,
  type QuantisedArrays,
  type QuantKind,
  quantise,
  storedShapes,
} from "../../../src/model/quantised/matrix.ts";
import { required } from "../../../src/utils/errors.ts";
import { elementCount } from "../../../src/utils/safetensors.ts";
import {
  at,
  cosine,
  largestShare,
  type Matrix,
  product,
  randomMatrix,
  rotated,
  rotationMatrix,
  roundedBlocks,
  roundedRows,
  transposed,
} from "./reference.ts";

const F32 = 1e-6; // one rounding of a scale

const sourceOf = ({ rows, columns, values }: Matrix): MatrixSource => ({
  rows,
  columns,
  read: (start, end) => Float32Array.from(values.subarray(start * columns, end * columns)),
});

test("the rotation is orthogonal and spreads one number evenly", () => {
  for (const n of [2, 16, 64]) {
    const matrix = rotationMatrix(n);
    const identity = product(matrix, matrix).values;
    identity.forEach((value, i) => {
      assert.ok(Math.abs(value - Number(i % (n + 1) === 0)) < 1e-12, `${n}: element ${i} of R R^T is ${value}`);
    });
  }
  assert.deepEqual([2048, 96, 50, 7].map(rotationBlock), [64, 32, 2, 1]);
});

// 300 rows: more than are read at once; 544 = 17 * 32, 600 = 75 * 8: smaller rotations than 64
for (const [rows, columns] of [
  [300, 512],
  [544, 600],
  [5, 1030],
] as const)
  test(`int8 by rows: [${rows}, ${columns}]`, () => {
    const w = randomMatrix(rows, columns, "w");
    const form = formOf("int8", columns);
    const stated = { rotation: rotationBlock(columns), inputBits: 8, isPacked: true, isTurned: false };
    assert.ok(form.kind === "rows");
    assert.deepEqual(form, { kind: "rows", ...stated });
    const expected = roundedRows(rotated(w, rotationBlock(columns)), 127);
    const { values, scales } = quantise(sourceOf(w), "int8", false);
    const turned = quantise(sourceOf(w), "int8", true);
    assert.deepEqual(turned.scales, scales);
    assert.deepEqual(storedShapes(form, [rows, columns], true).values, [rows, columns]);
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) assert.equal(turned.values[r * columns + c], values[c * rows + r]);
    assert.deepEqual(storedShapes(form, [rows, columns], false), {
      ...{ dtype: "I8", values: [columns, rows], scales: [rows], zeroPoints: null },
    });
    assert.ok(largestShare(scales, expected.scales) <= F32);
    const wanted = transposed(expected.rounded).values; // stored [in, out]
    let ties = 0;
    wanted.forEach((number, i) => {
      ties += Number(number !== at(values, i));
      assert.ok(Math.abs(number - at(values, i)) <= 1, `number ${i} is ${at(values, i)}, expected ${number}`);
    });
    assert.ok(ties <= wanted.length / 1000, `${ties} of ${wanted.length} numbers are rounded the other way`);
  });

/** What stored blocks mean. */
function meant(stored: Matrix, kind: QuantKind, { values, scales, zeroPoints }: QuantisedArrays): Float64Array {
  const { rows, columns } = stored;
  const { bits, block } = blocksOf(kind, columns);
  const blocks = Math.ceil(columns / block);
  const zeros = required(zeroPoints, "zero points");
  const zeroBytes = Math.ceil((blocks * bits) / 8);
  assert.deepEqual(
    [values.length, scales.length, zeros.length],
    [(rows * blocks * block * bits) / 8, rows * blocks, rows * zeroBytes],
  );
  const number = (array: ArrayLike<number>, place: number): number =>
    bits === 8 ? at(array, place) : (at(array, place >> 1) >> (4 * (place & 1))) & 15;
  return Float64Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const inBlock = Math.floor(column / block);
    const zero = number(zeros, (row * zeroBytes * 8) / bits + inBlock);
    return (number(values, row * blocks * block + column) - zero) * at(scales, row * blocks + inBlock);
  });
}

function blocksOf(kind: QuantKind, columns: number) {
  const form = formOf(kind, columns);
  assert.ok(form.kind === "blocks");
  return form;
}

for (const [kind, bits, block, columns] of [
  ["int8", 8, 16, 100],
  ["int4", 4, 32, 100],
  ["int4", 4, 32, 600],
] as const)
  for (const isTransposed of [false, true])
    test(`${kind} in blocks: 270 rows of ${columns}${isTransposed ? ", transposed" : ""}`, () => {
      const stored = randomMatrix(270, columns, "blocks");
      stored.values.fill(0, 32, 64); // blocks of zeros
      stored.values.fill(0.5, 96, 100); // a block without anything below zero
      const w = isTransposed ? transposed(stored) : stored;
      assert.deepEqual(formOf(kind, columns), { kind: "blocks", bits, block, roundsInput: kind === "int4" });
      const arrays = quantise(sourceOf(w), kind, isTransposed);
      const shapes = storedShapes(formOf(kind, columns), [270, columns], false);
      const sizes = [shapes.values, shapes.scales, shapes.zeroPoints ?? []].map(elementCount);
      assert.deepEqual([arrays.values.length, arrays.scales.length, arrays.zeroPoints?.length], sizes);
      const got = meant(stored, kind, arrays);
      assert.ok(largestShare(got, roundedBlocks(stored, bits, block).values) <= F32);
      assert.ok(cosine(got, stored.values) > (bits === 8 ? 0.9999 : 0.99));
    });
