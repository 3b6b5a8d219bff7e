// Every operation's forward values as the runtime computes them on a device, whole arrays, against PyTorch.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { type Builder, builderOf } from "../../src/graph/builder.ts";
import { Graph, type Value } from "../../src/graph/graph.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { type Device, targetOf } from "../../src/runtime/device.ts";
import { openSession } from "../../src/runtime/session.ts";
import { floats, type HostTensor, ints } from "../../src/runtime/tensor.ts";
import { required } from "../../src/utils/errors.ts";
import { elementCount } from "../../src/utils/safetensors.ts";

/** [shape, seed, low, high], or [shape, seed, limit] of whole numbers below the limit. */
type Input = readonly [shape: readonly number[], seed: number, ...range: number[]];

export interface Golden {
  readonly name: string;
  readonly inputs: readonly Input[];
  readonly outputs: readonly { readonly shape: readonly number[]; readonly data: readonly number[] }[];
}

export const { cases } = JSON.parse(readFileSync("test/fixtures/graph/ops.json", "utf8")) as {
  cases: readonly Golden[];
};

const TOLERANCE = 2e-6; // of the largest expected number: float32 against float64, erf and exp by polynomials
const MANY_ADDENDS = 1e-5; // thousands of additions, one after another

/** As scripts/fixtures/make_ops.py. */
function fill([shape, seed, low = 0, high]: Input): HostTensor {
  const numbers = Array.from(
    { length: elementCount(shape) },
    (_, i) => (((i + 1) * 2654435761 + seed * 40503 * 65537) % 2 ** 32) / 2 ** 32,
  );
  if (high === undefined)
    return ints(
      Int32Array.from(numbers, (u) => Math.floor(Math.fround(low * u))),
      shape,
    );
  return floats(
    Float32Array.from(numbers, (u) => low + (high - low) * u),
    shape,
  );
}

type Build = (ops: Builder, ...inputs: Value[]) => Value;
const rows = (ops: Builder, data: readonly number[]): Value => ops.graph.constant(data, [data.length], "int64");
const chosen = (ops: Builder, mask: Value, x: Value): Value => ops.where(mask, x, ops.scalar(0));

