/** The model that a run works on: its folder, its architecture and its processor. */

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Checkpoint, openCheckpoint, plannedCheckpoint } from "../model/checkpoint.ts";
import { loadProcessor, type Processor } from "../processor.ts";
import { UserError } from "../utils/errors.ts";
import { type HubOptions, resolveModelDir } from "../utils/hub.ts";
import { type JsonObject, readJsonObject } from "../utils/json.ts";
import type { Log } from "../utils/log.ts";
import { type PixelBudget, readVisionSettings } from "../vision/settings.ts";

export const EMBEDDED_MODEL = resolve(import.meta.dirname, "../../assets/tiny-qwen3vl");

export interface Model {
  readonly dir: string;
  /** As the user calls it; null for the embedded one. */
  readonly name: string | null;
  readonly checkpoint: Checkpoint;
  readonly processor: Processor;
  /** Tokens that end an answer. */
  readonly stopIds: readonly number[];
  /** The checkpoint's own limit on answers, where --max-new-tokens is not given. */
  readonly maxNewTokens: number;
}

const MAX_NEW_TOKENS = 512; // of the original pipeline

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
  readonly log: Log;
}

/** @throws UserError naming what is missing or broken */
export async function openModel({ model, log, ...limits }: ModelOptions): Promise<Model> {
  const dir = model === null ? EMBEDDED_MODEL : await fetchModel(model, log);
  const checkpoint = openCheckpoint(dir);
  const processor = loadProcessor(dir, pixelBudget(dir, limits));
  return { dir, name: model, checkpoint, processor, ...readGeneration(dir, processor) };
}

/** The same without weights, which need not be there: the checkpoint holds what config.json promises. */
export async function planModel({ model, log, ...limits }: ModelOptions): Promise<Model> {
  const dir = model === null ? EMBEDDED_MODEL : await fetchModel(model, log, { withoutWeights: true });
  const checkpoint = plannedCheckpoint(dir);
  const processor = loadProcessor(dir, pixelBudget(dir, limits));
  return { dir, name: model, checkpoint, processor, ...readGeneration(dir, processor) };
}

function pixelBudget(dir: string, limits: Omit<ModelOptions, "model" | "log">): PixelBudget {
  const minPixels = limits.minPixels ?? undefined;
  const own = readVisionSettings(dir, { minPixels });
  const perToken = (own.patchSize * own.mergeSize) ** 2;
  const asked = limits.maxPixels ?? (limits.maxImageTokens === null ? null : limits.maxImageTokens * perToken);
  return {
    minPixels,
    maxPixels: asked ?? Math.max(own.minPixels, Math.min(own.maxPixels, limits.pixelCap)),
    maxVideoPixels: limits.maxVideoPixels ?? undefined,
  };
}

async function fetchModel(model: string, log: Log, options: HubOptions = {}): Promise<string> {
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

/** What the checkpoint says of its answers: generation_config.json, where it has one. */
function readGeneration(dir: string, processor: Processor): Pick<Model, "stopIds" | "maxNewTokens"> {
  const file = join(dir, "generation_config.json");
  const { eos_token_id: eos, max_new_tokens: most }: JsonObject = existsSync(file)
    ? readJsonObject(file, "it says where answers end")
    : {};
  const ids: readonly unknown[] = Array.isArray(eos) ? eos : [eos ?? processor.tokenizer.idOf("<|im_end|>")];
  if (!ids.every((id) => Number.isInteger(id)))
    throw new UserError(`${file}: eos_token_id is ${JSON.stringify(eos)}; expected a token id or a list of them`);
  return { stopIds: ids as number[], maxNewTokens: Number.isInteger(most) ? Number(most) : MAX_NEW_TOKENS };
}
