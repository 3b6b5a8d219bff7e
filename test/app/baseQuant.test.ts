// Who is told of --base-quant: users of large weights in 16 bits on the CPU, and nobody else.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fewBitsAdvice } from "../../src/app/baseQuant.ts";
import { CPU, type Device } from "../../src/runtime/device.ts";
import type { TensorDtype } from "../../src/utils/safetensors.ts";

const CUDA: Device = { kind: "gpu", index: 0 };

const checkpoint = (dtype: TensorDtype, count: number) => ({
  tensors: new Map([
    ["norm", { name: "norm", dtype: "F32" as const, shape: [2048], file: "", offset: 0, byteLength: 8192 }],
    ["weight", { name: "weight", dtype, shape: [count / 1024, 1024], file: "", offset: 8192, byteLength: 2 * count }],
  ]),
});

test("advice for many weights in 16 bits on a CPU", () => {
  const MANY = 2 ** 28;
  assert.match(
    fewBitsAdvice(checkpoint("BF16", MANY + 1024), [CUDA, CPU]) ?? "",
    /stored as BF16 .*--base-quant int8.*docs\/quantisation\.md/,
  );
  assert.match(fewBitsAdvice(checkpoint("F16", 2 * MANY), [CPU]) ?? "", /stored as F16/);
  assert.equal(fewBitsAdvice(checkpoint("BF16", MANY), [CPU]), null, "few");
  assert.equal(fewBitsAdvice(checkpoint("F32", 2 * MANY), [CPU]), null, "nothing to convert");
  assert.equal(fewBitsAdvice(checkpoint("BF16", 2 * MANY), [CUDA]), null, "no CPU");
});
