import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  bf16ToFloat32,
  float16ToFloat32,
  float32ToBf16,
  float32ToFloat16,
  roundHalfEven,
} from "../../src/utils/bf16.ts";

interface Golden {
  readonly float32: number[];
  readonly bfloat16: number[];
  readonly float16: number[];
}
const golden: Golden = JSON.parse(readFileSync("test/fixtures/utils/dtypes.json", "utf8")); // scripts/fixtures/dtypes.py
const values = new Float32Array(new Uint32Array(golden.float32).buffer);

test("rounding to bfloat16 equals PyTorch's, bit for bit", () => {
  assert.deepEqual([...float32ToBf16(values)], golden.bfloat16);
});

test("rounding to float16 equals PyTorch's, bit for bit", () => {
  assert.deepEqual([...float32ToFloat16(values)], golden.float16);
});

const everyPattern = Uint16Array.from({ length: 65536 }, (_, i) => i);
const isNaNBf16 = (bits: number): boolean => (bits & 0x7fff) > 0x7f80;
const isNaNHalf = (bits: number): boolean => (bits & 0x7fff) > 0x7c00;

test("every bfloat16 and float16 comes back from float32 as it was; NaN stays NaN", () => {
  const wideBf16 = bf16ToFloat32(everyPattern);
  const backBf16 = float32ToBf16(wideBf16);
  const wideHalf = float16ToFloat32(everyPattern);
  const backHalf = float32ToFloat16(wideHalf);
  for (let i = 0; i < 65536; i++) {
    assert.equal(Number.isNaN(wideBf16[i]), isNaNBf16(i));
    assert.equal(Number.isNaN(wideHalf[i]), isNaNHalf(i));
    if (!isNaNBf16(i)) assert.equal(backBf16[i], i);
    else assert.ok(isNaNBf16(backBf16[i] ?? 0));
    if (!isNaNHalf(i)) assert.equal(backHalf[i], i);
    else assert.ok(isNaNHalf(backHalf[i] ?? 0));
  }
});

test("a NaN whose low bits alone are set does not turn into infinity", () => {
  const nans = new Float32Array(new Uint32Array([0x7f800001, 0xffffffff]).buffer);
  for (const bits of float32ToBf16(nans)) assert.ok(isNaNBf16(bits));
});

test("views that start inside a buffer are read from where they start", () => {
  assert.deepEqual([...float32ToBf16(new Float32Array([9, 1, 2]).subarray(1))], [0x3f80, 0x4000]);
  assert.deepEqual([...bf16ToFloat32(new Uint16Array([9, 0x3f80]).subarray(1))], [1]);
});

test("halves round to even, as Python's round does", () => {
  const rounded = [0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 2.4999, 2.5001, -2.6, 7].map(roundHalfEven);
  assert.deepEqual(
    rounded.map((value) => value + 0),
    [0, 2, 2, 4, 0, -2, -2, 2, 3, -3, 7],
  );
});
