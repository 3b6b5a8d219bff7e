/** The vision tower of Qwen3-VL: patches -> merged features for the image tokens, and the DeepStack features. Source: transformers 5.18, modeling_qwen3_vl.py. */
import { type Dim, divDims, mulDims } from "../graph/dim.ts";
import type { Value } from "../graph/graph.ts";
import { VISION_ROPE_THETA } from "./architecture.ts";
import { type Blocks, blockedAttention, cutInto } from "./attention.ts";
import { attention, inverseFrequencies, type LayerBuilder } from "./layers.ts";
import { deepstackMerger, MERGER, mergedWidth, VISUAL, visionBlock } from "./parameters.ts";

/** I pictures of the same P patches each. */
export interface VisionInputs {
  readonly pixelValues: Value; // [I, P, channels * temporal * patch * patch]
  readonly positionIndices: Value; // [P, 4] rows of the learned position table to blend
  readonly positionWeights: Value; // [P, 4]
  readonly patchPositions: Value; // [P, 2] row and column of each patch
  /** 0 or very negative, [P, P]: which patches belong to one picture; null when P is one picture. */
  readonly attentionBias: Value | null;
}

export interface VisionOutputs {
  readonly imageEmbeds: Value; // [I*M, D]
  readonly deepstack: readonly Value[]; // each [I*M, D]
}

/** The rotation of one head: row angles in its first quarter, column angles in its second; both halves turn alike. */
function rotationOf(
  { ops, architecture }: LayerBuilder,
  { patchPositions, pixelValues }: VisionInputs,
): { positions: Value; cos: Value; sin: Value } {
  const { vision } = architecture;
  const headDim = vision.hiddenSize / vision.heads;
  const quarter = headDim / 4;
  const [images, patches] = pixelValues.shape as readonly [Dim, Dim];
  const frequencies = ops.graph.constant(inverseFrequencies(VISION_ROPE_THETA, headDim / 2, architecture.rotaryDtype), [
    1,
    1,
    quarter,
  ]);
  const angles = ops.mul(ops.reshape(ops.cast(patchPositions, "float32"), [patches, 2, 1]), frequencies); // [P, 2, Dh/4]
  const table = ops.reshape(angles, [patches, 2 * quarter]); // [P, Dh/2]
  return {
    positions: ops.expand(ops.reshape(ops.iota(patches), [1, patches]), [images, patches]),
    cos: ops.cos(table),
    sin: ops.sin(table),
  };
}

function embedPatches(layers: LayerBuilder, { pixelValues, positionIndices, positionWeights }: VisionInputs): Value {
  const { ops, architecture } = layers;
  const { hiddenSize } = architecture.vision;
  const [images, patches, width] = pixelValues.shape as readonly [Dim, Dim, number];
  // the kernel is as large as its stride, so the convolution is a matrix product
  const kernel = `${VISUAL}.patch_embed.proj`;
  const embedded = layers.matrixProduct(
    ops.reshape(pixelValues, [mulDims(images, patches), width]),
    { weight: `${kernel}.weight`, bias: `${kernel}.bias` },
    [hiddenSize, width],
  );
  const neighbours = layers.rowsOf(`${VISUAL}.pos_embed.weight`, positionIndices); // [P, 4, Dv]
  const position = ops.reduceSum(ops.mul(neighbours, ops.reshape(positionWeights, [patches, 4, 1])), [1]); // [P, Dv]
  return ops.reshape(ops.add(ops.reshape(embedded, [images, patches, hiddenSize]), position), [
    mulDims(images, patches),
    hiddenSize,
  ]); // [I*P, Dv]
}

interface Surroundings {
  readonly inputs: VisionInputs;
  readonly rotation: { readonly positions: Value; readonly cos: Value; readonly sin: Value };
  readonly blocks: Blocks | null;
}

