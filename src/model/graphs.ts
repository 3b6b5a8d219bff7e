/** The graphs that a run opens: training (loss and gradients), evaluation (loss), vision (features of pictures), decoder (logits with a cache). */
import { differentiate } from "../graph/autodiff.ts";
import { type Dim, mulDims } from "../graph/dim.ts";
import { Graph, type Value } from "../graph/graph.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { LayerBuilder, NOTHING_TRAINABLE, type Trainables, trainsVision, visibilityBias } from "./layers.ts";
import { type MemorySettings, NOTHING_SAVED } from "./memory.ts";
import { headLogits, type TextInputs, textStack, type VisualFeatures } from "./text.ts";
import { type VisionInputs, visionTower } from "./vision.ts";

/** A graph with the names of the trainable parameters that it takes. */
export interface ModelGraph {
  readonly graph: Graph;
  readonly trainable: readonly string[];
}

export const gradientName = (parameter: string): string => `grad/${parameter}`;
export const deepstackName = (index: number): string => `deepstack.${index}`;
export const cacheNames = (layer: number) => ({
  pastKey: `past.${layer}.key`,
  pastValue: `past.${layer}.value`,
  key: `grown.${layer}.key`,
  value: `grown.${layer}.value`,
});

/** The input that tells whose adapter is whose: [B, R], R ranks of all users together. */
export const ADAPTER_SHARE = "adapter_share";

/** Features computed beforehand, as inputs [M, D]. */
function fedFeatures({ graph, architecture }: LayerBuilder): VisualFeatures {
  const shape = ["M", architecture.text.hiddenSize];
  return {
    imageRows: graph.input("image_rows", "int64", ["M"]),
    imageEmbeds: graph.input("image_embeds", "float32", shape),
    deepstack: architecture.vision.deepstackIndexes.map((_, i) => graph.input(deepstackName(i), "float32", shape)),
  };
}

export function patchInputs({ graph, architecture }: LayerBuilder, images: Dim): Omit<VisionInputs, "attentionBias"> {
  const { channels, temporalPatchSize, patchSize, mergeSize } = architecture.vision;
  const patches = `${mergeSize ** 2}*M`;
  return {
    pixelValues: graph.input("pixel_values", "float32", [
      images,
      patches,
      channels * temporalPatchSize * patchSize ** 2,
    ]),
    positionIndices: graph.input("patch_position_indices", "int64", [patches, 4]),
    positionWeights: graph.input("patch_position_weights", "float32", [patches, 4]),
    patchPositions: graph.input("patch_positions", "int64", [patches, 2]),
  };
}

/** Pictures of any sizes laid end to end as one; each patch sees only those of its own picture. */
function computedFeatures(layers: LayerBuilder): VisualFeatures {
  const { ops, graph } = layers;
  const inputs = patchInputs(layers, 1);
  const patches = inputs.pixelValues.shape[1] as Dim;
  const segments = graph.input("patch_segments", "int64", [patches]);
  const isSamePicture = ops.equal(ops.reshape(segments, [patches, 1]), ops.reshape(segments, [1, patches]));
  const imageRows = graph.input("image_rows", "int64", ["M"]);
  return { imageRows, ...visionTower(layers, { ...inputs, attentionBias: visibilityBias(ops, isSamePicture) }) };
}

/** A token sees the tokens of its own document up to itself. */
function causalInputs(layers: LayerBuilder, visual: VisualFeatures): TextInputs {
  const { ops, graph, memory } = layers;
  const T = memory.tokenBlocks === 1 ? "T" : mulDims(memory.tokenBlocks, "Q");
  const inputIds = graph.input("input_ids", "int64", ["B", T]);
  const positionIds = graph.input("position_ids", "int64", [3, "B", T]);
  const segments = graph.input("segment_ids", "int64", ["B", T]);
  const isSameDocument = ops.equal(ops.reshape(segments, ["B", T, 1]), ops.reshape(segments, ["B", 1, T])); // [B, T, T]
  const place = ops.iota(T);
  const isEarlier = ops.lessOrEqual(ops.reshape(place, [1, T]), ops.reshape(place, [T, 1])); // [T, T]
  const bias = ops.reshape(visibilityBias(ops, ops.and(isSameDocument, isEarlier)), ["B", 1, 1, T, T]);
  return { inputIds, positionIds, visible: { kind: "bias", bias }, visual };
}

/** Sum of the cross-entropy over the supervised rows, and their number. Rows and targets are already shifted (train/loss.ts). */
function addLoss(layers: LayerBuilder, inputs: TextInputs): Value {
  const { ops, graph } = layers;
  const rows = graph.input("target_rows", "int64", ["N"]);
  const targets = graph.input("targets", "int64", ["N"]);
  const loss = ops.crossEntropy(headLogits(layers, textStack(layers, inputs, rows).hidden), targets);
  graph.output("loss_sum", loss);
  graph.output("token_count", ops.reduceSum(ops.fill(["N"], 1), [0]));
  return loss;
}

