/** The shape of a Qwen3-VL checkpoint, read from its config.json in either spelling (the hub's and transformers 5's). */
import { join } from "node:path";
import { UserError } from "../utils/errors.ts";
import { isJsonObject, type JsonObject, readJsonObject } from "../utils/json.ts";

export interface TextArchitecture {
  readonly hiddenSize: number; // D
  readonly layers: number;
  readonly heads: number; // H
  readonly kvHeads: number; // K
  readonly headDim: number; // Dh
  readonly intermediateSize: number; // F
  readonly vocabSize: number; // V
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  /** How many rotary frequencies follow time, height and width; they add up to Dh / 2. */
  readonly mropeSection: readonly [number, number, number];
  readonly attentionBias: boolean;
}

export interface VisionArchitecture {
  readonly hiddenSize: number; // Dv
  readonly depth: number;
  readonly heads: number;
  readonly intermediateSize: number;
  /** Rows of the learned position table: the square of its side. */
  readonly positionEmbeddings: number;
  readonly deepstackIndexes: readonly number[];
  readonly patchSize: number;
  readonly temporalPatchSize: number;
  readonly mergeSize: number;
  readonly channels: number;
}

/** Precision of the rotary frequencies. transformers keeps float32, unless a whole model was cast with `.to(torch.bfloat16)`. */
export type RotaryDtype = "float32" | "bfloat16";

/** The base of the vision tower's rotary frequencies, which hub files do not spell out. */
export const VISION_ROPE_THETA = 10_000;

export interface Architecture {
  readonly rotaryDtype: RotaryDtype;
  readonly text: TextArchitecture;
  readonly vision: VisionArchitecture;
  readonly isHeadTied: boolean;
  readonly imageTokenId: number;
}

/** Reads fields of one section and collects every fault, so that they are told together. */
class Section {
  readonly faults: string[];
  readonly #json: JsonObject;

  constructor(
    readonly path: string,
    json: unknown,
    faults: string[],
  ) {
    this.faults = faults;
    this.#json = isJsonObject(json) ? json : {};
    if (!isJsonObject(json)) faults.push(`"${path}" is missing`);
  }

  /** A whole number of at least 1: a length, or how many there are. */
  count(key: string, fallback?: number): number {
    const value = this.number(key, fallback);
    if (!Number.isInteger(value) || value < 1)
      this.faults.push(`"${this.#name(key)}" should be a whole number of at least 1, it is ${value}`);
    return value;
  }

  #name(key: string): string {
    return this.path ? `${this.path}.${key}` : key;
  }

  number(key: string, fallback?: number): number {
    const value = this.#json[key] ?? fallback;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    this.faults.push(`"${this.#name(key)}" should be a number, it is ${JSON.stringify(this.#json[key])}`);
    return 1;
  }

  numbers(key: string): readonly number[] {
    const value = this.#json[key];
    if (Array.isArray(value) && value.every((item) => typeof item === "number")) return value as number[];
    this.faults.push(`"${this.#name(key)}" should be a list of numbers, it is ${JSON.stringify(value)}`);
    return [];
  }

  /** The arithmetic is built for one value only: anything else is refused rather than computed wrongly. */
  only(key: string, supported: string | boolean | number): void {
    const value = this.#json[key] ?? supported;
    if (value !== supported)
      this.faults.push(
        `"${this.#name(key)}" is ${JSON.stringify(value)}; only ${JSON.stringify(supported)} is supported`,
      );
  }

  raw(key: string): unknown {
    return this.#json[key];
  }

  section(key: string): Section {
    return new Section(this.#name(key), this.#json[key], this.faults);
  }
}

