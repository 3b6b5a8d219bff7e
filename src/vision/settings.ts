/** How a checkpoint wants its pictures: the part of its preprocessor_config.json that the pipeline follows. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf, UserError } from "../utils/errors.ts";

export interface VisionSettings {
  /** Pixels along the side of a patch. */
  readonly patchSize: number;
  /** Patches along the side of a merge block; a block becomes one image token. */
  readonly mergeSize: number;
  /** Frames in a patch. */
  readonly temporalPatchSize: number;
  /** [3], after rescaling */
  readonly imageMean: readonly number[];
  /** [3], after rescaling */
  readonly imageStd: readonly number[];
  /** Takes 0..255 to 0..1. */
  readonly rescaleFactor: number;
  /** Smallest area of a resized picture, in pixels. */
  readonly minPixels: number;
  /** Largest area of a resized picture, in pixels. */
  readonly maxPixels: number;
}

export interface PixelBudget {
  readonly minPixels?: number | undefined;
  readonly maxPixels?: number | undefined;
  /** Smallest and largest area of a video, all its frames together. */
  readonly minVideoPixels?: number | undefined;
  readonly maxVideoPixels?: number | undefined;
}

/** What transformers takes where the file is silent. Source: transformers 5.18, Qwen2VLImageProcessorPil. */
const DEFAULTS: VisionSettings = {
  patchSize: 14,
  mergeSize: 2,
  temporalPatchSize: 2,
  imageMean: [0.48145466, 0.4578275, 0.40821073],
  imageStd: [0.26862954, 0.26130258, 0.27577711],
  rescaleFactor: 1 / 255,
  minPixels: 56 * 56,
  maxPixels: 28 * 28 * 1280,
};

const BICUBIC = 3; // Pillow's number for it

export type Json = Readonly<Record<string, unknown>>;

/**
 * Reads the picture settings of a model folder; `overrides` replaces its pixel budget.
 * Both spellings of the budget are read: `min_pixels`/`max_pixels` go before `size.shortest_edge`/`size.longest_edge`
 * (areas in spite of their names), as in transformers.
 * @throws UserError naming file and key when something is missing, malformed, contradictory or not supported
 */
export function readVisionSettings(modelDir: string, overrides: PixelBudget = {}): VisionSettings {
  const { file, config } = readProcessorConfig(modelDir);
  refuseUnsupported(file, config);
  const size = config.size === undefined || config.size === null ? {} : objectAt(file, "size", config.size);
  const settings: VisionSettings = {
    patchSize: wholeAt(file, "patch_size", config.patch_size) ?? DEFAULTS.patchSize,
    mergeSize: wholeAt(file, "merge_size", config.merge_size) ?? DEFAULTS.mergeSize,
    temporalPatchSize: wholeAt(file, "temporal_patch_size", config.temporal_patch_size) ?? DEFAULTS.temporalPatchSize,
    imageMean: channelsAt(file, "image_mean", config.image_mean) ?? DEFAULTS.imageMean,
    imageStd: channelsAt(file, "image_std", config.image_std) ?? DEFAULTS.imageStd,
    rescaleFactor: numberAt(file, "rescale_factor", config.rescale_factor) ?? DEFAULTS.rescaleFactor,
    minPixels:
      wholeAt("--min-pixels", "it", overrides.minPixels) ??
      wholeAt(file, "min_pixels", config.min_pixels) ??
      wholeAt(file, "size.shortest_edge", size.shortest_edge) ??
      DEFAULTS.minPixels,
    maxPixels:
      wholeAt("--max-pixels", "it", overrides.maxPixels) ??
      wholeAt(file, "max_pixels", config.max_pixels) ??
      wholeAt(file, "size.longest_edge", size.longest_edge) ??
      DEFAULTS.maxPixels,
  };
  return checked(file, settings);
}

/** The picture part of the checkpoint: nested in processor_config.json where that has one, else preprocessor_config.json. */
function readProcessorConfig(modelDir: string): { file: string; config: Json } {
  const nestedFile = join(modelDir, "processor_config.json");
  if (existsSync(nestedFile)) {
    const { image_processor: nested } = readJson(nestedFile);
    if (nested !== undefined) return { file: nestedFile, config: objectAt(nestedFile, "image_processor", nested) };
  }
  const file = join(modelDir, "preprocessor_config.json");
  if (!existsSync(file)) {
    throw new UserError(
      `${file}: not found; it says how the model takes pictures: copy it from the model's page, or check the folder`,
    );
  }
  return { file, config: readJson(file) };
}

export function readJson(file: string): Json {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(file, "utf8"));
  } catch (cause) {
    throw new UserError(`${file}: cannot be read as JSON (${messageOf(cause)}); download it again`, { cause });
  }
  return objectAt(file, "its content", parsed);
}

export function refuseUnsupported(file: string, config: Json): void {
  for (const key of ["do_resize", "do_rescale", "do_normalize"]) {
    if (config[key] === false) throw new UserError(`${file}: ${key} is false, which is not supported; expected true`);
  }
  const { resample } = config;
  if (resample !== undefined && resample !== null && resample !== BICUBIC) {
    throw new UserError(`${file}: resample is ${JSON.stringify(resample)}; only ${BICUBIC} (bicubic) is supported`);
  }
}

function checked(file: string, settings: VisionSettings): VisionSettings {
  const { minPixels, maxPixels, imageStd } = settings;
  if (minPixels > maxPixels) {
    throw new UserError(
      `${file}: the smallest picture (min_pixels ${minPixels}) is larger than the largest (max_pixels ${maxPixels}); ` +
        "set --min-pixels and --max-pixels so that the first is not above the second",
    );
  }
  if (imageStd.includes(0)) throw new UserError(`${file}: image_std is [${imageStd}]; no entry may be 0`);
  return settings;
}

export function objectAt(file: string, key: string, value: unknown): Json {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Json;
  throw new UserError(`${file}: ${key} is ${JSON.stringify(value)}; expected an object`);
}

/** A whole number above 0, or undefined where the key is absent or null. */
export function wholeAt(file: string, key: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) return value;
  throw new UserError(`${file}: ${key} is ${JSON.stringify(value)}; expected a whole number above 0`);
}

function numberAt(file: string, key: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new UserError(`${file}: ${key} is ${JSON.stringify(value)}; expected a number`);
}

/** Three numbers, one a channel. */
function channelsAt(file: string, key: string, value: unknown): readonly number[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (Array.isArray(value) && value.length === 3 && value.every(Number.isFinite)) return value as readonly number[];
  throw new UserError(`${file}: ${key} is ${JSON.stringify(value)}; expected three numbers, one a colour`);
}