function lossGraph(
  name: string,
  checkpoint: Checkpoint,
  trainables: Trainables,
  { mode, memory }: { mode: "train" | "infer"; memory: MemorySettings },
): { layers: LayerBuilder; loss: Value } {
  const layers = new LayerBuilder(new Graph(name), checkpoint, trainables, mode, memory);
  const visual = trainsVision(trainables) ? computedFeatures(layers) : fedFeatures(layers);
  return { layers, loss: addLoss(layers, causalInputs(layers, visual)) };
}

/** Outputs loss_sum, token_count and one gradient per trainable parameter, of the sum. */
export function trainingGraph(
  checkpoint: Checkpoint,
  trainables: Trainables,
  memory: MemorySettings = NOTHING_SAVED,
): ModelGraph {
  const { layers, loss } = lossGraph("training_model", checkpoint, trainables, { mode: "train", memory });
  const names = [...layers.trainable.keys()];
  const gradients = differentiate(layers.ops, loss, [...layers.trainable.values()]);
  gradients.forEach((gradient, i) => {
    layers.graph.output(gradientName(names[i] ?? ""), gradient);
  });
  return { graph: layers.graph, trainable: names };
}

/** The same loss without gradients and without dropout. */
export function evalGraph(
  checkpoint: Checkpoint,
  trainables: Trainables,
  memory: MemorySettings = NOTHING_SAVED,
): ModelGraph {
  const { layers } = lossGraph("eval_model", checkpoint, trainables, { mode: "infer", memory });
  return { graph: layers.graph, trainable: [...layers.trainable.keys()] };
}

/** Features of I pictures of one size: image_embeds and deepstack.i, each [I*M, D]. */
export function visionGraph(checkpoint: Checkpoint, trainables: Trainables = NOTHING_TRAINABLE): ModelGraph {
  const layers = new LayerBuilder(new Graph("vision_model"), checkpoint, trainables, "infer");
  const { imageEmbeds, deepstack } = visionTower(layers, { ...patchInputs(layers, "I"), attentionBias: null });
  layers.graph.output("image_embeds", imageEmbeds);
  deepstack.forEach((features, i) => {
    layers.graph.output(deepstackName(i), features);
  });
  return { graph: layers.graph, trainable: [...layers.trainable.keys()] };
}

/**
 * Logits [N, V] of chosen rows of T new tokens on top of S cached ones, and what the cache grows by: keys and values of the
 * new tokens. The cache itself stays where the host keeps it.
 */
export function decoderGraph(checkpoint: Checkpoint, trainables: Trainables = NOTHING_TRAINABLE): ModelGraph {
  return decoder(new LayerBuilder(new Graph("decoder_model"), checkpoint, trainables, "answer"));
}

/** The same with adapters of several users side by side, of which each row has its own (eval/adapterStack.ts). */
export function stackedDecoderGraph(checkpoint: Checkpoint, trainables: Trainables): ModelGraph {
  const layers = new LayerBuilder(new Graph("decoder_model"), checkpoint, trainables, "answer");
  const { ops, graph } = layers;
  const ofRow = ops.reshape(graph.input(ADAPTER_SHARE, "float32", ["B", "R"]), ["B", 1, "R"]);
  layers.stackAdapters(ops.reshape(ops.expand(ofRow, ["B", "T", "R"]), ["B*T", "R"]));
  return decoder(layers);
}

function decoder(layers: LayerBuilder): ModelGraph {
  const { graph, architecture } = layers;
  const { kvHeads, headDim } = architecture.text;
  const inputs: TextInputs = {
    inputIds: graph.input("input_ids", "int64", ["B", "T"]),
    positionIds: graph.input("position_ids", "int64", [3, "B", "T"]),
    visual: fedFeatures(layers),
    visible: {
      kind: "cache",
      bias: graph.input("past_bias", "float32", ["B", "S"]),
      layers: Array.from({ length: architecture.text.layers }, (_, layer) => ({
        key: graph.input(cacheNames(layer).pastKey, "float32", ["B", kvHeads, "S", headDim]),
        value: graph.input(cacheNames(layer).pastValue, "float32", ["B", kvHeads, "S", headDim]),
      })),
    },
  };
  const { hidden, grown } = textStack(layers, inputs, graph.input("logit_rows", "int64", ["N"]));
  graph.output("logits", headLogits(layers, hidden));
  grown.forEach(({ key, value }, layer) => {
    graph.output(cacheNames(layer).key, key);
    graph.output(cacheNames(layer).value, value);
  });
  return { graph, trainable: [...layers.trainable.keys()] };
}
