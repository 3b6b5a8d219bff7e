// Shapes are checked where a node is appended, and the message names operation, expectation and inputs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Builder, builderOf } from "../../src/graph/builder.ts";
import { type DType, Graph, type Value } from "../../src/graph/graph.ts";
import { ShapeError } from "../../src/graph/shapes.ts";

type Of = (dtype: DType, ...shape: readonly (number | string)[]) => Value;

const refusals: Readonly<Record<string, readonly [(ops: Builder, of: Of) => Value, RegExp]>> = {
  "Add, shapes": [
    (ops, of) => ops.add(of("float32", 2, "T"), of("float32", "B")),
    /^internal: Add: expected two shapes that broadcast and one dtype, got x0 float32\[2,T\], x1 float32\[B\]$/,
  ],
  "Mul, dtypes": [(ops, of) => ops.mul(of("float32", 2), of("int64", 2)), /Mul: .* x0 float32\[2\], x1 int64\[2\]/],
  "Exp of whole numbers": [
    (ops, of) => ops.exp(of("int64", 2)),
    /Exp: expected numbers it is defined on, got x0 int64/,
  ],
  "Neg of a mask": [(ops, of) => ops.neg(of("bool", 2)), /Neg: expected numbers/],
  "And of numbers": [(ops, of) => ops.and(of("int64", 2), of("int64", 2)), /And: expected two masks/],
  "Where without a mask": [
    (ops, of) => ops.where(of("float32", 2), of("float32", 2), of("float32", 2)),
    /Where: expected bool, and two values that broadcast/,
  ],
  "Where, shapes": [
    (ops, of) => ops.where(of("bool", 2), of("float32", 3), of("float32", 2)),
    /Where: expected bool, and two values that broadcast/,
  ],
  "MatMul, inner sizes": [
    (ops, of) => ops.matMul(of("float32", "B", 3), of("float32", 4, 3)),
    /MatMul: expected matrices that fit \(transA false, transB false\), got x0 float32\[B,3\], x1 float32\[4,3\]/,
  ],
  "MatMul, ranks": [(ops, of) => ops.matMul(of("float32", 2, 2, 3), of("float32", 3, 4)), /MatMul: expected matrices/],
  "MatMul, unlike leading sizes": [
    (ops, of) => ops.matMul(of("float32", "B", 2, 3), of("float32", "T", 3, 4)),
    /MatMul: expected matrices/,
  ],
  "MatMul, dtypes": [
    (ops, of) => ops.matMul(of("float32", 2, 3), of("bfloat16", 3, 4)),
    /MatMul: expected matrices that fit .* x1 bfloat16/,
  ],
  "MatMul of vectors": [(ops, of) => ops.matMul(of("float32", 3), of("float32", 3)), /MatMul: expected matrices/],
  "Gemm, c": [
    (ops, of) => ops.gemm(of("float32", 2, 3), of("float32", 3, 4), of("float32", 3)),
    /Gemm: expected matrices, and a c that broadcasts/,
  ],
  "Gemm of more than matrices": [
    (ops, of) => ops.gemm(of("float32", 1, 2, 3), of("float32", 1, 3, 4), of("float32", 4)),
    /Gemm: expected matrices/,
  ],
  "ReduceSum, axis": [
    (ops, of) => ops.reduceSum(of("float32", 2), [1]),
    /ReduceSum: expected axes \[1\], counted from 0/,
  ],
  "ReduceMean, from the end": [(ops, of) => ops.reduceMean(of("float32", 2), [-1]), /expected axes \[-1\]/],
  "RmsNorm, scale": [
    (ops, of) => ops.rmsNorm(of("float32", "B", 4), of("float32", 3), 1e-6),
    /RmsNorm: expected a scale as long as the last axis/,
  ],
  "LayerNorm, bias": [
    (ops, of) => ops.layerNorm(of("float32", "B", 4), of("float32", 4), of("float32", 1), 1e-6),
    /LayerNorm: expected scale and bias as long as the last axis/,
  ],
  "Rotary, head size": [
    (ops, of) =>
      ops.rotary(of("float32", "B", "T", 12), of("int64", "B", "T"), of("float32", 9, 4), of("float32", 9, 4)),
    /Rotary: expected x \[B, T, H\*Dh\], int64 positions \[B, T\]/,
  ],
  "Rotary, positions": [
    (ops, of) => ops.rotary(of("float32", "B", "T", 8), of("int64", "B"), of("float32", 9, 4), of("float32", 9, 4)),
    /Rotary: expected x/,
  ],
  "FusedAttention, heads": [
    (ops, of) => ops.fusedAttention(of("float32", 1, 2, 8), of("float32", 1, 2, 8), of("float32", 1, 2, 8), 3),
    /FusedAttention: expected q, k and v \[B, T, H\*Dh\] of 3 heads/,
  ],
  "CrossEntropy, labels": [
    (ops, of) => ops.crossEntropy(of("float32", "N", 5), of("float32", "N")),
    /CrossEntropy: expected logits \[N, V\], int64 labels \[N\]/,
  ],
  "SubtractOneHot, rows": [
    (ops, of) => ops.subtractOneHot(of("float32", "N", 5), of("int64", "M")),
    /SubtractOneHot: expected x \[N, V\], int64 index \[N\]/,
  ],
  "Gather, indices": [
    (ops, of) => ops.gather(of("float32", 5, 2), of("float32", 2)),
    /Gather: expected int64 indices and an axis 0/,
  ],
  "Gather, axis": [(ops, of) => ops.gather(of("float32", 5), of("int64", 2), 1), /Gather: .* an axis 1/],
  "ScatterRows, updates": [
    (ops, of) => ops.scatterRows(of("float32", "R", 4), of("int64", "M"), of("float32", "M", 3), "add"),
    /ScatterRows: expected x \[R, \.\.\.\], int64 rows \[M\], updates \[M, \.\.\.\]/,
  ],
  Reshape: [
    (ops, of) => ops.reshape(of("float32", "B", 6), ["B", 2, 2]),
    /Reshape: expected as many elements as \[B,2,2\], got x0 float32\[B,6\]/,
  ],
  "Transpose, an axis twice": [
    (ops, of) => ops.transpose(of("float32", 2, 3), [1, 1]),
    /Transpose: expected axes that \[1,1\] puts in order/,
  ],
  "Concat, other axes": [
    (ops, of) => ops.concat([of("float32", 2, 3), of("float32", 3, 3)], 1),
    /Concat: expected equal shapes but for axis 1/,
  ],
  "Concat, axis": [(ops, of) => ops.concat([of("float32", 2)], 1), /Concat: expected equal shapes but for axis 1/],
  "Concat of nothing": [(ops) => ops.concat([], 0), /Concat: expected at least one input, got nothing/],
  "Slice of an unknown axis": [
    (ops, of) => ops.slice(of("float32", "T"), 0, 0, 1),
    /Slice: expected a known axis 0 that holds \[0, 1\)/,
  ],
  "Slice behind the end": [(ops, of) => ops.slice(of("float32", 4), 0, 2, 5), /holds \[2, 5\)/],
  Expand: [
    (ops, of) => ops.expand(of("float32", 2), [3]),
    /Expand: expected a shape that broadcasts to \[3\], got x0 float32\[2\]/,
  ],
};

for (const [name, [build, message]] of Object.entries(refusals)) {
  test(`refused: ${name}`, () => {
    const graph = new Graph("refusals");
    const of: Of = (dtype, ...shape) => graph.input(`x${graph.inputs.length}`, dtype, shape);
    assert.throws(
      () => build(builderOf(graph), of),
      (thrown: Error) => thrown instanceof ShapeError && message.test(thrown.message),
    );
    assert.equal(graph.nodes.length, 0, "nothing was appended");
  });
}

test("names are given once", () => {
  const graph = new Graph("names");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", [2]);
  assert.throws(() => graph.input("x", "float32", [3]), /graph names has two values "x"/);
  const y = ops.exp(x);
  graph.output("y", y);
  assert.throws(() => graph.output("y", ops.exp(y)), /graph names has two outputs "y"/);
  assert.throws(() => graph.output("x", y), /graph names has two values "x"/);
  graph.output("Neg", ops.exp(y));
  assert.equal(ops.neg(x).name, "Neg_1", "a node does not take an output's name");
});
