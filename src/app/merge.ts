/** Works an adapter into its base: a whole Hugging Face folder under a temporary name, looked at, then given its own. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type RemoteEngine, startEngine } from "../engine/start.ts";
import { openCheckpoint } from "../model/checkpoint.ts";
import { mergedWeights } from "../model/mergedWeights.ts";
import type { TrainableSpec } from "../model/trainables.ts";
import { CPU } from "../runtime/device.ts";
import { ADAPTER_CONFIG } from "../train/adapterConfig.ts";
import type { Adapter } from "../train/adapterFiles.ts";
import { RUN_CONFIG } from "../train/checkpointReader.ts";
import {
  copyProcessorFiles,
  isModelFile,
  refuseSameFolder,
  type WeightDtype,
  writeModel,
} from "../train/modelFiles.ts";
import { isIdle } from "../train/savedAdapter.ts";
import { Interrupted, UserError } from "../utils/errors.ts";
import { removeUnfinished, replaceFolder } from "../utils/folders.ts";
import type { Log } from "../utils/log.ts";
import { startProgress } from "../utils/progress.ts";
import { logitsApart, percent, probeLogits } from "./probe.ts";
import { holdsBudget, type Target } from "./target.ts";

export interface MergeOptions {
  readonly out: string;
  /** null: of each weight as in the base. */
  readonly dtype: WeightDtype | null;
  readonly maxShardSize: number;
  /** Compare the logits of the result with those of base and adapter. */
  readonly check: boolean;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** Where the weights are float32 the two differ by the order of sums alone. */
const SAME = 1e-4;
/** Rounding every weight to 16 bits moves logits by a per cent or so; more than this is no rounding. */
const ROUNDED = 0.2;
const SET = "adapter";

/**
 * @returns what was done, in a line
 * @throws UserError where there is nothing to merge, the folder is occupied or cannot be written, or the result differs from
 *   base and adapter; Interrupted between two tensors. Nothing is left behind then.
 */
export async function mergeInto(target: Target, options: MergeOptions): Promise<string> {
  const { out, check } = options;
  const { adapter, model } = target;
  if (adapter === null)
    throw new UserError(`${target.dir}: is a whole model and no adapter: there is nothing to merge`);
  if (isIdle(adapter))
    throw new UserError(`${target.dir}: every lora_B is zero, so the adapter changes nothing: it was never trained`);
  refuseSameFolder(out, model.checkpoint.dir);
  if (existsSync(dirname(out))) await removeUnfinished(dirname(out), basename(out));
  let found = "";
  await replaceFolder(out, async (temporary) => {
    await writeMerged(temporary, { ...target, adapter }, options);
    if (check) found = await comparison(temporary, { ...target, adapter }, options);
  });
  return `merged ${target.dir} into ${out}${found}`;
}

/** @throws UserError where a folder holds a model and no adapter */
export function refuseWhole(dir: string): void {
  if (existsSync(join(dir, "config.json")) && !existsSync(join(dir, ADAPTER_CONFIG)))
    throw new UserError(
      `${dir}: is a whole model, as full fine-tuning writes it, and no adapter: there is nothing to merge, use the folder as it is`,
    );
}

/** @throws UserError unless the folder is new or empty, or holds nothing but a model that may be replaced */
export function refuseOccupied(out: string, overwrite: boolean): void {
  if (!existsSync(out)) return;
  if (!statSync(out).isDirectory()) throw new UserError(`--out ${out}: is a file; name a folder`);
  const names = readdirSync(out);
  if (names.length === 0) return;
  if (!overwrite)
    throw new UserError(`--out ${out}: is not empty; name a new folder, or add --overwrite to replace the model in it`);
  const other = names.find((name) => !isModelFile(name) && name !== RUN_CONFIG);
  if (other !== undefined)
    throw new UserError(
      `--overwrite: ${join(out, other)} is no part of a merged model and would be lost; name another folder with --out`,
    );
}

interface Merging extends Target {
  readonly adapter: Adapter;
}

async function writeMerged(dir: string, { dir: from, model, adapter }: Merging, options: MergeOptions): Promise<void> {
  const { checkpoint, processor } = model;
  const { dtype, maxShardSize: maxShardBytes, log, signal } = options;
  const values = mergedWeights(checkpoint, adapter.settings, adapter.values);
  const progress = startProgress({ log, title: "merging", total: checkpoint.tensors.size });
  try {
    await writeModel(dir, {
      ...{ checkpoint, values, dtype, maxShardBytes },
      onTensor: ({ index, bytes }) => {
        if (signal.aborted) throw new Interrupted("stopped while merging; nothing was left behind");
        progress.update(index, { written: `${(bytes / 1e9).toFixed(2)} GB` });
      },
    });
    progress.update(checkpoint.tensors.size);
  } finally {
    progress.stop();
  }
  const { vision, video } = processor;
  const budget = {
    ...{ minPixels: vision.minPixels, maxPixels: vision.maxPixels },
    ...{ minVideoPixels: video.minPixels, maxVideoPixels: video.maxPixels },
  };
  await copyProcessorFiles(checkpoint.dir, dir, holdsBudget(from) ? budget : {});
  // it tells later evaluations what the model was trained on, and with which pictures
  if (existsSync(join(from, RUN_CONFIG))) await copyFile(join(from, RUN_CONFIG), join(dir, RUN_CONFIG));
}

/** @returns how far the result is from base and adapter  @throws UserError where it is too far */
async function comparison(dir: string, { model, adapter }: Merging, { log }: MergeOptions): Promise<string> {
  const spec = { kind: "lora", settings: adapter.settings } as const;
  const [base, beside] = await onEngine(model.dir, spec, async (engine) => {
    const alone = await probeLogits(engine, model.processor);
    await engine.setParameters(SET, adapter.values);
    return [alone, await probeLogits(engine, model.processor, SET)] as const;
  });
  const merged = await onEngine(dir, { kind: "none" }, (engine) => probeLogits(engine, model.processor));
  const change = logitsApart(beside, base);
  const apart = logitsApart(merged, beside);
  const isRounded = [...openCheckpoint(dir).tensors.values()].some(({ dtype }) => dtype !== "F32");
  const allowed = isRounded ? ROUNDED : SAME;
  if (!(apart <= allowed))
    throw new UserError(
      `${dir}: logits of a small question differ from those of base and adapter by ${percent(apart)}; expected at most ${percent(allowed)}; nothing was kept`,
    );
  if (isRounded && apart > change / 2)
    log.warn(
      `rounding the weights to 16 bits moves logits by ${percent(apart)}, the adapter itself by ${percent(change)}; --dtype float32 keeps all of it`,
    );
  return `; logits of a small question are ${percent(apart)} from those of base and adapter, which the adapter moves by ${percent(change)}`;
}

async function onEngine<T>(
  modelDir: string,
  trainable: TrainableSpec,
  use: (engine: RemoteEngine) => Promise<T>,
): Promise<T> {
  const thread = startEngine({ modelDir, device: CPU, trainable });
  try {
    return await use(thread.remote);
  } finally {
    await thread.stop();
  }
}
