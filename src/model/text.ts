/** The language model of Qwen3-VL: embedding, decoder layers with interleaved MRoPE and DeepStack, and the head. Source: transformers 5.18, modeling_qwen3_vl.py. */
import { type Dim, mulDims } from "../graph/dim.ts";
import type { Value } from "../graph/graph.ts";

import type { TextArchitecture } from "./architecture.ts";
import { type Blocks, blockedAttention, cutInto } from "./attention.ts";
import { attention, inverseFrequencies, type LayerBuilder } from "./layers.ts";
import { EMBED, textLayer } from "./parameters.ts";

/** Outputs of the vision tower and where they go. */
export interface VisualFeatures {
  readonly imageRows: Value; // [M] flat indices b*T + t of the image tokens
  readonly imageEmbeds: Value; // [M, D]
  readonly deepstack: readonly Value[]; // each [M, D], added after layer 0, 1, ...
}

export interface TextInputs {
  readonly inputIds: Value; // [B, T]
  readonly positionIds: Value; // [3, B, T]
  /** 0 for visible keys, very negative for hidden ones: [B, 1, 1, T, S+T] */
  readonly attentionBias: Value;
  readonly visual: VisualFeatures;
  /** Keys and values of earlier tokens, per layer [B, K, S, Dh]; none in training. */
  readonly cache?: readonly { readonly key: Value; readonly value: Value }[];
  /** Told the attention scores of each layer before softmax, [B, K, H/K*T, S+T]: what a lesson about attention needs. */
  readonly onScores?: (layer: number, scores: Value) => void;
}

export interface TextOutputs {
  readonly hidden: Value; // [N, D], before the final norm
  readonly cache: readonly { readonly key: Value; readonly value: Value }[];
}

interface Rotation {
  readonly positions: Value; // [B, T] row of the table for each token
  readonly cos: Value; // [B*T, Dh/2]
  readonly sin: Value;
}

/** Which of time, height, width drives each rotary frequency: h where i % 3 = 1, w where i % 3 = 2, within their sections; t elsewhere. */
export function mropeAxes({ headDim, mropeSection }: TextArchitecture): number[] {
  return Array.from({ length: headDim / 2 }, (_, i) => {
    const axis = i % 3;
    return axis > 0 && i < 3 * (mropeSection[axis] ?? 0) ? axis : 0;
  });
}

function rotationOf({ ops, architecture }: LayerBuilder, positionIds: Value): Rotation {
  const { text } = architecture;
  const [, batch, length] = positionIds.shape as readonly [Dim, Dim, Dim];
  const rows = mulDims(batch, length);
  const half = text.headDim / 2;
  const axes = ops.graph.constant(mropeAxes(text), [half], "int64");
  const perFrequency = ops.gather(ops.cast(ops.reshape(positionIds, [3, rows]), "float32"), axes); // [Dh/2, B*T]
  const angles = ops.mul(
    ops.transpose(perFrequency, [1, 0]),
    ops.graph.constant(inverseFrequencies(text.ropeTheta, text.headDim, architecture.rotaryDtype), [half]),
  ); // [B*T, Dh/2]
  return { positions: ops.reshape(ops.iota(rows), [batch, length]), cos: ops.cos(angles), sin: ops.sin(angles) };
}

/** What the heads see for x [B*T, D], already normalised: [B*T, H*Dh] */
function selfAttention(
  layers: LayerBuilder,
  path: string,
  x: Value,
  of: { inputs: TextInputs; rotation: Rotation; layer: number; blocks: Blocks | null },
): { heads: Value; key: Value; value: Value } {
  const { ops, architecture } = layers;
  const { heads, kvHeads, headDim } = architecture.text;
  const [batch, length] = of.inputs.inputIds.shape as readonly [Dim, Dim];
  const rows = mulDims(batch, length);
  const group = heads / kvHeads; // query heads that share one key head
  const rotated = (name: string, count: number): Value => {
    const split = ops.reshape(layers.linear(`${path}.${name}_proj`, x), [mulDims(rows, count), headDim]);
    const normed = ops.reshape(layers.rmsNorm(`${path}.${name}_norm`, split), [batch, length, count * headDim]);
    return ops.rotary(normed, of.rotation.positions, of.rotation.cos, of.rotation.sin); // [B, T, count*Dh]
  };
  const perKeyHead = (value: Value): Value =>
    ops.transpose(ops.reshape(value, [batch, length, kvHeads, headDim]), [0, 2, 1, 3]); // [B, K, T, Dh]
  const queries = ops.transpose(
    ops.reshape(rotated("q", heads), [batch, length, kvHeads, group, headDim]),
    [0, 2, 3, 1, 4],
  ); // [B, K, H/K, T, Dh]
  const cached = of.inputs.cache?.[of.layer];
  const append = (past: Value | undefined, now: Value): Value => (past ? ops.concat([past, now], 2) : now);
  const key = append(cached?.key, perKeyHead(rotated("k", kvHeads))); // [B, K, S+T, Dh]
  const value = append(cached?.value, perKeyHead(layers.linear(`${path}.v_proj`, x)));
  const keys = key.shape[2] as Dim;
  const scale = 1 / Math.sqrt(headDim);
  const mixed = of.blocks
    ? blockedAttention(ops, { q: queries, k: key, v: value, scale, blocks: of.blocks })
    : attention(ops, {
        q: ops.reshape(queries, [batch, kvHeads, mulDims(group, length), headDim]), // the heads of a group stand below each other: no key is copied
        k: key,
        v: value,
        scale,
        bias: { value: of.inputs.attentionBias, scoreShape: [batch, kvHeads, group, length, keys] },
        onScores: (scores) => of.inputs.onScores?.(of.layer, scores),
      }); // [B, K, H/K*T, Dh]
  const perToken = ops.transpose(ops.reshape(mixed, [batch, kvHeads, group, length, headDim]), [0, 3, 1, 2, 4]); // [B, T, K, H/K, Dh]
  return { heads: ops.reshape(perToken, [rows, heads * headDim]), key, value };
}

