// A gradient graph as text: a new large intermediate is seen here.
import assert from "node:assert/strict";
import { test } from "node:test";
import { differentiate } from "../../src/graph/autodiff.ts";
import { builderOf } from "../../src/graph/builder.ts";
import { Graph, type NodeOf, type Value } from "../../src/graph/graph.ts";
import { printGraph } from "../../src/graph/print.ts";

test("a low-rank layer with a norm, and the gradients of its two factors", () => {
  const graph = new Graph("lora");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", ["T", 8]);
  const [a, b] = [graph.input("a", "float32", [2, 8]), graph.input("b", "float32", [4, 2])];
  const frozen = { dtype: "float32" as const, location: "model.safetensors", offset: 0, byteLength: 128 };
  const [w, scale] = [
    graph.weight({ name: "w", shape: [4, 8], ...frozen }),
    graph.weight({ name: "scale", shape: [4], ...frozen }),
  ];
  const loss = graph.within("layer", () => {
    const low = ops.matMul(x, a, { transB: true });
    const y = ops.gemm(low, b, ops.matMul(x, w, { transB: true }), { transB: true, alpha: 8 });
    return ops.reduceSum(ops.rmsNorm(y, scale, 1e-6), [0, 1]);
  });
  const [gradA, gradB] = differentiate(ops, loss, [a, b]) as [Value, Value];
  graph.output("loss", loss);
  graph.output("grad/a", gradA);
  graph.output("grad/b", gradB);
  assert.equal(
    `\n${printGraph(graph)}\n`,
    `
graph lora
  input  x:f32[T, 8]
  input  a:f32[2, 8]
  input  b:f32[4, 2]
  const  const:f32[] = 1
  layer/MatMul:f32[T, 2] = MatMul(x, a) {transB}
  layer/MatMul_1:f32[T, 4] = MatMul(x, w) {transB}
  layer/Gemm:f32[T, 4] = Gemm(layer/MatMul, b, layer/MatMul_1) {transB, alpha: 8}
  layer/RmsNorm:f32[T, 4], layer/RmsNorm.inv_std:f32[T, 1] = RmsNorm(layer/Gemm, scale) {epsilon: 0.000001}
  layer/ReduceSum:f32[] = ReduceSum(layer/RmsNorm) {axes: [0, 1]}
  grad/Reshape:f32[1, 1] = Reshape(const) {shape: [1, 1]}
  grad/Expand:f32[T, 4] = Expand(grad/Reshape) {shape: [T, 4]}
  grad/Mul:f32[T, 4] = Mul(grad/Expand, scale)
  grad/Mul_1:f32[T, 4] = Mul(grad/Mul, layer/Gemm)
  grad/ReduceMean:f32[T, 1] = ReduceMean(grad/Mul_1) {axes: [1], keepdims}
  grad/Mul_2:f32[T, 1] = Mul(layer/RmsNorm.inv_std, layer/RmsNorm.inv_std)
  grad/Mul_3:f32[T, 1] = Mul(layer/RmsNorm.inv_std, grad/Mul_2)
  grad/Mul_4:f32[T, 1] = Mul(grad/Mul_3, grad/ReduceMean)
  grad/Mul_5:f32[T, 4] = Mul(grad/Mul, layer/RmsNorm.inv_std)
  grad/Mul_6:f32[T, 4] = Mul(layer/Gemm, grad/Mul_4)
  grad/Sub:f32[T, 4] = Sub(grad/Mul_5, grad/Mul_6)
  grad/MatMul:f32[T, 2] = MatMul(grad/Sub, b) {alpha: 8}
  grad/MatMul_1:f32[4, 2] = MatMul(grad/Sub, layer/MatMul) {transA, alpha: 8}
  grad/MatMul_2:f32[2, 8] = MatMul(grad/MatMul, x) {transA}
  output loss = layer/ReduceSum
  output grad/a = grad/MatMul_2
  output grad/b = grad/MatMul_1
`,
  );
});

test("a loss over an operation's second output has no gradient, and says so", () => {
  const graph = new Graph("second");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", [2, 3]);
  ops.rmsNorm(x, graph.input("scale", "float32", [3]), 1e-6);
  const [, inverseDeviation] = (graph.nodes[0] as NodeOf<"RmsNorm">).outputs as [Value, Value];
  const loss = ops.reduceSum(ops.exp(inverseDeviation), [0, 1]);
  assert.throws(() => differentiate(ops, loss, [x]), /gradient of RmsNorm: rules know of the first output alone/);
});

test("long constants are cut, booleans are names", () => {
  const graph = new Graph("short");
  const ops = builderOf(graph);
  graph.output("y", ops.reduceSum(graph.constant([1, 2, 3, 4, 5, 6, 7, 8, 9], [9]), [0], true));
  assert.equal(
    printGraph(graph),
    [
      "graph short",
      "  const  const:f32[9] = 1, 2, 3, 4, 5, 6, 7, 8, ...",
      "  ReduceSum:f32[1] = ReduceSum(const) {axes: [0], keepdims}",
      "  output y = ReduceSum",
    ].join("\n"),
  );
});
