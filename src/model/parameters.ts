/** The names and shapes of all parameters of a Qwen3-VL, as Hugging Face names them. One table: checkpoints, graphs and LoRA go by it. */
import type { Architecture } from "./architecture.ts";

export const EMBED = "model.language_model.embed_tokens.weight";
export const HEAD = "lm_head.weight";
export const FINAL_NORM = "model.language_model.norm.weight";
export const VISUAL = "model.visual";
export const textLayer = (layer: number): string => `model.language_model.layers.${layer}`;
export const visionBlock = (block: number): string => `${VISUAL}.blocks.${block}`;
export const MERGER = `${VISUAL}.merger`;
export const deepstackMerger = (index: number): string => `${VISUAL}.deepstack_merger_list.${index}`;

export const isVision = (name: string): boolean => name.startsWith(`${VISUAL}.`);

/** A layer y = W x (+ b) that LoRA can attach to; W is [out, in]. */
export interface LinearModule {
  /** Module path without ".weight", as `model.named_modules()` gives it. */
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly hasBias: boolean;
}

function textLinears({ text }: Architecture, layer: number): LinearModule[] {
  const { hiddenSize: d, intermediateSize: f, attentionBias: hasBias } = text;
  const q = text.heads * text.headDim;
  const kv = text.kvHeads * text.headDim;
  const attn = `${textLayer(layer)}.self_attn`;
  const mlp = `${textLayer(layer)}.mlp`;
  return [
    { name: `${attn}.q_proj`, inFeatures: d, outFeatures: q, hasBias },
    { name: `${attn}.k_proj`, inFeatures: d, outFeatures: kv, hasBias },
    { name: `${attn}.v_proj`, inFeatures: d, outFeatures: kv, hasBias },
    { name: `${attn}.o_proj`, inFeatures: q, outFeatures: d, hasBias },
    { name: `${mlp}.gate_proj`, inFeatures: d, outFeatures: f, hasBias: false },
    { name: `${mlp}.up_proj`, inFeatures: d, outFeatures: f, hasBias: false },
    { name: `${mlp}.down_proj`, inFeatures: f, outFeatures: d, hasBias: false },
  ];
}

function visionLinears({ vision }: Architecture, block: number): LinearModule[] {
  const { hiddenSize: d, intermediateSize: f } = vision;
  const path = visionBlock(block);
  return [
    { name: `${path}.attn.qkv`, inFeatures: d, outFeatures: 3 * d, hasBias: true },
    { name: `${path}.attn.proj`, inFeatures: d, outFeatures: d, hasBias: true },
    { name: `${path}.mlp.linear_fc1`, inFeatures: d, outFeatures: f, hasBias: true },
    { name: `${path}.mlp.linear_fc2`, inFeatures: f, outFeatures: d, hasBias: true },
  ];
}

/** Width of `mergeSize`^2 patches laid side by side. */
export const mergedWidth = ({ vision }: Architecture): number => vision.hiddenSize * vision.mergeSize ** 2;

function mergerLinears(architecture: Architecture, path: string): LinearModule[] {
  const width = mergedWidth(architecture);
  return [
    { name: `${path}.linear_fc1`, inFeatures: width, outFeatures: width, hasBias: true },
    { name: `${path}.linear_fc2`, inFeatures: width, outFeatures: architecture.text.hiddenSize, hasBias: true },
  ];
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Every linear layer, in the order of the forward pass; the head last. */
export function linearModules(architecture: Architecture): readonly LinearModule[] {
  const { text, vision } = architecture;
  return [
    ...range(vision.depth).flatMap((block) => visionLinears(architecture, block)),
    ...mergerLinears(architecture, MERGER),
    ...vision.deepstackIndexes.flatMap((_, i) => mergerLinears(architecture, deepstackMerger(i))),
    ...range(text.layers).flatMap((layer) => textLinears(architecture, layer)),
    { name: "lm_head", inFeatures: text.hiddenSize, outFeatures: text.vocabSize, hasBias: false },
  ];
}

/** The normalisation layers: [module, width, has a bias]. */
function norms(architecture: Architecture): (readonly [string, number, boolean])[] {
  const { text, vision } = architecture;
  const block = (i: number) => [1, 2].map((n) => [`${visionBlock(i)}.norm${n}`, vision.hiddenSize, true] as const);
  const layer = (i: number) => [
    [`${textLayer(i)}.input_layernorm`, text.hiddenSize, false] as const,
    [`${textLayer(i)}.post_attention_layernorm`, text.hiddenSize, false] as const,
    [`${textLayer(i)}.self_attn.q_norm`, text.headDim, false] as const,
    [`${textLayer(i)}.self_attn.k_norm`, text.headDim, false] as const,
  ];
  return [
    ...range(vision.depth).flatMap(block),
    [`${MERGER}.norm`, vision.hiddenSize, true],
    ...vision.deepstackIndexes.map((_, i) => [`${deepstackMerger(i)}.norm`, mergedWidth(architecture), true] as const),
    ...range(text.layers).flatMap(layer),
    ["model.language_model.norm", text.hiddenSize, false],
  ];
}

/** The matrix that turns hidden states into logits. */
export const headWeight = ({ isHeadTied }: Architecture): string => (isHeadTied ? EMBED : HEAD);

/** Every parameter by name with its shape. A tied head has no parameter of its own. */
export function parameterShapes(architecture: Architecture): ReadonlyMap<string, readonly number[]> {
  const { text, vision, isHeadTied } = architecture;
  const shapes = new Map<string, readonly number[]>();
  shapes.set(`${VISUAL}.patch_embed.proj.weight`, [
    vision.hiddenSize,
    vision.channels,
    vision.temporalPatchSize,
    vision.patchSize,
    vision.patchSize,
  ]);
  shapes.set(`${VISUAL}.patch_embed.proj.bias`, [vision.hiddenSize]);
  shapes.set(`${VISUAL}.pos_embed.weight`, [vision.positionEmbeddings, vision.hiddenSize]);
  shapes.set(EMBED, [text.vocabSize, text.hiddenSize]);
  for (const { name, inFeatures, outFeatures, hasBias } of linearModules(architecture)) {
    if (name === "lm_head" && isHeadTied) continue;
    shapes.set(`${name}.weight`, [outFeatures, inFeatures]);
    if (hasBias) shapes.set(`${name}.bias`, [outFeatures]);
  }
  for (const [name, width, hasBias] of norms(architecture)) {
    shapes.set(`${name}.weight`, [width]);
    if (hasBias) shapes.set(`${name}.bias`, [width]);
  }
  return shapes;
}
