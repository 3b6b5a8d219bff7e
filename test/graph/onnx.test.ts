// The ONNX form: what is written, what is left out, and shapes that are known only at a run.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { builderOf } from "../../src/graph/builder.ts";
import { Graph, type Value } from "../../src/graph/graph.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { CPU } from "../../src/runtime/device.ts";
import { openSession } from "../../src/runtime/session.ts";
import { type Feeds, floats, type HostTensor, ints } from "../../src/runtime/tensor.ts";
import { required } from "../../src/utils/errors.ts";
import { readHeader, writeSafetensors } from "../../src/utils/safetensors.ts";
import { readModel } from "./protobuf.ts";

async function run(graph: Graph, feeds: Feeds, weightsDir?: string): Promise<Readonly<Record<string, HostTensor>>> {
  const session = await openSession(encodeOnnx(graph), { device: CPU, ...(weightsDir ? { weightsDir } : {}) });
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

const counting = (count: number): Float32Array => Float32Array.from({ length: count }, (_, i) => i);

test("a reshape to several unknown lengths, none of them left out when it is 0", async () => {
  const graph = new Graph("reshape");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", ["B*M", 6]);
  graph.input("b", "int64", ["B"]);
  const m = graph.input("m", "int64", [1, "4*M"]);
  graph.output("y", ops.reshape(x, ["B", "M", 2, 3]));
  graph.output("z", ops.reshape(ops.reshape(x, [3, "B", 2, "M"]), ["6*B*M"]));
  graph.output("wide", ops.expand(ops.reshape(m, ["M", 4, 1]), ["M", 4, "B"]));
  for (const [B, M] of [
    [2, 3],
    [2, 0],
    [0, 3],
    [1, 1],
  ] as const) {
    const out = await run(graph, {
      x: floats(counting(B * M * 6), [B * M, 6]),
      b: ints(new Int32Array(B), [B]),
      m: ints(new Int32Array(4 * M), [1, 4 * M]),
    });
    assert.deepEqual([out.y?.dims, out.y?.data], [[B, M, 2, 3], counting(B * M * 6)]);
    assert.deepEqual([out.z?.dims, out.z?.data], [[6 * B * M], counting(B * M * 6)]);
    assert.deepEqual(out.wide?.dims, [M, 4, B]);
  }
});

test("a length of 0 that is known is a length, not a copy of the input's", async () => {
  const graph = new Graph("zero");
  const x = graph.input("x", "float32", [5, 0]);
  graph.output("y", builderOf(graph).reshape(x, [3, 2, 0]));
  assert.deepEqual((await run(graph, { x: floats(new Float32Array(0), [5, 0]) })).y?.dims, [3, 2, 0]);
});

test("nodes, weights and constants that no output needs are left out", () => {
  const graph = new Graph("unused");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", [2]);
  const place = { dtype: "float32" as const, shape: [2], location: "w.safetensors", offset: 64, byteLength: 8 };
  const [used, unused] = ["used", "unused"].map((name) => graph.weight({ name, ...place })) as [Value, Value];
  ops.mul(ops.exp(unused), ops.scalar(7));
  graph.output("y", ops.add(x, used));
  const { nodes, initializers } = readModel(encodeOnnx(graph));
  assert.deepEqual(nodes, [{ op: "Add", inputs: ["x", "used"], outputs: ["y"], attributes: [] }]);
  assert.deepEqual(initializers, [
    { name: "used", dims: [2], dtype: 1, external: { location: "w.safetensors", offset: "64", length: "8" } },
  ]);
});

test("weights are read where the safetensors header says, in every dtype", async () => {
  const dir = mkdtempSync(join(tmpdir(), "onnx-"));
  try {
    const file = join(dir, "w.safetensors");
    await writeSafetensors(file, [
      { name: "odd", dtype: "U8", shape: [3], values: new Uint8Array(3) },
      { name: "half", dtype: "F16", shape: [2], values: Uint16Array.of(0x3c00, 0xc000) },
      { name: "brain", dtype: "BF16", shape: [2], values: Uint16Array.of(0x3f80, 0xc040) },
      { name: "full", dtype: "F32", shape: [2], values: Float32Array.of(0.5, 8) },
    ]);
    const graph = new Graph("weights");
    const ops = builderOf(graph);
    const dtypes = { half: "float16", brain: "bfloat16", full: "float32" } as const;
    const parts = Object.entries(dtypes).map(([name, dtype]) => {
      const { offset, byteLength } = required(readHeader(file).tensors.get(name), name);
      assert.notEqual(offset % 4, 0, `${name} lies unaligned`);
      return ops.cast(
        graph.weight({ name, dtype, shape: [2], location: "w.safetensors", offset, byteLength }),
        "float32",
      );
    });
    graph.output("y", ops.concat(parts, 0));
    assert.deepEqual((await run(graph, {}, dir)).y?.data, Float32Array.of(1, -2, 1, -3, 0.5, 8));
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("an output may be an input, a constant, or another output's value", async () => {
  const graph = new Graph("outputs");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", ["T"]);
  const y = ops.neg(x);
  graph.output("same", x);
  graph.output("seven", ops.scalar(7));
  graph.output("first", y);
  graph.output("second", y);
  const out = await run(graph, { x: floats(Float32Array.of(1, 2), [2]) });
  assert.deepEqual(
    ["same", "seven", "first", "second"].map((name) => [...(out[name]?.data ?? [])]),
    [[1, 2], [7], [-1, -2], [-1, -2]],
  );
});

test("a length that no input has is a mistake that names it", () => {
  const graph = new Graph("lost");
  graph.input("x", "float32", ["B*T"]);
  graph.output("y", builderOf(graph).iota("T"));
  assert.throws(() => encodeOnnx(graph), /an input with the dimension T is missing/);
});

test("constants of equal numbers are stored once; negative and large ones survive", async () => {
  const graph = new Graph("constants");
  const ops = builderOf(graph);
  const numbers = [-1, 0, 2 ** 31 - 1, -(2 ** 31)];
  graph.output("a", ops.add(graph.constant(numbers, [4], "int64"), graph.constant([0], [1], "int64")));
  graph.output("b", ops.neg(graph.constant(numbers, [4], "int64")));
  assert.equal(graph.constants.length, 2);
  assert.deepEqual([...((await run(graph, {})).a?.data ?? [])], numbers);
});

test("the model names the operator sets it needs", () => {
  const graph = new Graph("opsets");
  graph.output("y", builderOf(graph).silu(graph.input("x", "float32", [1])));
  assert.deepEqual(readModel(encodeOnnx(graph)).opsets, [
    ["", 21],
    ["com.microsoft", 1],
  ]);
});
