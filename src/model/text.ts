/** The language model of Qwen3-VL: embedding, decoder layers with interleaved MRoPE and DeepStack, and the head. Source: transformers 5.18, modeling_qwen3_vl.py. */
import { type Dim, mulDims } from "../graph/dim.ts";
import type { Value } from "../graph/graph.ts";
import { required } from "../utils/errors.ts";
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
  readonly visible: Bias | Cache;
  readonly visual: VisualFeatures;
  /** Told the attention scores of each layer before softmax, [B, K, H/K*T, T]: what a lesson about attention needs. */
  readonly onScores?: (layer: number, scores: Value) => void;
}

/** What every token sees of all, in graphs without a cache: 0 for visible keys, very negative for hidden ones [B, 1, 1, T, T] */
export interface Bias {
  readonly kind: "bias";
  readonly bias: Value;
}

/** Tokens before these, which see them and what stands before each of them; a prompt begins with none. */
export interface Cache {
  readonly kind: "cache";
  /** 0 for tokens, very negative for places that hold none: [B, S] */
  readonly bias: Value;
  readonly layers: readonly KeysAndValues[]; // [B, K, S, Dh]
}

export interface KeysAndValues {
  readonly key: Value;
  readonly value: Value;
}

export interface TextOutputs {
  readonly hidden: Value; // [N, D], before the final norm
  /** What the cache grows by, per layer [B, K, T, Dh]. */
  readonly grown: readonly KeysAndValues[];
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

/** Normalised and rotated queries and keys, and values. */
interface Projected {
  readonly q: Value; // [B, T, H*Dh]
  readonly k: Value; // [B, T, K*Dh]
  readonly v: Value; // [B*T, K*Dh]
}

interface AttentionPlace {
  readonly inputs: TextInputs;
  readonly rotation: Rotation;
  readonly layer: number;
  readonly blocks: Blocks | null;
}

function projected(layers: LayerBuilder, path: string, x: Value, { inputs, rotation }: AttentionPlace): Projected {
  const { ops, architecture } = layers;
  const { heads, kvHeads, headDim } = architecture.text;
  const [batch, length] = inputs.inputIds.shape as readonly [Dim, Dim];
  const rotated = (name: string, count: number): Value => {
    const split = ops.reshape(layers.linear(`${path}.${name}_proj`, x), [mulDims(batch, length, count), headDim]);
    return layers.light(() => {
      const normed = ops.reshape(layers.rmsNorm(`${path}.${name}_norm`, split), [batch, length, count * headDim]);
      return ops.rotary(normed, rotation.positions, rotation.cos, rotation.sin); // [B, T, count*Dh]
    });
  };
  return { q: rotated("q", heads), k: rotated("k", kvHeads), v: layers.linear(`${path}.v_proj`, x) };
}

/** What the heads see for x [B*T, D], already normalised: [B*T, H*Dh]; and keys and values by head [B, K, T, Dh]. */
function selfAttention(
  layers: LayerBuilder,
  path: string,
  x: Value,
  of: AttentionPlace,
): KeysAndValues & { readonly heads: Value } {
  const { ops, architecture } = layers;
  const { heads, kvHeads, headDim } = architecture.text;
  const [batch, length] = of.inputs.inputIds.shape as readonly [Dim, Dim];
  const { visible } = of.inputs;
  const { q, k, v } = projected(layers, path, x, of);
  const perKeyHead = (values: Value): Value =>
    ops.transpose(ops.reshape(values, [batch, length, kvHeads, headDim]), [0, 2, 1, 3]); // [B, K, T, Dh]
  const [key, value] = layers.light(() => [perKeyHead(k), perKeyHead(v)] as const);
  const inRows = (mixed: Value): Value => ops.reshape(mixed, [mulDims(batch, length), heads * headDim]);
  if (visible.kind === "bias") {
    const mixed = layers.mixture(attentionByProducts(layers, q, { key, value }, visible.bias, of));
    return { heads: layers.light(() => inRows(ops.transpose(mixed, [0, 3, 1, 2, 4]))), key, value };
  }
  const past = required(visible.layers[of.layer], `cache of layer ${of.layer}`);
  const mixed = ops.cachedAttention(q, k, ops.reshape(v, k.shape), past.key, past.value, visible.bias);
  return { heads: inRows(mixed), key, value };
}

/** Attention without a cache, in operations that have gradients: [B, K, H/K, T, Dh] */
function attentionByProducts(
  layers: LayerBuilder,
  q: Value,
  { key, value }: KeysAndValues,
  bias: Value,
  { inputs, layer, blocks }: AttentionPlace,
): Value {
  const { ops, architecture } = layers;
  const { heads, kvHeads, headDim } = architecture.text;
  const [batch, length] = inputs.inputIds.shape as readonly [Dim, Dim];
  const group = heads / kvHeads; // query heads that share one key head
  const perHead = (): Value => ops.transpose(ops.reshape(q, [batch, length, kvHeads, group, headDim]), [0, 2, 3, 1, 4]); // [B, K, H/K, T, Dh]
  const queries = layers.light(perHead);
  const scale = 1 / Math.sqrt(headDim);
  if (blocks) return blockedAttention(ops, { q: queries, k: key, v: value, scale, blocks });
  const mixed = attention(ops, {
    q: ops.reshape(queries, [batch, kvHeads, mulDims(group, length), headDim]), // the heads of a group stand below each other: no key is copied
    k: key,
    v: value,
    scale,
    bias: { value: bias, scoreShape: [batch, kvHeads, group, length, length] },
    onScores: (scores) => inputs.onScores?.(layer, scores),
  }); // [B, K, H/K*T, Dh]
  return ops.reshape(mixed, queries.shape);
}

function mlp(layers: LayerBuilder, path: string, x: Value): Value {
  const { ops } = layers;
  const [gate, up] = [layers.linear(`${path}.gate_proj`, x), layers.linear(`${path}.up_proj`, x)];
  const wide = layers.light(() => ops.mul(ops.silu(gate), up));
  return layers.linear(`${path}.down_proj`, wide);
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
  const { visible } = inputs;
  const bias = visible.kind === "bias" ? visible.bias : null;
  const blocks = cutInto(ops, layers.memory.tokenBlocks, {
    bias,
    isCausal: true,
    keepsShares: layers.memory.keepsShares,
  });
  const grown: KeysAndValues[] = [];
  // DeepStack: the first layers add features of their own to the image tokens
  const withFeatures = (sum: Value, layer: number): Value => {
    const extra = deepstack[layer];
    return extra ? ops.scatterRows(sum, imageRows, extra, "addDistinct") : sum;
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
      grown.push({ key, value });
      if (!isLast) return withFeatures(block(layers, path, x, heads), layer);
      const isChosenLater = deepstack[layer] !== undefined;
      const whole = isChosenLater ? withFeatures(block(layers, path, x, heads), layer) : null;
      layers.chooseRows(rows);
      return whole ? ops.gather(whole, rows) : block(layers, path, ops.gather(x, rows), ops.gather(heads, rows)); // [N, D]
    });
  }
  return { hidden: x, grown };
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