function textOf(config: Section): TextArchitecture {
  const text = config.section("text_config");
  // transformers 5 writes rope_parameters with the base inside; hub files rope_scaling, and rope_theta beside it
  const rope = text.raw("rope_parameters") ? text.section("rope_parameters") : text.section("rope_scaling");
  text.only("hidden_act", "silu");
  rope.only("rope_type", "default");
  rope.only("mrope_interleaved", true);
  const hiddenSize = text.count("hidden_size");
  const heads = text.count("num_attention_heads");
  const headDim = text.count("head_dim", hiddenSize / heads);
  const kvHeads = text.count("num_key_value_heads", heads);
  if (heads % kvHeads !== 0)
    text.faults.push(`"text_config.num_key_value_heads" ${kvHeads} should divide num_attention_heads ${heads}`);
  const mrope = rope.numbers("mrope_section");
  if (mrope.length !== 3 || mrope.reduce((sum, n) => sum + n, 0) !== headDim / 2) {
    text.faults.push(
      `"${rope.path}.mrope_section" should be three numbers that add up to head_dim / 2 = ${headDim / 2}, it is [${mrope}]`,
    );
  }
  return {
    hiddenSize,
    heads,
    headDim,
    layers: text.count("num_hidden_layers"),
    kvHeads,
    intermediateSize: text.count("intermediate_size"),
    vocabSize: text.count("vocab_size"),
    rmsNormEps: text.number("rms_norm_eps", 1e-6),
    ropeTheta: rope.raw("rope_theta") === undefined ? text.number("rope_theta", 5_000_000) : rope.number("rope_theta"),
    mropeSection: [mrope[0] ?? 0, mrope[1] ?? 0, mrope[2] ?? 0],
    attentionBias: text.raw("attention_bias") === true,
  };
}

function visionOf(config: Section, textHidden: number): VisionArchitecture {
  const vision = config.section("vision_config");
  vision.only("hidden_act", "gelu_pytorch_tanh");
  if (vision.raw("rope_parameters")) vision.section("rope_parameters").only("rope_theta", VISION_ROPE_THETA);
  if (vision.number("out_hidden_size") !== textHidden)
    vision.faults.push(`"vision_config.out_hidden_size" should equal the text hidden_size ${textHidden}`);
  const [hiddenSize, heads, depth] = [vision.count("hidden_size"), vision.count("num_heads"), vision.count("depth")];
  if (hiddenSize % (4 * heads) !== 0)
    vision.faults.push(
      `"vision_config.hidden_size" ${hiddenSize} should be a multiple of 4 * num_heads = ${4 * heads}`,
    );
  const positionEmbeddings = vision.count("num_position_embeddings");
  if (!Number.isInteger(Math.sqrt(positionEmbeddings)))
    vision.faults.push(`"vision_config.num_position_embeddings" should be a square, it is ${positionEmbeddings}`);
  const deepstackIndexes = vision.numbers("deepstack_visual_indexes");
  if (!deepstackIndexes.every((index, i) => deepstackIndexes.indexOf(index) === i && index >= 0 && index < depth))
    vision.faults.push(
      `"vision_config.deepstack_visual_indexes" should be different blocks below depth = ${depth}, it is [${deepstackIndexes}]`,
    );
  return {
    hiddenSize,
    depth,
    heads,
    intermediateSize: vision.count("intermediate_size"),
    positionEmbeddings,
    deepstackIndexes,
    patchSize: vision.count("patch_size", 16),
    temporalPatchSize: vision.count("temporal_patch_size", 2),
    mergeSize: vision.count("spatial_merge_size", 2),
    channels: vision.count("in_channels", 3),
  };
}

/**
 * @param dir a Hugging Face checkpoint folder
 * @throws UserError naming every field that is missing or that this project does not compute
 */
export function readArchitecture(dir: string): Architecture {
  const file = join(dir, "config.json");
  const json = readJsonObject(file, "a folder of a Hugging Face Qwen3-VL has one");
  if (json.model_type !== "qwen3_vl") {
    throw new UserError(
      `${file}: model_type is ${JSON.stringify(json.model_type)}; expected "qwen3_vl" (dense Qwen3-VL; mixtures of experts, qwen3_vl_moe, are not supported)`,
    );
  }
  const faults: string[] = [];
  const config = new Section("", json, faults);
  const text = textOf(config);
  const vision = visionOf(config, text.hiddenSize);
  const tied = json.tie_word_embeddings ?? config.section("text_config").raw("tie_word_embeddings") ?? false;
  if (vision.deepstackIndexes.length > text.layers)
    faults.push(
      `${vision.deepstackIndexes.length} DeepStack outputs need as many text layers, there are ${text.layers}`,
    );
  const architecture: Architecture = {
    rotaryDtype: "float32",
    text,
    vision,
    isHeadTied: tied === true,
    imageTokenId: config.number("image_token_id"),
  };
  if (faults.length > 0)
    throw new UserError(
      [
        `${file}: ${faults.length === 1 ? "one fault" : `${faults.length} faults`}`,
        ...faults.map((fault) => `  ${fault}`),
      ].join("\n"),
    );
  return architecture;
}
