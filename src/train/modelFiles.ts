/** A whole Hugging Face folder: weights after full fine-tuning beside the files of the model that they came from. */
import { existsSync, realpathSync } from "node:fs";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Checkpoint } from "../model/checkpoint.ts";
import { float32ToBf16, float32ToFloat16 } from "../utils/bf16.ts";
import { InternalError, UserError } from "../utils/errors.ts";
import { jsonText, writeJson, writeWhole } from "../utils/files.ts";
import { isJsonObject, type JsonObject, readJsonObject } from "../utils/json.ts";
import {
  elementCount,
  readTensorBytes,
  type TensorEntry,
  type WritableTensor,
  writeSafetensors,
} from "../utils/safetensors.ts";
import { type PixelBudget, readVisionSettings } from "../vision/settings.ts";
import { readVideoBudget, type VideoBudget } from "../vision/videoBudget.ts";
import type { NamedArrays } from "./replica.ts";

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

export interface WritableModel {
  /** Where the unchanged parameters and the configuration come from. */
  readonly checkpoint: Checkpoint;
  /** Changed parameters by Hugging Face name, float32; they are cast to the dtype that the source has. */
  readonly values: NamedArrays;
  readonly maxShardBytes?: number;
}

/**
 * Writes weights (one file, or shards with an index) and configuration. Parameters pass through one at a time; those that
 * `values` lacks are copied byte for byte. A tied head has no tensor of its own, here as in the source.
 * @throws UserError when the folder cannot be written, is the source itself, or a float16 weight grew too large
 */
export async function writeModel(dir: string, { checkpoint, values, maxShardBytes }: WritableModel): Promise<void> {
  await mkdir(dir, { recursive: true });
  refuseSameFolder(dir, checkpoint.dir);
  const unknown = [...values.keys()].find((name) => !checkpoint.tensors.has(name));
  if (unknown !== undefined) throw new InternalError(`parameter ${unknown} is not of the model`);
  const tensors = [...checkpoint.tensors].map(([name, entry]) => ({ entry, changed: values.get(name) }));
  const shards = cut(tensors, maxShardBytes ?? MAX_SHARD_BYTES);
  const weightMap: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const file =
      shards.length === 1 ? SINGLE : `model-${fiveDigits(i + 1)}-of-${fiveDigits(shards.length)}.safetensors`;
    await writeSafetensors(join(dir, file), shard.map(writable));
    for (const { entry } of shard) weightMap[entry.name] = file;
  }
  if (shards.length > 1) await writeJson(join(dir, INDEX), indexOf(checkpoint, weightMap));
  await copyFiles(checkpoint.dir, dir, MODEL_FILES);
  const written = [...Object.values(weightMap), ...(shards.length > 1 ? [INDEX] : []), ...MODEL_FILES];
  await removeOtherWeights(dir, new Set(written));
}

interface Source {
  readonly entry: TensorEntry;
  readonly changed: Float32Array | undefined;
}

const fiveDigits = (count: number): string => String(count).padStart(5, "0");

/** In order, each shard as full as it may be; a larger tensor has a shard to itself. */
function cut(tensors: readonly Source[], maxShardBytes: number): Source[][] {
  const shards: Source[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    if (bytes > 0 && bytes + tensor.entry.byteLength > maxShardBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)?.push(tensor);
    bytes += tensor.entry.byteLength;
  }
  return shards;
}

function writable({ entry, changed }: Source): WritableTensor {
  const { name, dtype, shape } = entry;
  return { name, dtype, shape, values: () => (changed ? storedAs(entry, changed) : readTensorBytes(entry)) };
}

/** Float32 values in the dtype of the tensor that they replace. */
function storedAs({ name, dtype, file }: TensorEntry, values: Float32Array): ArrayBufferView {
  if (dtype === "F32") return values;
  if (dtype === "BF16") return float32ToBf16(values);
  if (dtype !== "F16") throw new InternalError(`tensor ${name} of ${file} has dtype ${dtype}`);
  const halves = float32ToFloat16(values);
  const at = halves.findIndex((bits, i) => (bits & 0x7fff) === 0x7c00 && Number.isFinite(values[i]));
  if (at >= 0) throw new UserError(`"${name}" has grown to ${values[at]}, more than float16 (as in ${file}) can hold`);
  return halves;
}

function indexOf({ tensors }: Checkpoint, weightMap: Readonly<Record<string, string>>): JsonObject {
  const entries = [...tensors.values()];
  const metadata = {
    total_parameters: entries.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    total_size: entries.reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
  return { metadata, weight_map: weightMap };
}

const WEIGHTS =
  /^(config\.json|model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?|adapter_(model\.safetensors|config\.json))$/;

/** Removes weights (and their configuration) of a former run that would be read instead of, or together with, the `written` ones. */
export async function removeOtherWeights(dir: string, written: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(dir)) if (WEIGHTS.test(name) && !written.has(name)) await rm(join(dir, name));
}

/** Writing over the files that are being read would spoil them. */
export function refuseSameFolder(dir: string, sourceDir: string): void {
  if (existsSync(dir) && realpathSync(dir) === realpathSync(sourceDir))
    throw new UserError(`${dir}: is the folder of the model that is trained; name another one for the results`);
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
