// What a graph costs, against figures worked out by hand: no outside reference counts these graphs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { differentiate } from "../../src/graph/autodiff.ts";
import { builderOf } from "../../src/graph/builder.ts";
import { costOf, peakBytes, weightMemory } from "../../src/graph/cost.ts";
import { Graph } from "../../src/graph/graph.ts";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { trainingGraph, visionGraph } from "../../src/model/graphs.ts";
import { LLM_PROJECTIONS } from "../../src/model/lora.ts";
import { trainablesOf } from "../../src/model/trainables.ts";
import { TINY_MODEL } from "../text/models.ts";

test("products, and the bytes of what is not one", () => {
  const graph = new Graph("g");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", ["T", 8]);
  const w = graph.input("w", "float32", [16, 8]);
  const q = graph.input("q", "float32", ["B", 3, "T", 4]);
  const y = ops.matMul(x, w, { transB: true }); // [T, 16]: 2 * T * 16 * 8; reads w, 4 * 128
  graph.output("sum", ops.add(y, y)); // moves 3 * 4 * 16 * T: y is read twice
  graph.output("view", ops.reshape(y, [16, "T"])); // nothing
  graph.output("scores", ops.matMul(q, q, { transB: true })); // [B, 3, T, T]: 2 * 3 * B * T * T * 4
  ops.exp(ops.exp(y)); // nobody wants it, so it is not run
  assert.deepEqual(costOf(graph)({ T: 10, B: 2 }), {
    matrixFlops: 2 * 10 * 16 * 8,
    batchedFlops: 2 * 3 * 2 * 100 * 4,
    wholeFlops: 0,
    movedBytes: 4 * 128 + 3 * 4 * 16 * 10,
  });
  assert.throws(() => costOf(graph)({ T: 10 }), /the length of B is not known/);
});

test("weights in few bits: whole numbers apart, what rounds a factor once, packed into memory", () => {
  const graph = new Graph("few bits");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", ["T", 64]);
  const weight = (name: string, dtype: "int8" | "uint8" | "float32", shape: readonly number[], byteLength: number) =>
    graph.weight({ name, dtype, shape, location: "w", offset: 0, byteLength });
  const rows = (name: string) => ({
    values: weight(`${name}.values`, "int8", [64, 32], 2048),
    scales: weight(`${name}.scales`, "float32", [32], 128),
    zeroPoints: null,
    form: { kind: "rows", rotation: 64, inputBits: 8, isPacked: true, isTurned: false } as const,
  });
  const blocks = {
    values: weight("b.values", "uint8", [16, 2, 16], 512),
    scales: weight("b.scales", "float32", [16, 2], 128),
    zeroPoints: weight("b.zeroPoints", "uint8", [16, 1], 16),
    form: { kind: "blocks", bits: 4, block: 32, roundsInput: true } as const,
  };
  graph.output("one", ops.quantMatMul(x, rows("one"), 32));
  graph.output("two", ops.quantMatMul(x, rows("two"), 32));
  graph.output("three", ops.quantMatMul(x, blocks, 16));
  assert.deepEqual(costOf(graph)({ T: 10 }), {
    matrixFlops: 2 * 10 * 64 * 16,
    batchedFlops: 0,
    wholeFlops: 2 * (2 * 10 * 64 * 32),
    movedBytes: 2 * (2048 + 128) + (512 + 128 + 16) + 4 * 6 * 640 + 2 * (4 * 2 * 320), // x is rounded once
  });
  const { mapped, copiedBytes } = weightMemory(graph);
  assert.deepEqual([mapped.size, copiedBytes], [4, 2048 + 2048 + 512]);
});

test("values that the gradient reads too stay mapped beside their packed copy; turning them is paid for", () => {
  const graph = new Graph("both ways");
  const ops = builderOf(graph);
  const weight = (name: string, dtype: "int8" | "float32", shape: readonly number[], byteLength: number) =>
    graph.weight({ name, dtype, shape, location: "w", offset: 0, byteLength });
  const x = graph.input("x", "float32", ["T", 64]);
  const form = { kind: "rows", rotation: 64, inputBits: 8, isPacked: true, isTurned: false } as const;
  const [values, scales] = [weight("values", "int8", [64, 32], 2048), weight("scales", "float32", [32], 128)];
  const y = ops.quantMatMul(x, { values, scales, zeroPoints: null, form }, 32);
  const [dx = y] = differentiate(ops, ops.reduceSum(ops.mul(y, y), [0, 1]), [x]);
  graph.output("dx", dx);
  assert.deepEqual(weightMemory(graph), {
    mapped: new Map([
      ["values", 2048],
      ["scales", 128],
    ]),
    copiedBytes: 2048,
  });
  const { wholeFlops, movedBytes } = costOf(graph)({ T: 10 });
  assert.equal(wholeFlops, 2 * (2 * 10 * 64 * 32));
  // x and the gradient are rounded, both products scaled, y is squared and its gradient made of two
  const floats = 6 * 64 + 6 * 32 + 2 * (32 + 64);
  assert.ok(movedBytes >= 4 * 10 * floats + 2 * (2048 + 128) + 2 * 2048, "read twice, and once written and read again");
});

test("the most bytes alive at once: views share, sums write over what dies, outputs stay", () => {
  const graph = new Graph("g");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", ["T"]);
  const a = ops.exp(x); // 4T
  const b = ops.reshape(a, ["T", 1]); // shares a's
  const c = ops.exp(b); // a dies here: in its place, 4T
  const d = ops.concat([c, c], 1); // 8T more: 12T
  graph.output("e", ops.reduceSum(d, [1])); // c is gone: 8T + 4T
  assert.equal(peakBytes(graph, { T: 100 }), 1200);

  const kept = new Graph("kept");
  const more = builderOf(kept);
  const y = more.exp(kept.input("x", "float32", ["T"]));
  kept.output("y", y);
  kept.output("z", more.exp(y)); // y is an output: not in its place
  assert.equal(peakBytes(kept, { T: 100 }), 800);
});