function mlp(layers: LayerBuilder, path: string, x: Value): Value {
  const { ops } = layers;
  const gate = ops.silu(layers.linear(`${path}.gate_proj`, x));
  return layers.linear(`${path}.down_proj`, ops.mul(gate, layers.linear(`${path}.up_proj`, x)));
}

/**
 * Embeds the tokens and runs every decoder layer. Behind the last attention tokens no longer meet, so what follows is
 * computed for the chosen rows alone: with few supervised tokens the last layer costs little more than its attention.
 * @param rows [N] flat indices b*T + t of the tokens whose logits are wanted
 */
export function textStack(layers: LayerBuilder, inputs: TextInputs, rows: Value): TextOutputs {
  const { ops, architecture, graph } = layers;
  const [batch, length] = inputs.inputIds.shape as readonly [Dim, Dim];
  const { imageRows, imageEmbeds, deepstack } = inputs.visual;
  const words = layers.rowsOf(EMBED, ops.reshape(inputs.inputIds, [mulDims(batch, length)])); // [B*T, D]
  let x = ops.scatterRows(words, imageRows, imageEmbeds, "none");
  const rotation = rotationOf(layers, inputs.positionIds);
  const blocks = cutInto(ops, layers.memory.tokenBlocks, { bias: inputs.attentionBias, isCausal: true });
  const cache: { key: Value; value: Value }[] = [];
  // DeepStack: the first layers add features of their own to the image tokens
  const withFeatures = (sum: Value, layer: number): Value => {
    const extra = deepstack[layer];
    return extra ? ops.scatterRows(sum, imageRows, ops.add(ops.gather(sum, imageRows), extra), "none") : sum;
  };
  for (let layer = 0; layer < architecture.text.layers; layer++) {
    const isLast = layer === architecture.text.layers - 1; // its backward pass comes next, there is nothing to save
    x = (isLast ? graph : layers).within(`layers.${layer}`, () => {
      const path = textLayer(layer);
      const { heads, key, value } = graph.within("self_attn", () =>
        selfAttention(layers, `${path}.self_attn`, layers.rmsNorm(`${path}.input_layernorm`, x), {
          inputs,
          rotation,
          layer,
          blocks,
        }),
      );
      cache.push({ key, value });
      if (!isLast) return withFeatures(block(layers, path, x, heads), layer);
      if (deepstack[layer]) return ops.gather(withFeatures(block(layers, path, x, heads), layer), rows);
      return block(layers, path, ops.gather(x, rows), ops.gather(heads, rows)); // [N, D]
    });
  }
  return { hidden: x, cache };
}

/** What follows attention, row by row: x + o_proj(heads), and the feed-forward layer on top. */
function block(layers: LayerBuilder, path: string, x: Value, heads: Value): Value {
  const { ops, graph } = layers;
  const attended = graph.within("self_attn", () => ops.add(x, layers.linear(`${path}.self_attn.o_proj`, heads)));
  const normed = layers.rmsNorm(`${path}.post_attention_layernorm`, attended);
  return ops.add(
    attended,
    graph.within("mlp", () => mlp(layers, `${path}.mlp`, normed)),
  );
}

/** Final norm and head: hidden [N, D] -> logits [N, V] */
export function headLogits(layers: LayerBuilder, hidden: Value): Value {
  const { architecture, graph } = layers;
  return graph.within("head", () =>
    layers.head(layers.rmsNorm("model.language_model.norm", hidden), architecture.isHeadTied ? EMBED : null),
  );
}
