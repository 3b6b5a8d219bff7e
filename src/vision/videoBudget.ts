/** How many pixels a checkpoint gives a video: the part of its video_preprocessor_config.json that pictures do not share. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../utils/errors.ts";
import {
  type Json,
  objectAt,
  type PixelBudget,
  readJson,
  refuseUnsupported,
  type VisionSettings,
  wholeAt,
} from "./settings.ts";

export interface VideoBudget {
  /** Smallest area of a resized video, in pixels of all its frames together. */
  readonly minPixels: number;
  /** Largest area, likewise. */
  readonly maxPixels: number;
  /** Most tokens of a frame, where the checkpoint limits them (`cap_pixels_per_frame`). */
  readonly maxFrameTokens: number | null;
}

/** What transformers takes where the file is silent. Source: transformers 5.18, Qwen3VLVideoProcessor. */
const DEFAULTS = { minPixels: 128 * 32 * 32, maxPixels: 768 * 32 * 32, maxFrameTokens: 768 };

/** Settings that must be the pictures' own, since one vision tower takes both. */
const SHARED: readonly (readonly [key: string, name: keyof VisionSettings])[] = [
  ["patch_size", "patchSize"],
  ["merge_size", "mergeSize"],
  ["temporal_patch_size", "temporalPatchSize"],
  ["image_mean", "imageMean"],
  ["image_std", "imageStd"],
  ["rescale_factor", "rescaleFactor"],
];

/**
 * Reads the video budget of a model folder; `overrides` replaces it.
 * As in transformers, the pictures' file serves where there is none for videos, and only `size` counts.
 * @throws UserError naming file and key when something is malformed, contradictory or not supported
 */
export function readVideoBudget(modelDir: string, pictures: VisionSettings, overrides: PixelBudget = {}): VideoBudget {
  const { file, config } = readVideoConfig(modelDir);
  refuseUnsupported(file, config);
  for (const [key, name] of SHARED) {
    const value = config[key] ?? pictures[name];
    if (JSON.stringify(value) !== JSON.stringify(pictures[name]))
      throw new UserError(
        `${file}: ${key} is ${JSON.stringify(value)} for videos and ${JSON.stringify(pictures[name])} for pictures; one vision tower cannot take both`,
      );
  }
  const size = config.size === undefined || config.size === null ? {} : objectAt(file, "size", config.size);
  const most = wholeAt(file, "max_video_tokens", config.max_video_tokens) ?? DEFAULTS.maxFrameTokens;
  const budget = {
    minPixels:
      overrides.minVideoPixels ?? wholeAt(file, "size.shortest_edge", size.shortest_edge) ?? DEFAULTS.minPixels,
    maxPixels:
      wholeAt("--max-video-pixels", "it", overrides.maxVideoPixels) ??
      wholeAt(file, "size.longest_edge", size.longest_edge) ??
      DEFAULTS.maxPixels,
    maxFrameTokens: config.cap_pixels_per_frame === true ? most : null,
  };
  if (budget.minPixels <= budget.maxPixels) return budget;
  throw new UserError(
    `${file}: the smallest video (size.shortest_edge ${budget.minPixels}) is larger than the largest (${budget.maxPixels}); raise --max-video-pixels or correct the file`,
  );
}

/** Nested in processor_config.json where that has one, else its own file, else the pictures'. */
function readVideoConfig(modelDir: string): { file: string; config: Json } {
  const nestedFile = join(modelDir, "processor_config.json");
  if (existsSync(nestedFile)) {
    const { video_processor: nested } = readJson(nestedFile);
    if (nested !== undefined) return { file: nestedFile, config: objectAt(nestedFile, "video_processor", nested) };
  }
  const names = ["video_preprocessor_config.json", "preprocessor_config.json"];
  const file = names.map((name) => join(modelDir, name)).find(existsSync);
  return file === undefined ? { file: nestedFile, config: {} } : { file, config: readJson(file) };
}