test("what follows from weights alone is computed when a session opens, not in a run", () => {
  const file = { location: "w", offset: 0, byteLength: 256 };
  const graph = new Graph("g");
  const ops = builderOf(graph);
  const w = ops.cast(graph.weight({ name: "w", dtype: "bfloat16", shape: [16, 8], ...file }), "float32");
  graph.output("y", ops.matMul(graph.input("x", "float32", ["T", 8]), w, { transB: true }));
  assert.equal(peakBytes(graph, { T: 10 }), 4 * 16 * 10);
  assert.equal(costOf(graph)({ T: 10 }).movedBytes, 4 * 128);
  assert.deepEqual(weightMemory(graph), { mapped: new Map(), copiedBytes: 512 });
});

test("a weight stored in less than float32 is copied for its product alone", () => {
  const file = { location: "w", offset: 0, byteLength: 256 };
  const graph = new Graph("g");
  const ops = builderOf(graph);
  const w = graph.weight({ name: "w", dtype: "bfloat16", shape: [16, 8], ...file });
  const y = ops.storedMatMul(graph.input("x", "float32", ["T", 8]), w); // [T, 16]
  graph.output("z", ops.storedMatMul(y, w, { transposed: false })); // [T, 8]
  assert.equal(peakBytes(graph, { T: 10 }), 4 * 16 * 10 + 4 * 8 * 10 + 512);
  const cost = costOf(graph)({ T: 10 });
  assert.deepEqual([cost.matrixFlops, cost.movedBytes], [2 * 2 * 10 * 16 * 8, 2 * (256 + 2 * 512)]);
  assert.deepEqual(weightMemory(graph), { mapped: new Map([["w", 256]]), copiedBytes: 0 });
});

test("the training graph of LoRA costs what its layers do", () => {
  const checkpoint = openCheckpoint(TINY_MODEL);
  const { text } = checkpoint.architecture;
  const { hiddenSize: D, intermediateSize: F, heads, kvHeads, headDim, layers, vocabSize: V } = text;
  const settings = { r: 4, alpha: 8, dropout: 0, targetModules: [...LLM_PROJECTIONS] };
  const { graph } = trainingGraph(checkpoint, trainablesOf(checkpoint, { kind: "lora", settings }));
  const [T, N] = [500, 7];
  const { matrixFlops, batchedFlops } = costOf(graph)({ B: 1, T, N, M: 0 });

  const [q, kv] = [heads * headDim, kvHeads * headDim];
  // scores and mixture forward, two products for each of them backward; nothing is saved above the diagonal
  assert.equal(batchedFlops, layers * 3 * 4 * heads * T * T * headDim);
  // weights forward and, for the gradient of their input, backward; adapters one product more. The last layer behind its
  // attention and the head only for N rows; the first layer's q, k and v need no gradient of their input
  const qkv = [
    [D, q],
    [D, kv],
    [D, kv],
  ] as const;
  const rest = [
    [q, D],
    [D, F],
    [D, F],
    [F, D],
  ] as const;
  const frozen = (pairs: readonly (readonly [number, number])[], rows: number, times: number): number =>
    pairs.reduce((sum, [a, b]) => sum + 2 * rows * a * b * times, 0);
  const adapters = (pairs: readonly (readonly [number, number])[], rows: number): number =>
    pairs.reduce((sum, [a, b]) => sum + 2 * rows * settings.r * (a + b) * 3, 0);
  const all =
    layers * (frozen(qkv, T, 2) + adapters(qkv, T)) +
    (layers - 1) * (frozen(rest, T, 2) + adapters(rest, T)) +
    frozen(rest, N, 2) +
    adapters(rest, N) +
    2 * 2 * N * D * V;
  const firstInput = frozen(qkv, T, 1) + qkv.reduce((sum, [a]) => sum + 2 * T * settings.r * a, 0);
  assert.equal(matrixFlops, all - firstInput);
});

test("weights are counted once; of those stored in less than float32, small ones are copied and matrices are not", () => {
  const f32 = openCheckpoint(TINY_MODEL);
  const held = weightMemory(visionGraph(f32).graph);
  const stored = [...f32.tensors.values()].filter(({ name }) => name.startsWith("model.visual."));
  assert.equal(
    [...held.mapped.values()].reduce((sum, bytes) => sum + bytes, 0),
    stored.reduce((sum, { byteLength }) => sum + byteLength, 0),
  );
  assert.equal(held.copiedBytes, 0);
  const bf16 = openCheckpoint("test/fixtures/sharded-bf16/model");
  const cast = weightMemory(visionGraph(bf16).graph);
  const pictures = [...bf16.tensors.values()].filter(({ name }) => name.startsWith("model.visual."));
  const isMatrix = (one: { readonly shape: readonly number[] }): boolean => one.shape.length > 1;
  const matrices = pictures.filter(isMatrix).map(({ name, byteLength }) => [name, byteLength] as const);
  assert.deepEqual([...cast.mapped].sort(), matrices.sort());
  const small = pictures.filter((one) => !isMatrix(one));
  assert.equal(
    cast.copiedBytes,
    small.reduce((sum, { byteLength }) => sum + 2 * byteLength, 0),
  );
});