/** attention(x) for x [I*P, Dv] */
function selfAttention(layers: LayerBuilder, path: string, x: Value, of: Surroundings): Value {
  const { ops, architecture } = layers;
  const { hiddenSize, heads } = architecture.vision;
  const headDim = hiddenSize / heads;
  const [images, patches] = of.inputs.pixelValues.shape as readonly [Dim, Dim];
  const rows = mulDims(images, patches);
  const qkv = layers.linear(`${path}.qkv`, x); // [I*P, 3*Dv]
  const part = (index: number): Value =>
    ops.reshape(ops.slice(qkv, 1, index * hiddenSize, (index + 1) * hiddenSize), [images, patches, hiddenSize]);
  const perHead = (value: Value): Value =>
    ops.transpose(ops.reshape(value, [images, patches, heads, headDim]), [0, 2, 1, 3]); // [I, H, P, Dh]
  const rotated = (value: Value): Value =>
    layers.light(() => ops.rotary(value, of.rotation.positions, of.rotation.cos, of.rotation.sin));
  const bias = of.inputs.attentionBias;
  const [q, k, v] = [rotated(part(0)), rotated(part(1)), part(2)]; // [I, P, Dv]
  const project = (mixed: Value): Value => layers.linear(`${path}.proj`, ops.reshape(mixed, [rows, hiddenSize]));
  if (layers.mode === "infer" && !bias) return project(ops.fusedAttention(q, k, v, heads));
  const scale = 1 / Math.sqrt(headDim);
  const [queries, keys, values] = layers.light(() => [perHead(q), perHead(k), perHead(v)] as const);
  if (of.blocks) {
    const apart = ops.reshape(queries, [images, heads, 1, patches, headDim]); // each head has keys of its own
    const mixed = blockedAttention(ops, { q: apart, k: keys, v: values, scale, blocks: of.blocks });
    return project(ops.transpose(ops.reshape(mixed, queries.shape), [0, 2, 1, 3]));
  }
  const mixed = attention(ops, {
    q: queries,
    k: keys,
    v: values,
    scale,
    bias: bias && { value: bias, scoreShape: [images, heads, patches, patches] },
  }); // [I, H, P, Dh]
  return project(ops.transpose(mixed, [0, 2, 1, 3]));
}

function block(layers: LayerBuilder, index: number, x: Value, of: Surroundings): Value {
  const { ops } = layers;
  const path = visionBlock(index);
  const attended = ops.add(x, selfAttention(layers, `${path}.attn`, layers.layerNorm(`${path}.norm1`, x), of));
  const inner = layers.linear(`${path}.mlp.linear_fc1`, layers.layerNorm(`${path}.norm2`, attended));
  const wide = layers.light(() => ops.gelu(inner, "tanh"));
  return ops.add(attended, layers.linear(`${path}.mlp.linear_fc2`, wide));
}

/** Four neighbouring patches become one token. The main merger normalises each patch, DeepStack's the four together. */
function merge(layers: LayerBuilder, path: string, x: Value, normalise: "patches" | "merged"): Value {
  const { ops, architecture } = layers;
  const { mergeSize } = architecture.vision;
  const width = mergedWidth(architecture);
  const merged = (value: Value): Value => ops.reshape(value, [divDims(x.shape[0] as Dim, mergeSize ** 2), width]);
  const normed =
    normalise === "patches" ? merged(layers.layerNorm(`${path}.norm`, x)) : layers.layerNorm(`${path}.norm`, merged(x));
  return layers.linear(`${path}.linear_fc2`, ops.gelu(layers.linear(`${path}.linear_fc1`, normed), "none"));
}

/** Runs the tower over I pictures at once. */
export function visionTower(layers: LayerBuilder, inputs: VisionInputs): VisionOutputs {
  const { graph, architecture } = layers;
  const { depth, deepstackIndexes } = architecture.vision;
  return graph.within("visual", () => {
    const rotation = rotationOf(layers, inputs);
    const blocks = cutInto(layers.ops, layers.memory.patchBlocks, {
      bias: inputs.attentionBias,
      isCausal: false,
      keepsShares: false,
    });
    let x = graph.within("patch_embed", () => embedPatches(layers, inputs));
    const deepstack: Value[] = [];
    for (let index = 0; index < depth; index++) {
      x = layers.within(`blocks.${index}`, () => block(layers, index, x, { inputs, rotation, blocks }));
      const at = deepstackIndexes.indexOf(index);
      if (at >= 0)
        deepstack[at] = graph.within(`deepstack.${at}`, () => merge(layers, deepstackMerger(at), x, "merged"));
    }
    return { imageEmbeds: graph.within("merger", () => merge(layers, MERGER, x, "patches")), deepstack };
  });
}
