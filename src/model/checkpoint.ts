/** The weights of a Hugging Face checkpoint folder: which tensor lies where, in one safetensors file or many. */
import { existsSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import type { InputBits } from "../graph/ops.ts";
import { UserError } from "../utils/errors.ts";
import { isJsonObject, kindOf, readJsonObject } from "../utils/json.ts";
import { elementCount, readHeader, type TensorEntry } from "../utils/safetensors.ts";
import { type Architecture, readArchitecture } from "./architecture.ts";
import { parameterShapes } from "./parameters.ts";
import type { QuantKind } from "./quantised/matrix.ts";
import { openQuantised, type QuantisedEntry, type QuantisedFiles } from "./quantised/store.ts";

export interface Checkpoint {
  readonly dir: string;
  readonly architecture: Architecture;
  /** By Hugging Face name; every parameter of the architecture, with its shape checked. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Its files are not there to be read. */
  readonly isPlanned?: true;
  /** Matrices that graphs take in few bits instead. */
  readonly quantised?: QuantisedWeights;
}

/** By the name of the weight [out, in]. */
export interface QuantisedWeights {
  readonly kind: QuantKind;
  readonly inputBits: InputBits;
  readonly weights: ReadonlyMap<string, QuantisedEntry>;
  /** For gradients beside them: the transpose of matrices in blocks, and where it is kept the turned values of those by rows. */
  readonly forGradients: ReadonlyMap<string, QuantisedEntry>;
}

/** The same checkpoint, its linear layers in few bits. */
export function withQuantised(checkpoint: Checkpoint, files: QuantisedFiles): Checkpoint {
  const dir = realpathSync(checkpoint.dir); // as the files' paths are: they are compared
  const tensors = [...checkpoint.tensors].map(([name, entry]): [string, TensorEntry] => {
    return [name, { ...entry, file: join(dir, relative(checkpoint.dir, entry.file)) }];
  });
  const quantised = {
    kind: files.kind,
    inputBits: files.inputBits,
    weights: openQuantised(files, false),
    forGradients: openQuantised(files, true),
  };
  return { ...checkpoint, dir, tensors: new Map(tensors), quantised };
}

/** The folder that graphs of this checkpoint name their weights relative to: its own, or one above it and the quantised files. */
export function weightsDir({ dir, quantised }: Checkpoint): string {
  const files = quantised
    ? [...quantised.weights.values(), ...quantised.forGradients.values()].map(({ values }) => values.file)
    : [];
  return [...new Set(files)].reduce((folder, file) => {
    let above = folder;
    while (relative(above, file).startsWith("..")) above = dirname(above);
    return above;
  }, dir);
}

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

function readIndex(dir: string): ReadonlyMap<string, string> {
  const file = join(dir, INDEX);
  const { weight_map: shards } = readJsonObject(file, "it says which shard holds which weight");
  if (!isJsonObject(shards)) throw new UserError(`${file}: weight_map is ${kindOf(shards)}; expected shards by tensor`);
  for (const [name, shard] of Object.entries(shards)) {
    if (typeof shard !== "string" || basename(shard) !== shard || shard === "")
      throw new UserError(`${file}: "${name}" lies in ${kindOf(shard)}; expected the name of a file in this folder`);
  }
  return new Map(Object.entries(shards) as [string, string][]);
}

function allTensors(dir: string): Map<string, TensorEntry> {
  if (existsSync(join(dir, SINGLE))) return new Map(readHeader(join(dir, SINGLE)).tensors);
  if (!existsSync(join(dir, INDEX)))
    throw new UserError(`${dir}: no weights; expected ${SINGLE}, or ${INDEX} with its shards`);
  const index = readIndex(dir);
  const tensors = new Map<string, TensorEntry>();
  for (const shard of new Set(index.values())) {
    if (!existsSync(join(dir, shard)))
      throw new UserError(`${join(dir, shard)}: missing, though ${INDEX} names it; download it again`);
    for (const [name, entry] of readHeader(join(dir, shard)).tensors) tensors.set(name, entry);
  }
  for (const [name, shard] of index) {
    if (!tensors.has(name))
      throw new UserError(`${join(dir, shard)}: lacks the tensor "${name}" that ${INDEX} promises`);
  }
  return tensors;
}

/** transformers before 4.52 wrote "visual.*" and "model.*" where the hub has "model.visual.*" and "model.language_model.*". */
function currentName(name: string): string {
  if (name.startsWith("visual.")) return `model.${name}`;
  if (/^model\.(layers|embed_tokens|norm)\b/.test(name)) return name.replace(/^model\./, "model.language_model.");
  return name;
}

/**
 * Opens a folder: reads its config and the headers of its files, not the weights themselves.
 * @throws UserError naming what is missing, cut off or of the wrong shape
 */
export function openCheckpoint(dir: string): Checkpoint {
  if (!existsSync(dir)) throw new UserError(`${dir}: no such folder; expected a Hugging Face checkpoint of Qwen3-VL`);
  const architecture = readArchitecture(dir);
  const stored = new Map([...allTensors(dir)].map(([name, entry]) => [currentName(name), entry]));
  const tensors = new Map<string, TensorEntry>();
  for (const [name, shape] of parameterShapes(architecture)) {
    const entry = stored.get(name);
    if (!entry) throw new UserError(`${dir}: the weights lack "${name}" [${shape}], which config.json calls for`);
    if (entry.shape.join() !== shape.join())
      throw new UserError(`${entry.file}: "${name}" is [${entry.shape}], config.json calls for [${shape}]`);
    if (!["F32", "BF16", "F16"].includes(entry.dtype))
      throw new UserError(`${entry.file}: "${name}" has dtype ${entry.dtype}; expected F32, BF16 or F16`);
    tensors.set(name, entry);
  }
  return { dir, architecture, tensors };
}

/**
 * The checkpoint that a folder's config.json promises, without its weights: names, shapes and dtype, for graphs that are
 * planned and not run.
 * @throws UserError where config.json is missing or describes no Qwen3-VL
 */
export function plannedCheckpoint(dir: string): Checkpoint {
  if (!existsSync(dir)) throw new UserError(`${dir}: no such folder; expected a Hugging Face checkpoint of Qwen3-VL`);
  const architecture = readArchitecture(dir);
  const dtype = plannedDtype(dir);
  const tensors = [...parameterShapes(architecture)].map(([name, shape]): [string, TensorEntry] => {
    const byteLength = elementCount(shape) * (dtype === "F32" ? 4 : 2);
    return [name, { name, dtype, shape, file: join(dir, SINGLE), offset: 0, byteLength }];
  });
  return { dir, architecture, tensors: new Map(tensors), isPlanned: true };
}

/** As transformers writes it, today or before 4.56, for the whole model or its text; silent means float32 there. */
function plannedDtype(dir: string): "F32" | "BF16" | "F16" {
  const config = readJsonObject(join(dir, "config.json"), "it describes the model");
  const text = isJsonObject(config.text_config) ? config.text_config : {};
  const named = config.dtype ?? config.torch_dtype ?? text.dtype ?? text.torch_dtype;
  return named === "bfloat16" ? "BF16" : named === "float16" ? "F16" : "F32";
}

/** What tells one set of weights from another without reading them: each file's size and time, and in how few bits it is used. Plain data. */
export function checkpointIdentity({ dir, tensors, quantised }: Checkpoint): { readonly [file: string]: string } {
  const files = [...new Set([...tensors.values()].map(({ file }) => file))].sort();
  const states = files.map((file) => {
    const { size, mtimeMs } = statSync(file);
    return [relative(dir, file), `${size} bytes of ${new Date(mtimeMs).toISOString()}`];
  });
  return { ...Object.fromEntries(states), ...(quantised ? { baseQuant: quantised.kind } : {}) };
}