export const builds: Readonly<Record<string, Build>> = {
  add: (ops, a, b) => ops.add(a, b),
  sub: (ops, a, b) => ops.sub(a, b),
  mul: (ops, a, b) => ops.mul(a, b),
  div: (ops, a, b) => ops.div(a, b),
  neg: (ops, x) => ops.neg(x),
  exp: (ops, x) => ops.exp(x),
  sin: (ops, x) => ops.sin(x),
  cos: (ops, x) => ops.cos(x),
  erf: (ops, x) => ops.erf(x),
  tanh: (ops, x) => ops.tanh(x),
  sigmoid: (ops, x) => ops.sigmoid(x),
  silu: (ops, x) => ops.silu(x),
  sqrt: (ops, x) => ops.sqrt(x),
  "gelu none": (ops, x) => ops.gelu(x, "none"),
  "gelu tanh": (ops, x) => ops.gelu(x, "tanh"),
  "cast to int64": (ops, x) => ops.cast(x, "int64"),
  "cast to float32": (ops, x) => ops.cast(x, "float32"),
  "where equal and lessOrEqual": (ops, a, b, x) => chosen(ops, ops.and(ops.equal(a, b), ops.lessOrEqual(a, b)), x),
  "where lessOrEqual": (ops, a, b, x) => chosen(ops, ops.lessOrEqual(a, b), x),
  matMul: (ops, a, b) => ops.matMul(a, b),
  "matMul transA": (ops, a, b) => ops.matMul(a, b, { transA: true }),
  "matMul transB alpha": (ops, a, b) => ops.matMul(a, b, { transB: true, alpha: 0.25 }),
  "matMul batched, both": (ops, a, b) => ops.matMul(a, b, { transA: true, transB: true }),
  "matMul 70x130x90": (ops, a, b) => ops.slice(ops.matMul(a, b), 1, 50, 53),
  gemm: (ops, a, b, c) => ops.gemm(a, b, c, { transB: true, alpha: 8 }),
  "gemm transA": (ops, a, b, c) => ops.gemm(a, b, c, { transA: true }),
  reduceSum: (ops, x) => ops.reduceSum(x, [0, 2]),
  "reduceMean keepdims": (ops, x) => ops.reduceMean(x, [2], true),
  softmax: (ops, x) => ops.softmax(x),
  rmsNorm: (ops, x, w) => ops.rmsNorm(x, w, 1e-6),
  layerNorm: (ops, x, w, b) => ops.layerNorm(x, w, b, 1e-6),
  rotary: (ops, x, positions, angles) => ops.rotary(x, positions, ops.cos(angles), ops.sin(angles)),
  fusedAttention: (ops, q, k, v) => ops.fusedAttention(q, k, v, 2),
  crossEntropy: (ops, x, labels) => ops.crossEntropy(x, labels),
  subtractOneHot: (ops, x, index) => ops.subtractOneHot(x, index),
  gather: (ops, x, indices) => ops.gather(x, indices),
  "gather axis 1": (ops, x, indices) => ops.gather(x, indices, 1),
  "scatterRows none": (ops, x, updates) => ops.scatterRows(x, rows(ops, [3, 0]), updates, "none"),
  "scatterRows none, single numbers": (ops, x, updates) => ops.scatterRows(x, rows(ops, [3, 0]), updates, "none"),
  "scatterRows addDistinct": (ops, x, updates) => ops.scatterRows(x, rows(ops, [3, 0]), updates, "addDistinct"),
  "scatterRows add, 12000 updates of 7 rows": (ops, x, at, updates) => ops.scatterRows(x, at, updates, "add"),
  reshape: (ops, x) => ops.reshape(x, [3, 4]),
  transpose: (ops, x) => ops.transpose(x, [2, 0, 1]),
  concat: (ops, a, b) => ops.concat([a, b], 1),
  slice: (ops, x) => ops.slice(x, 1, 1, 3),
  expand: (ops, x) => ops.expand(x, [3, 2, 4]),
  fill: (ops) => ops.fill([2, 3], 1.5),
  iota: (ops) => ops.iota(5),
  "zero rows: matMul": (ops, a, b) => ops.matMul(a, b),
  "zero rows: matMul transA": (ops, a, b) => ops.matMul(a, b, { transA: true }),
  "zero rows: matMul scores": (ops, a) => ops.matMul(a, a, { transB: true }),
  "zero rows: gemm": (ops, a, b, c) => ops.gemm(a, b, c, { transB: true }),
  "zero rows: softmax": (ops, x) => ops.softmax(x),
  "zero rows: rmsNorm": (ops, x, w) => ops.rmsNorm(x, w, 1e-6),
  "zero rows: layerNorm": (ops, x, w, b) => ops.layerNorm(x, w, b, 1e-6),
  "zero rows: reduceSum": (ops, x) => ops.reduceSum(x, [0]),
  "zero rows: reduceMean of each": (ops, x) => ops.reduceMean(x, [1], true),
  "zero rows: gather": (ops, x, indices) => ops.gather(x, indices),
  "zero rows: scatterRows none": (ops, x, at, updates) => ops.scatterRows(x, at, updates, "none"),
  "zero rows: scatterRows add": (ops, x, at, updates) => ops.scatterRows(x, at, updates, "add"),
  "zero rows: scatterRows addDistinct": (ops, x, at, updates) => ops.scatterRows(x, at, updates, "addDistinct"),
  "zero rows: rotary": (ops, x, positions, angles) => ops.rotary(x, positions, ops.cos(angles), ops.sin(angles)),
  "zero rows: reshape": (ops, x) => ops.reshape(x, ["M", 2, 3]),
  "zero rows: transpose": (ops, x) => ops.transpose(x, [1, 0]),
  "zero rows: gelu": (ops, x) => ops.gelu(x, "none"),
};

/** All outputs of the last node; a length of 0 is unknown until the run. */
async function run({ name, inputs }: Golden, device: Device): Promise<HostTensor[]> {
  const graph = new Graph(name);
  const feeds = Object.fromEntries(inputs.map((input, i) => [`x${i}`, fill(input)]));
  const values = Object.entries(feeds).map(([input, { dtype, dims }]) =>
    graph.input(
      input,
      dtype,
      dims.map((dim) => (dim === 0 ? "M" : dim)),
    ),
  );
  const result = required(builds[name], `a build of ${name}`)(builderOf(graph), ...values);
  const last = required(graph.nodes.at(-1), "a node");
  assert.ok(last.outputs.includes(result), `${name}: its last node makes the result`);
  last.outputs.forEach((value, i) => {
    graph.output(`out${i}`, value);
  });
  const session = await openSession(encodeOnnx(graph, targetOf(device)), { device });
  const outputs = await session.run(feeds);
  await session.release();
  return last.outputs.map((_, i) => required(outputs[`out${i}`], `out${i}`));
}

export async function checkValues(golden: Golden, device: Device): Promise<void> {
  const outputs = await run(golden, device);
  assert.equal(outputs.length, golden.outputs.length);
  const tolerance = golden.name.includes("12000") ? MANY_ADDENDS : TOLERANCE;
  for (const [k, { shape, data }] of golden.outputs.entries()) {
    const got = required(outputs[k], `output ${k}`);
    assert.deepEqual(got.dims, shape);
    const largest = data.reduce((max, v) => Math.max(max, Math.abs(v)), 1e-3);
    data.forEach((expected, i) => {
      const error = Math.abs((got.data[i] as number) - expected) / largest;
      assert.ok(error <= tolerance, `${golden.name}: output ${k}[${i}] is ${got.data[i]}, PyTorch has ${expected}`);
    });
  }
}
