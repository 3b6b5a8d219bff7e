/** Names, shapes and first values of every weight of a Qwen3-VL, by Hugging Face's names. */
import { float32ToBf16 } from "../../src/utils/bf16.ts";
import { randomFrom } from "../../src/utils/random.ts";
import { elementCount, type WritableTensor } from "../../src/utils/safetensors.ts";
import type { TinyConfig } from "./configs.ts";

type Shapes = Record<string, readonly number[]>;

const EMBEDDING_DEVIATION = 0.1; // with the norm before a tied head, logits start with a deviation near 1
const POSITION_DEVIATION = 0.5; // places must be told apart from the first step on

/** [out, in] of linear weights, [out] of biases and norms, in the order of the file. */
export function weightShapes({ text_config: text, vision_config: vision }: TinyConfig): Shapes {
  const shapes: Shapes = { "model.language_model.embed_tokens.weight": [text.vocab_size, text.hidden_size] };
  for (let i = 0; i < text.num_hidden_layers; i++)
    Object.assign(shapes, under(`model.language_model.layers.${i}`, textLayer(text)));
  shapes["model.language_model.norm.weight"] = [text.hidden_size];
  const patch = [vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size];
  shapes["model.visual.patch_embed.proj.weight"] = [vision.hidden_size, ...patch];
  shapes["model.visual.patch_embed.proj.bias"] = [vision.hidden_size];
  shapes["model.visual.pos_embed.weight"] = [vision.num_position_embeddings, vision.hidden_size];
  for (let i = 0; i < vision.depth; i++) Object.assign(shapes, under(`model.visual.blocks.${i}`, visionBlock(vision)));
  const merged = vision.hidden_size * vision.spatial_merge_size ** 2;
  Object.assign(shapes, under("model.visual.merger", merger(merged, vision.hidden_size, vision.out_hidden_size)));
  for (const i of vision.deepstack_visual_indexes.keys())
    Object.assign(
      shapes,
      under(`model.visual.deepstack_merger_list.${i}`, merger(merged, merged, vision.out_hidden_size)),
    );
  return shapes;
}

const under = (scope: string, shapes: Shapes): Shapes =>
  Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [`${scope}.${name}`, shape]));

function textLayer(text: TinyConfig["text_config"]): Shapes {
  const { hidden_size: hidden, intermediate_size: inner, head_dim: head } = text;
  const [queries, keys] = [text.num_attention_heads * head, text.num_key_value_heads * head];
  return {
    "input_layernorm.weight": [hidden],
    "self_attn.q_proj.weight": [queries, hidden],
    "self_attn.k_proj.weight": [keys, hidden],
    "self_attn.v_proj.weight": [keys, hidden],
    "self_attn.o_proj.weight": [hidden, queries],
    "self_attn.q_norm.weight": [head],
    "self_attn.k_norm.weight": [head],
    "post_attention_layernorm.weight": [hidden],
    "mlp.gate_proj.weight": [inner, hidden],
    "mlp.up_proj.weight": [inner, hidden],
    "mlp.down_proj.weight": [hidden, inner],
  };
}

function visionBlock({ hidden_size: hidden, intermediate_size: inner }: TinyConfig["vision_config"]): Shapes {
  return {
    ...norm("norm1", hidden),
    ...linear("attn.qkv", 3 * hidden, hidden),
    ...linear("attn.proj", hidden, hidden),
    ...norm("norm2", hidden),
    ...linear("mlp.linear_fc1", inner, hidden),
    ...linear("mlp.linear_fc2", hidden, inner),
  };
}

/** Four patches become one token; the norm comes before the four are joined (merger) or after (DeepStack). */
function merger(merged: number, normed: number, out: number): Shapes {
  return { ...norm("norm", normed), ...linear("linear_fc1", merged, merged), ...linear("linear_fc2", out, merged) };
}

const linear = (name: string, rows: number, columns: number): Shapes => ({
  [`${name}.weight`]: [rows, columns],
  [`${name}.bias`]: [rows],
});

const norm = (name: string, size: number): Shapes => ({ [`${name}.weight`]: [size], [`${name}.bias`]: [size] });

/** A weight in bfloat16. */
export interface DrawnWeight extends WritableTensor {
  readonly values: Uint16Array;
}

/** Every weight in bfloat16, drawn from the seed and its own name: adding one does not change the others. */
export function drawWeights(config: TinyConfig, seed: number): DrawnWeight[] {
  return Object.entries(weightShapes(config)).map(([name, shape]) => {
    const values = firstValues(name, shape, { config, seed });
    return { name, shape, dtype: "BF16", values: float32ToBf16(values) };
  });
}

function firstValues(name: string, shape: readonly number[], from: { config: TinyConfig; seed: number }): Float32Array {
  const values = new Float32Array(elementCount(shape));
  if (name.endsWith(".bias")) return values;
  if (shape.length === 1) return values.fill(1);
  const random = randomFrom(from.seed, name);
  const deviation = deviationOf(name, shape, from.config);
  for (let i = 0; i < values.length; i++) values[i] = random.normal() * deviation;
  return values;
}

/** 1 / sqrt(inputs); what is added to the residual stream is made smaller, as GPT-2 does, by the number of additions. */
function deviationOf(name: string, shape: readonly number[], config: TinyConfig): number {
  if (name.includes("embed_tokens")) return EMBEDDING_DEVIATION;
  if (name.includes("pos_embed")) return POSITION_DEVIATION;
  const deviation = 1 / Math.sqrt(elementCount(shape.slice(1)));
  if (/\.(o_proj|down_proj)\.weight$/.test(name))
    return deviation / Math.sqrt(2 * config.text_config.num_hidden_layers);
  if (/blocks\.\d+\.(attn\.proj|mlp\.linear_fc2)\.weight$/.test(name))
    return deviation / Math.sqrt(2 * config.vision_config.depth);
  return deviation;
}
