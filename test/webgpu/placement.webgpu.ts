// Where each node of each graph is computed: the runtime hands what has no WebGPU kernel to the CPU without a word.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { builderOf } from "../../src/graph/builder.ts";
import { Graph } from "../../src/graph/graph.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { type Checkpoint, openCheckpoint, weightsDir } from "../../src/model/checkpoint.ts";
import { pictureFeeds } from "../../src/model/feeds.ts";
import { decoderGraph, evalGraph, trainingGraph, visionGraph } from "../../src/model/graphs.ts";
import { NOTHING_SAVED } from "../../src/model/memory.ts";
import { FULL, type TrainableSpec, trainablesOf } from "../../src/model/trainables.ts";
import { openSession } from "../../src/runtime/session.ts";
import { type Feeds, floats, ints } from "../../src/runtime/tensor.ts";
import { copyGraph, normGraph, sumGraph, updateGraph } from "../../src/train/deviceGraphs.ts";
import { layoutOf } from "../../src/train/layout.ts";
import { ADAMW_DEFAULTS } from "../../src/train/optimizer.ts";
import { elementCount } from "../../src/utils/safetensors.ts";
import { batchFeeds, withParameters } from "../modelFeeds.ts";
import { batchesOf, loadTiny, loraSpec, openEngine } from "../tiny.ts";

const WEBGPU = { kind: "webgpu" } as const;
const MOST_OF_A_SHAPE = 8; // a shape, or a length in it

interface ProfiledNode {
  readonly cat: string;
  readonly name: string;
  readonly args: {
    readonly provider?: string;
    readonly op_name: string;
    readonly output_type_shape: readonly Readonly<Record<string, readonly number[]>>[];
  };
}

const tiny = await loadTiny();
const checkpoint = openCheckpoint(`${tiny.dir}/model`);
const { architecture } = checkpoint;
const dora: TrainableSpec = {
  kind: "lora",
  settings: { r: 4, alpha: 8, dropout: 0.1, targetModules: "all-linear", useDora: true },
};

/** Runs the graph once. @returns the nodes that a kernel ran for */
async function profile(graph: Graph, feeds: Feeds, of: Checkpoint): Promise<ProfiledNode[]> {
  const folder = mkdtempSync(join(tmpdir(), "webgpu-"));
  const session = await openSession(encodeOnnx(graph, "webgpu"), {
    device: WEBGPU,
    weightsDir: weightsDir(of),
    profilePrefix: join(folder, "profile"),
  });
  await session.run(feeds);
  await session.release();
  const [file = ""] = readdirSync(folder);
  const events = JSON.parse(readFileSync(join(folder, file), "utf8")) as ProfiledNode[];
  rmSync(folder, { recursive: true });
  return events.filter(({ cat, args }) => cat === "Node" && args.provider !== undefined);
}

const isOfShapes = ({ args }: ProfiledNode): boolean =>
  args.output_type_shape.every((output) =>
    Object.entries(output).every(([type, shape]) => /^int/.test(type) && elementCount(shape) <= MOST_OF_A_SHAPE),
  );

async function checkPlacement(graph: Graph, feeds: Feeds, of = checkpoint): Promise<void> {
  const nodes = await profile(graph, withParameters(graph, feeds), of);
  const onCpu = nodes.filter(({ args }) => args.provider !== "WebGpuExecutionProvider");
  assert.ok(nodes.length - onCpu.length > 0, "something ran on the device");
  const strays = onCpu.filter((node) => !isOfShapes(node));
  assert.deepEqual(
    strays.map(({ name, args }) => `${args.op_name} ${name} ${JSON.stringify(args.output_type_shape)}`),
    [],
    `${graph.name}: computed on the CPU`,
  );
}

const feedsOf = (trainsVision: boolean): Promise<Feeds> => batchFeeds(tiny, architecture, trainsVision);

test("training_model of an adapter: LoRA", async () => {
  await checkPlacement(trainingGraph(checkpoint, trainablesOf(checkpoint, loraSpec())).graph, await feedsOf(false));
});

test("training_model of an adapter on every layer, vision too: DoRA with dropout", async () => {
  await checkPlacement(trainingGraph(checkpoint, trainablesOf(checkpoint, dora)).graph, await feedsOf(true));
});

test("training_model of all weights", async () => {
  await checkPlacement(trainingGraph(checkpoint, trainablesOf(checkpoint, FULL)).graph, await feedsOf(true));
});

test("training_model of all weights that computes its layers again, patches in two blocks", async () => {
  const memory = { ...NOTHING_SAVED, recomputes: "layers" as const, patchBlocks: 2 };
  const { graph } = trainingGraph(checkpoint, trainablesOf(checkpoint, FULL), memory);
  await checkPlacement(graph, await feedsOf(true));
});

