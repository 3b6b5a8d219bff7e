/** The model that a run works on: its folder, its architecture and its processor. */

import { resolve } from "node:path";
import { type Checkpoint, openCheckpoint, plannedCheckpoint } from "../model/checkpoint.ts";
import { loadProcessor, type Processor } from "../processor.ts";
import { type HubOptions, resolveModelDir } from "../utils/hub.ts";
import type { Log } from "../utils/log.ts";
import { type PixelBudget, readVisionSettings } from "../vision/settings.ts";
import { readVideoBudget } from "../vision/videoBudget.ts";
import { type GenerationDefaults, readGeneration } from "./generation.ts";

export const EMBEDDED_MODEL = resolve(import.meta.dirname, "../../assets/tiny-qwen3vl");

export interface Model extends GenerationDefaults {
  readonly dir: string;
  /** As the user calls it; null for the embedded one. */
  readonly name: string | null;
  readonly checkpoint: Checkpoint;
  readonly processor: Processor;
}

export interface ModelOptions {
  /** Folder or hub id; null for the embedded model. */
  readonly model: string | null;
  readonly minPixels: number | null;
  readonly maxPixels: number | null;
  /** `maxPixels` in tokens. */
  readonly maxImageTokens: number | null;
  readonly maxVideoPixels: number | null;
  /** Where --max-pixels is not given, the checkpoint's own budget is cut to this. */
  readonly pixelCap: number;
  /** Folder of an adapter or model whose own pixel budget counts, uncapped; absent or null: the model's, with the cap. */
  readonly savedBudget?: string | null;
  readonly log: Log;
}

/** @throws UserError naming what is missing or broken */
export async function openModel({ model, log, ...limits }: ModelOptions): Promise<Model> {
  const dir = model === null ? EMBEDDED_MODEL : await fetchModel(model, log);
  const checkpoint = openCheckpoint(dir);
  const processor = loadProcessor(dir, pixelBudget(dir, limits));
  return { dir, name: model, checkpoint, processor, ...readGeneration(dir, processor, log.warn) };
}

/** The same without weights, which need not be there: the checkpoint holds what config.json promises. */
export async function planModel({ model, log, ...limits }: ModelOptions): Promise<Model> {
  const dir = model === null ? EMBEDDED_MODEL : await fetchModel(model, log, { withoutWeights: true });
  const checkpoint = plannedCheckpoint(dir);
  const processor = loadProcessor(dir, pixelBudget(dir, limits));
  return { dir, name: model, checkpoint, processor, ...readGeneration(dir, processor, log.warn) };
}

function pixelBudget(dir: string, { savedBudget = null, ...limits }: Omit<ModelOptions, "model" | "log">): PixelBudget {
  const minPixels = limits.minPixels ?? undefined;
  const own = readVisionSettings(savedBudget ?? dir, { minPixels });
  const perToken = (own.patchSize * own.mergeSize) ** 2;
  const asked = limits.maxPixels ?? (limits.maxImageTokens === null ? null : limits.maxImageTokens * perToken);
  const most = savedBudget === null ? Math.min(own.maxPixels, limits.pixelCap) : own.maxPixels;
  const video = savedBudget === null ? null : readVideoBudget(savedBudget, own);
  return {
    minPixels: savedBudget === null ? minPixels : own.minPixels,
    maxPixels: asked ?? Math.max(own.minPixels, most),
    minVideoPixels: video?.minPixels,
    maxVideoPixels: limits.maxVideoPixels ?? video?.maxPixels,
  };
}

export async function fetchModel(model: string, log: Log, options: HubOptions = {}): Promise<string> {
  let shown = 0;
  return resolveModelDir(model, {
    ...options,
    onOffline: (message) => log.warn(message),
    onProgress: ({ file, doneBytes, totalBytes }) => {
      if (performance.now() - shown < 2000) return;
      shown = performance.now();
      log.line(`fetching ${model}: ${(doneBytes / 1e9).toFixed(2)} of ${(totalBytes / 1e9).toFixed(2)} GB (${file})`);
    },
  });
}
