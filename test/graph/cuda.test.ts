// What can be said of the graphs for CUDA without a card: that they are well-formed, what they take and give, and what their rounding does.
import assert from "node:assert/strict";
import { test } from "node:test";
import { builderOf } from "../../src/graph/builder.ts";
import { Graph } from "../../src/graph/graph.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { ONNX_DTYPES, type Target } from "../../src/graph/writer.ts";
import { openCheckpoint, weightsDir } from "../../src/model/checkpoint.ts";
import { decoderGraph, evalGraph, gradientName, trainingGraph, visionGraph } from "../../src/model/graphs.ts";
import { FULL, trainablesOf } from "../../src/model/trainables.ts";
import { CPU } from "../../src/runtime/device.ts";
import { openSession } from "../../src/runtime/session.ts";
import { type Feeds, floats } from "../../src/runtime/tensor.ts";
import { required } from "../../src/utils/errors.ts";
import { batchFeeds, withParameters } from "../modelFeeds.ts";
import { adapterOf, loadTiny, loraSpec } from "../tiny.ts";
import { readCasts, readModel } from "./protobuf.ts";

const PRODUCTS = new Set(["MatMul", "Gemm", "FusedMatMul"]);

const graphsOf = (folder: string) => {
  const checkpoint = openCheckpoint(`test/fixtures/${folder}/model`);
  const lora = trainablesOf(checkpoint, loraSpec());
  const graphs = [
    trainingGraph(checkpoint, lora).graph,
    trainingGraph(checkpoint, trainablesOf(checkpoint, FULL)).graph,
    evalGraph(checkpoint, lora).graph,
    visionGraph(checkpoint, lora).graph,
    decoderGraph(checkpoint, lora).graph,
  ];
  return { checkpoint, graphs };
};

for (const folder of ["tiny-qwen3vl", "sharded-bf16"]) {
  const { checkpoint, graphs } = graphsOf(folder);
  for (const [i, graph] of graphs.entries()) {
    const bytes = encodeOnnx(graph, "cuda");
    const [model, casts] = [readModel(bytes), readCasts(bytes)];

    test(`${folder}, ${graph.name} ${i}: every product takes bfloat16`, () => {
      const half = new Set([
        ...casts.filter(({ to }) => to === ONNX_DTYPES.bfloat16).map(({ output }) => output),
        ...model.initializers.filter(({ dtype }) => dtype === ONNX_DTYPES.bfloat16).map(({ name }) => name),
      ]);
      const products = model.nodes.filter(({ op }) => PRODUCTS.has(op));
      assert.ok(products.length > 10);
      for (const { op, inputs } of products)
        assert.ok(
          inputs.every((input) => half.has(input)),
          `${op} of ${inputs}`,
        );
      const made = products.flatMap(({ outputs }) => outputs);
      const widened = new Set(casts.filter(({ to }) => to === ONNX_DTYPES.float32).map(({ input }) => input));
      assert.ok(
        made.every((name) => widened.has(name)),
        "and hands float32 on",
      );
    });

    test(`${folder}, ${graph.name} ${i}: inputs and outputs are those of the CPU's graph`, () => {
      const { inputs, outputs } = readModel(encodeOnnx(graph));
      assert.deepEqual([model.inputs, model.outputs], [inputs, outputs]);
      for (const { dtype } of [...graph.inputs, ...graph.outputs.map(({ value }) => value)])
        assert.ok(dtype === "float32" || dtype === "int64", `the binding takes no ${dtype}`);
    });

    test(`${folder}, ${graph.name} ${i}: the runtime finds its types consistent and lacks a kernel alone`, async () => {
      const opened = openSession(bytes, { device: CPU, weightsDir: weightsDir(checkpoint) });
      await assert.rejects(opened, /Could not find an implementation for FusedMatMul/);
    });
  }
}

test("types that do not fit are told before kernels are looked for", async () => {
  const graph = new Graph("mixed");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", [2, 2]);
  graph.output("y", ops.cast(ops.add(ops.cast(x, "bfloat16"), { ...x, dtype: "bfloat16" }), "float32"));
  await assert.rejects(openSession(encodeOnnx(graph, "cuda"), { device: CPU }), /Type Error/);
});

async function gradients(target: Target): Promise<ReadonlyMap<string, Float32Array>> {
  const tiny = await loadTiny();
  const checkpoint = openCheckpoint(`${tiny.dir}/model`);
  const { graph, trainable } = trainingGraph(checkpoint, trainablesOf(checkpoint, loraSpec()));
  const adapter = adapterOf(tiny);
  const values: Feeds = Object.fromEntries(
    graph.inputs
      .filter(({ name }) => trainable.includes(name))
      .map(({ name, shape }) => [name, floats(required(adapter.get(name), name), shape as readonly number[])]),
  );
  const session = await openSession(encodeOnnx(graph, target), { device: CPU, weightsDir: weightsDir(checkpoint) });
  const feeds = { ...(await batchFeeds(tiny, checkpoint.architecture, false)), ...values };
  const outputs = await session.run(withParameters(graph, feeds));
  await session.release();
  return new Map(trainable.map((name) => [name, outputs[gradientName(name)]?.data as Float32Array]));
}

function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, v, i) => sum + v * (y[i] as number), 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

test("with the rounding of bfloat16 each gradient keeps its direction", async () => {
  const [rounded, exact] = [await gradients("cuda-imitated"), await gradients("cpu")];
  const cosines = [...exact].map(([name, values]) => cosine(values, required(rounded.get(name), name)));
  const least = Math.min(...cosines);
  assert.ok(least > 0.999, `the least cosine is ${least}`);
  assert.ok(least < 1 - 1e-7, `${least}: nothing was rounded`);
});
