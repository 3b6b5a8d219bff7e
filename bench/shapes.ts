/** Checkpoints with the public shapes of Qwen3-VL and random weights, for timings: what is computed does not depend on the weights. */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { readArchitecture } from "../src/model/architecture.ts";
import { parameterShapes } from "../src/model/parameters.ts";
import { float32ToBf16 } from "../src/utils/bf16.ts";
import { required } from "../src/utils/errors.ts";
import { writeJson } from "../src/utils/files.ts";
import { randomFrom } from "../src/utils/random.ts";
import { elementCount, writeSafetensors } from "../src/utils/safetensors.ts";

interface Shape {
  readonly text: Readonly<Record<"hidden" | "layers" | "heads" | "kvHeads" | "headDim" | "inner" | "vocab", number>>;
  readonly vision: Readonly<Record<"depth" | "hidden" | "heads" | "inner" | "places", number>> & {
    readonly deepstack: readonly number[];
  };
  readonly isHeadTied: boolean;
}

const VISION = { depth: 24, hidden: 1024, heads: 16, inner: 4096, places: 2304, deepstack: [5, 11, 17] };
const TEXT = { kvHeads: 8, headDim: 128, vocab: 151_936 };

/** By name: `small` is this project's own, the others those of Qwen3-VL-2B, -4B and -8B-Instruct. */
export const SHAPES = {
  small: {
    text: { hidden: 512, layers: 8, heads: 8, kvHeads: 4, headDim: 64, inner: 1536, vocab: 32_000 },
    vision: { depth: 6, hidden: 256, heads: 4, inner: 1024, places: 256, deepstack: [1, 2, 3] },
    isHeadTied: true,
  },
  "2b": { text: { hidden: 2048, layers: 28, heads: 16, inner: 6144, ...TEXT }, vision: VISION, isHeadTied: true },
  "4b": { text: { hidden: 2560, layers: 36, heads: 32, inner: 9728, ...TEXT }, vision: VISION, isHeadTied: true },
  "8b": {
    text: { hidden: 4096, layers: 36, heads: 32, inner: 12_288, ...TEXT },
    vision: { depth: 27, hidden: 1152, heads: 16, inner: 4304, places: 2304, deepstack: [8, 16, 24] },
    isHeadTied: false,
  },
} satisfies Record<string, Shape>;

export type ShapeName = keyof typeof SHAPES;

/** The folder of a shape's checkpoint, in bfloat16; made on first use (the 2B shape takes 4.3 GB of disk). */
export async function randomCheckpoint(root: string, name: ShapeName): Promise<string> {
  const dir = join(root, name);
  const weights = join(dir, "model.safetensors");
  if (existsSync(weights)) return dir;
  mkdirSync(dir, { recursive: true });
  await writeJson(join(dir, "config.json"), configOf(SHAPES[name]));
  const shapes = [...parameterShapes(readArchitecture(dir))];
  const tensors = shapes.map(([tensor, shape], i) => {
    const values = (): Uint16Array => (shape.length === 1 ? constant(tensor, shape) : noise(elementCount(shape), i));
    return { name: tensor, shape, dtype: "BF16" as const, values };
  });
  await writeSafetensors(weights, tensors);
  return dir;
}

function configOf({ text, vision, isHeadTied }: Shape): object {
  const half = text.headDim / 2;
  const side = Math.round((half * 20) / 64);
  const first = text.vocab - 284; // the special tokens stand near the end of the vocabulary, as in the public models
  return {
    ...{ architectures: ["Qwen3VLForConditionalGeneration"], model_type: "qwen3_vl", dtype: "bfloat16" },
    ...{ vision_start_token_id: first, vision_end_token_id: first + 1 },
    ...{ image_token_id: first + 3, video_token_id: first + 4, tie_word_embeddings: isHeadTied },
    text_config: {
      ...{ model_type: "qwen3_vl_text", vocab_size: text.vocab, hidden_size: text.hidden },
      ...{ intermediate_size: text.inner, num_hidden_layers: text.layers, num_attention_heads: text.heads },
      ...{ num_key_value_heads: text.kvHeads, head_dim: text.headDim, hidden_act: "silu", rms_norm_eps: 1e-6 },
      ...{ attention_bias: false, max_position_embeddings: 262_144, tie_word_embeddings: isHeadTied },
      rope_parameters: {
        ...{ rope_type: "default", rope_theta: 5e6, mrope_interleaved: true },
        mrope_section: [half - 2 * side, side, side],
      },
    },
    vision_config: {
      ...{ model_type: "qwen3_vl_vision", depth: vision.depth, hidden_size: vision.hidden, num_heads: vision.heads },
      ...{ intermediate_size: vision.inner, out_hidden_size: text.hidden, hidden_act: "gelu_pytorch_tanh" },
      ...{ num_position_embeddings: vision.places, deepstack_visual_indexes: vision.deepstack },
      ...{ in_channels: 3, patch_size: 16, spatial_merge_size: 2, temporal_patch_size: 2 },
    },
  };
}

const constant = (tensor: string, shape: readonly number[]): Uint16Array =>
  float32ToBf16(new Float32Array(elementCount(shape)).fill(tensor.endsWith("bias") ? 0 : 1));

const DEVIATION = 0.02;
const POOL = 1_000_003; // prime, so that no two rows of a matrix are alike
const STRIDE = 7919;
let pool: Uint16Array | undefined;

/** Normal numbers, the same few over and over, from another place on for each tensor: the runtime keeps equal weights once. */
function noise(count: number, tensor: number): Uint16Array {
  pool ??= normalPool();
  const values = new Uint16Array(count);
  let from = (tensor * STRIDE) % POOL;
  for (let start = 0; start < count; from = 0) {
    const part = required(pool, "pool").subarray(from, from + count - start);
    values.set(part, start);
    start += part.length;
  }
  return values;
}

function normalPool(): Uint16Array {
  const random = randomFrom("random checkpoint");
  const normal = (): number =>
    Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform());
  return float32ToBf16(Float32Array.from({ length: POOL }, () => DEVIATION * normal()));
}
