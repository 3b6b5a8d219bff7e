// The size of the graphs: what one decoder layer costs in a training step, and what is not built at all.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Graph } from "../../src/graph/graph.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { type Checkpoint, openCheckpoint } from "../../src/model/checkpoint.ts";
import { decoderGraph, evalGraph, trainingGraph, visionGraph } from "../../src/model/graphs.ts";
import type { LoraSettings } from "../../src/model/lora.ts";
import { LLM_PROJECTIONS } from "../../src/model/lora.ts";
import { FULL, type TrainableSpec, trainablesOf } from "../../src/model/trainables.ts";
import { readModel } from "../graph/protobuf.ts";
import { SHARDED, TINY } from "./folders.ts";

const tiny = openCheckpoint(TINY);
const settings: LoraSettings = { r: 4, alpha: 32, dropout: 0, targetModules: [...LLM_PROJECTIONS] };
const LORA: TrainableSpec = { kind: "lora", settings };

/** The same checkpoint with so many decoder layers. */
const withLayers = (checkpoint: Checkpoint, layers: number): Checkpoint => ({
  ...checkpoint,
  architecture: { ...checkpoint.architecture, text: { ...checkpoint.architecture.text, layers } },
});

/** How often each ONNX operation is written. */
function countsOf(graph: Graph): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { op } of readModel(encodeOnnx(graph)).nodes) counts.set(op, (counts.get(op) ?? 0) + 1);
  return counts;
}

/** What a graph of four layers has more than one of three: the layers in which DeepStack ends are in both. */
function countsOfOneLayer(build: (checkpoint: Checkpoint) => Graph): Record<string, number> {
  const four = { ...tiny, tensors: new Map(tiny.tensors) };
  for (const [name, entry] of tiny.tensors) four.tensors.set(name.replace("layers.2.", "layers.3."), entry);
  const [more, fewer] = [countsOf(build(withLayers(four, 4))), countsOf(build(withLayers(four, 3)))];
  const differences = [...more].map(([op, count]) => [op, count - (fewer.get(op) ?? 0)] as const);
  return Object.fromEntries(differences.filter(([, count]) => count !== 0).sort());
}

test("one decoder layer with LoRA, forward and backward", () => {
  const counts = countsOfOneLayer((checkpoint) => trainingGraph(checkpoint, trainablesOf(checkpoint, LORA)).graph);
  assert.deepEqual(counts, {
    Add: 16,
    FusedMatMul: 40,
    Gemm: 7,
    MatMul: 15,
    Mul: 35,
    Neg: 2,
    QuickGelu: 1,
    ReduceMean: 4,
    ReduceSum: 1,
    Reshape: 24,
    RotaryEmbedding: 4,
    Sigmoid: 1,
    SimplifiedLayerNormalization: 4,
    Softmax: 1,
    Sub: 6,
    Transpose: 8,
  });
});

test("one decoder layer of evaluation, and of answering", () => {
  const forward = {
    Add: 3,
    FusedMatMul: 15,
    Gemm: 7,
    MatMul: 1,
    Mul: 1,
    QuickGelu: 1,
    Reshape: 12,
    RotaryEmbedding: 2,
    SimplifiedLayerNormalization: 4,
    Softmax: 1,
    Transpose: 4,
  };
  const { MatMul: _, Softmax: __, ...others } = forward;
  const spec = (checkpoint: Checkpoint) => trainablesOf(checkpoint, LORA);
  assert.deepEqual(
    countsOfOneLayer((checkpoint) => evalGraph(checkpoint, spec(checkpoint)).graph),
    forward,
  );
  assert.deepEqual(
    countsOfOneLayer((checkpoint) => decoderGraph(checkpoint, spec(checkpoint)).graph),
    { ...others, Add: 2, FusedMatMul: 14, If: 1, Reshape: 8, Transpose: 2 }, // the attention's own are in the branches
  );
});

test("a frozen tower is no part of training; one that trains is", () => {
  const names = (spec: TrainableSpec) => readModel(encodeOnnx(trainingGraph(tiny, trainablesOf(tiny, spec)).graph));
  const lora = names(LORA);
  assert.deepEqual(
    lora.inputs.filter((name) => !name.includes("lora_")),
    [
      ...["image_rows", "image_embeds", "deepstack.0", "deepstack.1"],
      ...["input_ids", "position_ids", "segment_ids", "target_rows", "targets"],
    ],
  );
  assert.deepEqual(
    lora.initializers.filter(({ name }) => name.includes("visual")),
    [],
  );
  assert.deepEqual(lora.outputs.slice(0, 2), ["loss_sum", "token_count"]);
  assert.equal(lora.outputs.length, 2 + 2 * 7 * 3);
  const full = names(FULL);
  assert.deepEqual(full.outputs.slice(2).sort(), [...tiny.tensors.keys()].map((name) => `grad/${name}`).sort());
  assert.deepEqual(
    full.initializers.filter(({ external }) => external.location),
    [],
    "no weight is frozen",
  );
  const qkv: TrainableSpec = { kind: "lora", settings: { ...settings, targetModules: ["blocks.2.attn.qkv"] } };
  assert.ok(names(qkv).inputs.includes("patch_segments"));
});

test("dropout is part of training alone", () => {
  const spec: TrainableSpec = { kind: "lora", settings: { ...settings, dropout: 0.1 } };
  const inputsOf = (build: typeof trainingGraph) =>
    build(tiny, trainablesOf(tiny, spec)).graph.inputs.map(({ name }) => name);
  assert.deepEqual(
    [trainingGraph, evalGraph, decoderGraph].map((build) => inputsOf(build).includes("dropout_seed")),
    [true, false, false],
  );
  const { nodes } = trainingGraph(tiny, trainablesOf(tiny, spec)).graph;
  const salts = nodes.flatMap((node) => (node.op === "DropoutMask" ? [node.attrs.salt] : []));
  assert.deepEqual([salts.length, new Set(salts).size], [7 * 3, 7 * 3], "every layer has a mask of its own");
});

test("rows of a stored table are gathered before they become float32", () => {
  const sharded = openCheckpoint(SHARDED);
  for (const { graph } of [decoderGraph(sharded), visionGraph(sharded)]) {
    const tables = graph.nodes.flatMap(({ op, inputs }) => (op === "Gather" ? [inputs[0]] : []));
    const stored = tables.filter((table) => graph.weights.some(({ value }) => value === table));
    assert.deepEqual(
      stored.map((table) => table?.dtype),
      ["bfloat16"],
      graph.name,
    );
    const cast = graph.nodes.filter(({ op, inputs }) => op === "Cast" && stored.includes(inputs[0]));
    assert.deepEqual(cast, []);
  }
});

test("weights lie where their shard's header says", () => {
  const sharded = openCheckpoint(SHARDED);
  const { initializers } = readModel(encodeOnnx(decoderGraph(sharded).graph));
  const external = initializers.filter(({ external: place }) => place.location);
  assert.ok(external.length > 30);
  for (const { name, external: place } of external) {
    const entry = sharded.tensors.get(name);
    assert.deepEqual(
      [place.location && entry?.file.endsWith(`/${place.location}`), place.offset, place.length],
      [true, String(entry?.offset), String(entry?.byteLength)],
      name,
    );
  }
});
