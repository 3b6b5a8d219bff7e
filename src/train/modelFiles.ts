/** A whole Hugging Face folder: weights after full fine-tuning beside the files of the model that they came from. */
import { existsSync, realpathSync } from "node:fs";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Checkpoint } from "../model/checkpoint.ts";
import { EMBED, HEAD } from "../model/parameters.ts";
import { float32ToBf16, float32ToFloat16 } from "../utils/bf16.ts";
import { InternalError, required, UserError } from "../utils/errors.ts";
import { jsonText, writeJson, writeWhole } from "../utils/files.ts";
import { isJsonObject, type JsonObject, readJsonObject } from "../utils/json.ts";
import {
  byteLengthOf,
  elementCount,
  readFloat32,
  readTensorBytes,
  type TensorEntry,
  type WritableTensor,
  writeSafetensors,
} from "../utils/safetensors.ts";
import { type PixelBudget, readVisionSettings } from "../vision/settings.ts";
import { readVideoBudget, type VideoBudget } from "../vision/videoBudget.ts";

/** As transformers 4 cuts: five thousand million bytes. */
const MAX_SHARD_BYTES = 5e9;
const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

const MODEL_FILES = ["config.json", "generation_config.json"];

/** Whatever of these a folder has goes with its model. */
const PROCESSOR_FILES = [
  ...["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
  ...["vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json"],
  ...["preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "generation_config.json"],
];

/** As transformers names them, and as safetensors does. */
const DTYPES = { float32: "F32", bfloat16: "BF16", float16: "F16" } as const;
export type WeightDtype = keyof typeof DTYPES;

export interface WritableModel {
  /** Where the unchanged parameters and the configuration come from. */
  readonly checkpoint: Checkpoint;
  /**
   * Changed parameters by Hugging Face name, float32, or what makes them when their turn comes. A head among them that was
   * tied to the embedding is tied no longer.
   */
  readonly values: ReadonlyMap<string, Float32Array | (() => Float32Array)>;
  readonly maxShardBytes?: number;
  /** Of all weights; null or absent: of each as the source has it. */
  readonly dtype?: WeightDtype | null;
  /** Called as each tensor's turn comes; what it throws ends the writing. */
  readonly onTensor?: (tensor: { readonly index: number; readonly count: number; readonly bytes: number }) => void;
}

/**
 * Writes weights (one file, or shards with an index) and configuration. Parameters pass through one at a time; those that
 * `values` lacks are copied byte for byte. A tied head has no tensor of its own, here as in the source.
 * @throws UserError when the folder cannot be written, is the source itself, or a float16 weight grew too large
 */
export async function writeModel(dir: string, model: WritableModel): Promise<void> {
  const { checkpoint, maxShardBytes, dtype = null } = model;
  await mkdir(dir, { recursive: true });
  refuseSameFolder(dir, checkpoint.dir);
  const shards = cut(tensorsOf(model), maxShardBytes ?? MAX_SHARD_BYTES);
  const weightMap: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const file =
      shards.length === 1 ? SINGLE : `model-${fiveDigits(i + 1)}-of-${fiveDigits(shards.length)}.safetensors`;
    await writeSafetensors(join(dir, file), shard);
    for (const { name } of shard) weightMap[name] = file;
  }
  if (shards.length > 1) await writeJson(join(dir, INDEX), indexOf(shards.flat(), weightMap));
  await copyFiles(checkpoint.dir, dir, MODEL_FILES);
  const changes = { ...(untiesHead(model) ? { tie_word_embeddings: false } : {}), ...dtypeFields(dtype) };
  if (Object.keys(changes).length > 0) await changeConfig(join(dir, "config.json"), changes);
  const written = [...Object.values(weightMap), ...(shards.length > 1 ? [INDEX] : []), ...MODEL_FILES];
  await removeOtherWeights(dir, new Set(written));
}

const untiesHead = ({ checkpoint, values }: WritableModel): boolean =>
  checkpoint.architecture.isHeadTied && values.has(HEAD);

/** Every tensor of the new model, in the order of the old one. */
function tensorsOf(model: WritableModel): WritableTensor[] {
  const { checkpoint, values, dtype, onTensor } = model;
  const entries = new Map(checkpoint.tensors);
  if (untiesHead(model)) entries.set(HEAD, { ...required(entries.get(EMBED), EMBED), name: HEAD });
  const unknown = [...values.keys()].find((name) => !entries.has(name));
  if (unknown !== undefined) throw new InternalError(`parameter ${unknown} is not of the model`);
  let bytes = 0;
  return [...entries].map(([name, entry], index) => {
    const stored = dtype ? { ...entry, dtype: DTYPES[dtype] } : entry;
    const tensor = { name: entry.name, dtype: stored.dtype, shape: entry.shape };
    const make = (): ArrayBufferView => {
      onTensor?.({ index, count: entries.size, bytes });
      bytes += byteLengthOf(tensor);
      const changed = values.get(name);
      if (changed) return storedAs(stored, typeof changed === "function" ? changed() : changed);
      return stored.dtype === entry.dtype ? readTensorBytes(entry) : storedAs(stored, readFloat32(entry));
    };
    return { ...tensor, values: make };
  });
}

const fiveDigits = (count: number): string => String(count).padStart(5, "0");

/** In order, each shard as full as it may be; a larger tensor has a shard to itself. */
function cut(tensors: readonly WritableTensor[], maxShardBytes: number): WritableTensor[][] {
  const shards: WritableTensor[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    const size = byteLengthOf(tensor);
    if (bytes > 0 && bytes + size > maxShardBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)?.push(tensor);
    bytes += size;
  }
  return shards;
}

/** Float32 values in the dtype that they are to be stored in. */
function storedAs({ name, dtype, file }: TensorEntry, values: Float32Array): ArrayBufferView {
  if (dtype === "F32") return values;
  if (dtype === "BF16") return float32ToBf16(values);
  if (dtype !== "F16") throw new InternalError(`tensor ${name} of ${file} has dtype ${dtype}`);
  const halves = float32ToFloat16(values);
  const at = halves.findIndex((bits, i) => (bits & 0x7fff) === 0x7c00 && Number.isFinite(values[i]));
  if (at >= 0)
    throw new UserError(`"${name}" has grown to ${values[at]}, more than float16 can hold (${file} has the base)`);
  return halves;
}

function indexOf(tensors: readonly WritableTensor[], weightMap: Readonly<Record<string, string>>): JsonObject {
  const metadata = {
    total_parameters: tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    total_size: tensors.reduce((sum, tensor) => sum + byteLengthOf(tensor), 0),
  };
  return { metadata, weight_map: weightMap };
}

/** As transformers 5 names it; earlier files say torch_dtype. */
const dtypeFields = (dtype: WeightDtype | null): JsonObject => (dtype === null ? {} : { dtype, torch_dtype: dtype });

/** Changes fields of a config.json: at the top, where they count, and in its parts where they stand there too. */
async function changeConfig(file: string, fields: JsonObject): Promise<void> {
  const { torch_dtype: _, ...current } = fields;
  const spelt = (part: JsonObject): JsonObject =>
    Object.fromEntries(Object.entries(fields).filter(([name]) => Object.hasOwn(part, name)));
  await rewriteJson(file, (config) => {
    const parts = Object.entries(config).map(([name, part]) => [
      name,
      isJsonObject(part) ? { ...part, ...spelt(part) } : part,
    ]);
    return { ...Object.fromEntries(parts), ...spelt(config), ...current };
  });
}

const WEIGHTS =
  /^(config\.json|model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?|adapter_(model\.safetensors|config\.json))$/;

/** Removes weights (and their configuration) of a former run that would be read instead of, or together with, the `written` ones. */
export async function removeOtherWeights(dir: string, written: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(dir)) if (WEIGHTS.test(name) && !written.has(name)) await rm(join(dir, name));
}

