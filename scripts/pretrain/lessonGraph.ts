/** The training graph of pretraining: questions behind one picture, with two losses that only teach and leave no weight behind. */
import { differentiate } from "../../src/graph/autodiff.ts";
import { HIDDEN } from "../../src/graph/cachedAttention.ts";
import { type Dim, mulDims } from "../../src/graph/dim.ts";
import { Graph, type Value } from "../../src/graph/graph.ts";
import type { Checkpoint } from "../../src/model/checkpoint.ts";
import { gradientName, type ModelGraph, patchInputs } from "../../src/model/graphs.ts";
import { LayerBuilder, type Trainables, visibilityBias } from "../../src/model/layers.ts";
import { EMBED } from "../../src/model/parameters.ts";
import { headLogits, textStack, type VisualFeatures } from "../../src/model/text.ts";
import { visionTower } from "../../src/model/vision.ts";

/** Segment of the tokens that all questions of a row share; questions count from 1, padding is -1. */
export const SHARED = 0;

/** The head that is shown where to look while it writes a coordinate: one behind the middle, so that a layer is left to read what it found. */
export const POINTING_LAYER = 2;

const NAME_SCALE = 12; // cosines lie in -1..1; times this, a softmax over them can become sure

/**
 * Outputs loss_sum and token_count as every training graph; digit_loss, pointing_loss and naming_loss as sums; and the
 * gradient of loss_sum + pointing_weight * pointing_loss + naming_weight * naming_loss by each parameter.
 */
export function lessonGraph(checkpoint: Checkpoint, trainables: Trainables): ModelGraph {
  const layers = new LayerBuilder(new Graph("lesson_model"), checkpoint, trainables, "train");
  const { graph, ops } = layers;
  const visual = pictureFeatures(layers);
  const { losses, pointing } = answerLosses(layers, visual);
  const naming = namingLoss(layers, visual.imageEmbeds);
  const weighted = (name: string, loss: Value): Value => ops.mul(graph.input(name, "float32", []), loss);
  const total = ops.add(
    losses.loss_sum,
    ops.add(weighted("pointing_weight", pointing), weighted("naming_weight", naming)),
  );
  const outputs = { ...losses, pointing_loss: pointing, naming_loss: naming };
  for (const [name, value] of Object.entries(outputs)) graph.output(name, value);
  const names = [...layers.trainable.keys()];
  differentiate(ops, total, [...layers.trainable.values()]).forEach((gradient, i) => {
    graph.output(gradientName(names[i] ?? ""), gradient);
  });
  return { graph, trainable: names };
}

/** Pictures of one size, one a row. */
function pictureFeatures(layers: LayerBuilder): VisualFeatures {
  const features = visionTower(layers, { ...patchInputs(layers, "B"), attentionBias: null });
  const imageRows = layers.graph.input("image_rows", "int64", [features.imageEmbeds.shape[0] as Dim]);
  return { imageRows, ...features };
}

function answerLosses(layers: LayerBuilder, visual: VisualFeatures) {
  const { graph, ops } = layers;
  const watched: Value[] = [];
  const inputs = {
    inputIds: graph.input("input_ids", "int64", ["B", "T"]),
    positionIds: graph.input("position_ids", "int64", [3, "B", "T"]),
    visible: { kind: "bias" as const, bias: questionBias(layers) },
    visual,
    onScores: (_: number, scores: Value): void => void watched.push(scores),
  };
  const rows = graph.input("target_rows", "int64", ["N"]);
  const logits = headLogits(layers, textStack(layers, inputs, rows).hidden);
  const targets = graph.input("targets", "int64", ["N"]);
  const digits = graph.input("digit_rows", "int64", ["G"]); // which of the N targets are digits of a point
  const losses = {
    loss_sum: ops.crossEntropy(logits, targets),
    token_count: ops.reduceSum(ops.fill(["N"], 1), [0]),
    digit_loss: ops.crossEntropy(ops.gather(logits, digits), ops.gather(targets, digits)),
  };
  return { losses, pointing: pointingLoss(layers, watched[POINTING_LAYER]) };
}

/** A question sees what all share and itself, up to the present token. */
function questionBias({ graph, ops }: LayerBuilder): Value {
  const segments = graph.input("segment_ids", "int64", ["B", "T"]);
  const [ofQuery, ofKey] = [ops.reshape(segments, ["B", "T", 1]), ops.reshape(segments, ["B", 1, "T"])];
  const isShared = ops.equal(ofKey, graph.constant([SHARED], [], "int64"));
  const own = ops.where(isShared, ops.scalar(0), visibilityBias(ops, ops.equal(ofQuery, ofKey))); // [B, T, T]
  const place = ops.iota("T");
  const isEarlier = ops.lessOrEqual(ops.reshape(place, [1, "T"]), ops.reshape(place, ["T", 1]));
  return ops.reshape(ops.where(isEarlier, own, ops.scalar(HIDDEN)), ["B", 1, 1, "T", "T"]);
}

/** Cross-entropy between where the pointing head looks while a digit is written and the token of the cell that is meant. */
function pointingLoss({ graph, ops }: LayerBuilder, scores: Value | undefined): Value {
  if (!scores) throw new RangeError(`the model has no layer ${POINTING_LAYER} to point with`);
  const keys = scores.shape.at(-1) as Dim;
  const rows = mulDims(...scores.shape.slice(0, -1));
  const looks = ops.gather(ops.reshape(scores, [rows, keys]), graph.input("pointing_rows", "int64", ["P"]));
  return ops.crossEntropy(looks, graph.input("pointing_columns", "int64", ["P"]));
}

/** Cross-entropy that makes the feature of a cell resemble the embedding of the word for what it shows. */
function namingLoss(layers: LayerBuilder, imageEmbeds: Value): Value {
  const { graph, ops } = layers;
  const unit = (x: Value): Value =>
    ops.div(x, ops.sqrt(ops.add(ops.reduceSum(ops.mul(x, x), [1], true), ops.scalar(1e-6))));
  const shown = unit(ops.gather(imageEmbeds, graph.input("naming_rows", "int64", ["C"])));
  const cosines = ops.matMul(shown, unit(layers.parameter(EMBED)), { transB: true, alpha: NAME_SCALE });
  return ops.crossEntropy(cosines, graph.input("naming_targets", "int64", ["C"]));
}