test("training_model over weights in bfloat16: they are float32 before the first run", async () => {
  const other = await loadTiny("sharded-bf16");
  const stored = openCheckpoint(`${other.dir}/model`);
  const { graph } = trainingGraph(stored, trainablesOf(stored, loraSpec()));
  await checkPlacement(graph, await batchFeeds(other, stored.architecture, false), stored);
});

test("eval_model", async () => {
  await checkPlacement(evalGraph(checkpoint, trainablesOf(checkpoint, loraSpec())).graph, await feedsOf(false));
});

test("vision_model", async () => {
  const { batch } = batchesOf(tiny, openEngine(tiny, loraSpec(), { isTraining: false }), true);
  const { pictures } = await batch([0]);
  await checkPlacement(
    visionGraph(checkpoint).graph,
    pictureFeeds(architecture, pictures as Parameters<typeof pictureFeeds>[1]),
  );
});

test("decoder_model", async () => {
  const { kvHeads, headDim, layers, hiddenSize } = architecture.text;
  const cache = Object.fromEntries(
    Array.from({ length: layers }, (_, layer) => ["key", "value"].map((kind) => `past.${layer}.${kind}`))
      .flat()
      .map((name) => [name, floats(new Float32Array(kvHeads * 3 * headDim), [1, kvHeads, 3, headDim])]),
  );
  const none = floats(new Float32Array(0), [0, hiddenSize]);
  await checkPlacement(decoderGraph(checkpoint).graph, {
    input_ids: ints(Int32Array.of(5, 6), [1, 2]),
    position_ids: ints(Int32Array.of(3, 4, 3, 4, 3, 4), [3, 1, 2]),
    past_bias: floats(new Float32Array(3), [1, 3]),
    image_rows: ints(new Int32Array(0), [0]),
    image_embeds: none,
    ...Object.fromEntries(architecture.vision.deepstackIndexes.map((_, i) => [`deepstack.${i}`, none])),
    logit_rows: ints(Int32Array.of(1), [1]),
    ...cache,
  });
});

test("what moves, sums, measures and updates the state", async () => {
  const layout = layoutOf(
    new Map([
      ["lora_A.weight", [3, 5]],
      ["norm.bias", [4]],
    ]),
  );
  const graphs = [
    copyGraph(layout),
    sumGraph(layout, true),
    sumGraph(layout, false),
    normGraph(layout),
    updateGraph(layout, ADAMW_DEFAULTS, true),
  ];
  for (const graph of graphs) await checkPlacement(graph, {});
});

async function mask(seed: number, salt: number): Promise<Float32Array> {
  const graph = new Graph("mask");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", ["n"]);
  const drawn = ops.dropoutMask(graph.input("seed", "int64", []), { shape: ["n", 500], rate: 0.1, salt });
  graph.output("mask", ops.add(drawn, ops.reshape(ops.scale(x, 0), ["n", 1])));
  const session = await openSession(encodeOnnx(graph, "webgpu"), { device: WEBGPU });
  const outputs = await session.run({ x: floats(new Float32Array(400), [400]), seed: ints(Int32Array.of(seed), []) });
  await session.release();
  return outputs.mask?.data as Float32Array;
}

test("dropout: the share, the same again from the same seed, others from another and in another place", async () => {
  const first = await mask(1, 1);
  const kept = Math.fround(1 / 0.9);
  assert.ok(first.every((value) => value === 0 || Math.abs(value - kept) < 1e-6));
  const share = (values: Float32Array): number => values.filter((value) => value === 0).length / values.length;
  assert.ok(Math.abs(share(first) - 0.1) < 0.003, `${share(first)} of 200,000 are dropped`); // 4.5 standard deviations
  assert.deepEqual(await mask(1, 1), first);
  for (const other of [await mask(2, 1), await mask(1, 2)]) {
    const both = first.filter((value, i) => value === 0 && other[i] === 0).length / first.length;
    assert.ok(Math.abs(both - 0.01) < 0.001, `${both} are dropped in both`);
  }
  const rows = Array.from({ length: 400 }, (_, row) => share(first.subarray(row * 500, (row + 1) * 500)));
  assert.ok(Math.max(...rows) < 0.17 && Math.min(...rows) > 0.04, "no row is dropped much more than another");
  const beside = first.filter((value, i) => value === 0 && first[i + 1] === 0).length / first.length;
  assert.ok(Math.abs(beside - 0.01) < 0.001, `${beside} are dropped with their neighbour`);
});