/** Whether a file of this name is written as part of a model. */
export const isModelFile = (name: string): boolean =>
  (WEIGHTS.test(name) && !name.startsWith("adapter_")) || [...MODEL_FILES, ...PROCESSOR_FILES].includes(name);

/** Writing over the files that are being read would spoil them. */
export function refuseSameFolder(dir: string, sourceDir: string): void {
  if (existsSync(dir) && realpathSync(dir) === realpathSync(sourceDir))
    throw new UserError(`${dir}: is the folder of the model that is read; name another one for the results`);
}

async function copyFiles(fromDir: string, toDir: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const file = join(fromDir, name);
    if (existsSync(file)) await writeWhole(join(toDir, name), await readFile(file));
  }
}

/**
 * Copies tokenizer, chat template and picture settings, with the run's pixel budget written into the copy in both
 * spellings: other programs then scale pictures and videos as they were scaled in training.
 * @throws UserError when a file cannot be read or written, or the two folders are one
 */
export async function copyProcessorFiles(fromDir: string, toDir: string, budget: PixelBudget = {}): Promise<void> {
  await mkdir(toDir, { recursive: true });
  refuseSameFolder(toDir, fromDir);
  await copyFiles(fromDir, toDir, PROCESSOR_FILES);
  const { minPixels, maxPixels, minVideoPixels, maxVideoPixels } = budget;
  if (minPixels !== undefined || maxPixels !== undefined)
    await writeBudget(toDir, { file: "preprocessor_config.json", nested: "image_processor", minPixels, maxPixels });
  if (minVideoPixels === undefined || maxVideoPixels === undefined) return;
  await writeVideoBudget(fromDir, toDir, { minPixels: minVideoPixels, maxPixels: maxVideoPixels });
}

type VideoPixels = Pick<VideoBudget, "minPixels" | "maxPixels">;

async function writeVideoBudget(fromDir: string, toDir: string, budget: VideoPixels): Promise<void> {
  const isWritten = (): boolean => {
    const { minPixels, maxPixels } = readVideoBudget(toDir, readVisionSettings(toDir));
    return minPixels === budget.minPixels && maxPixels === budget.maxPixels;
  };
  if (isWritten()) return;
  const file = "video_preprocessor_config.json";
  await writeBudget(toDir, { file, nested: "video_processor", ...budget });
  if (isWritten()) return;
  // there is no file for videos: the pictures' serves, whose budget is another, so videos get a copy of their own
  const pictures = join(fromDir, "preprocessor_config.json");
  const config = existsSync(pictures) ? readJsonObject(pictures, "it says how the model takes pictures") : {};
  await writeJson(join(toDir, file), withBudget(config, budget));
}

async function writeBudget(
  dir: string,
  { file, nested, ...budget }: { file: string; nested: string } & PixelBudget,
): Promise<void> {
  await rewriteJson(join(dir, file), (config) => withBudget(config, budget));
  await rewriteJson(join(dir, "processor_config.json"), (config) => {
    const own = config[nested];
    return isJsonObject(own) ? { ...config, [nested]: withBudget(own, budget) } : config;
  });
}

async function rewriteJson(file: string, change: (config: JsonObject) => JsonObject): Promise<void> {
  if (!existsSync(file)) return;
  await writeWhole(file, jsonText(change(readJsonObject(file, "it says how the model takes pictures"))));
}

/** transformers 4 reads `min_pixels`, transformers 5 `size.shortest_edge` (an area in spite of its name). */
function withBudget(config: JsonObject, { minPixels, maxPixels }: PixelBudget): JsonObject {
  const size = isJsonObject(config.size) ? config.size : {};
  return {
    ...config,
    size: {
      ...size,
      ...(minPixels === undefined ? {} : { shortest_edge: minPixels }),
      ...(maxPixels === undefined ? {} : { longest_edge: maxPixels }),
    },
    ...(minPixels === undefined ? {} : { min_pixels: minPixels }),
    ...(maxPixels === undefined ? {} : { max_pixels: maxPixels }),
  };
}
