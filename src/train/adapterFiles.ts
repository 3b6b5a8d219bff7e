/** Adapter folders as PEFT reads and writes them: adapter_config.json, adapter_model.safetensors, README.md. */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Architecture } from "../model/architecture.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { PEFT_PREFIX } from "../model/groups.ts";
import { trainableShapes } from "../model/layers.ts";
import type { LoraSettings } from "../model/lora.ts";
import { EMBED, HEAD } from "../model/parameters.ts";
import { required, UserError } from "../utils/errors.ts";
import { writeJson, writeWhole } from "../utils/files.ts";
import { readFloat32, readHeader, type TensorEntry, writeSafetensors } from "../utils/safetensors.ts";
import {
  ADAPTER_CONFIG,
  adapterConfig,
  adapterTrainables,
  keepsHeadTied,
  readAdapterConfig,
  resolvedTargets,
  savesTiedHead,
} from "./adapterConfig.ts";
import type { NamedArrays } from "./replica.ts";

export const ADAPTER_WEIGHTS = "adapter_model.safetensors";

export interface Adapter {
  readonly settings: LoraSettings;
  /** Float32, by PEFT key; parameters of modules that were saved whole by Hugging Face name. */
  readonly values: NamedArrays;
}

export interface WritableAdapter extends Adapter {
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly architecture: Architecture;
  /** Hub id or folder of the model that the adapter belongs to. */
  readonly baseModel: string | null;
}

/**
 * Reads an adapter for the model of `checkpoint`: every layer that its settings name has its matrices, every module saved
 * whole its parameters, and nothing else is there.
 * @throws UserError naming the file, and the field or key that does not fit
 */
export function readAdapter(dir: string, checkpoint: Checkpoint): Adapter {
  const settings = resolvedTargets(readAdapterConfig(dir), checkpoint.architecture);
  const shapes = trainableShapes(checkpoint, adapterTrainables(dir, settings, checkpoint));
  if (savesTiedHead(settings, checkpoint.architecture) && !keepsHeadTied(dir))
    throw new UserError(
      `${join(dir, ADAPTER_CONFIG)}: modules_to_save unties the head of a model whose head is its embedding; only ensure_weight_tying true is supported`,
    );
  const { file, tensors } = openAdapterWeights(dir);
  const faults = keyFaults(tensors, shapes);
  if (faults.length > 0) throw new UserError(faults.map((fault) => `${file}: ${fault}`).join("\n"));
  const values = [...shapes.keys()].map((key) => [key, readFloat32(required(tensors.get(key), key))] as const);
  return { settings, values: new Map(values) };
}

/** A name of ours as the file has it: PEFT puts its prefix before the names of parameters that it saves whole, too. */
const keyOf = (name: string): string => (name.startsWith(PEFT_PREFIX) ? name : `${PEFT_PREFIX}${name}`);

const PART_OF_ADAPTER = /\.lora_(A|B|magnitude_vector|embedding_[AB])(\.|$)/;
const nameOf = (key: string): string =>
  key.startsWith(PEFT_PREFIX) && !PART_OF_ADAPTER.test(key) ? key.slice(PEFT_PREFIX.length) : key;

/**
 * The header of an adapter's weights, by our names. Where head and embedding are one, PEFT writes the matrix twice; here it
 * stands once, as the embedding.
 * @throws UserError when the file is missing or broken
 */
export function openAdapterWeights(dir: string): { file: string; tensors: ReadonlyMap<string, TensorEntry> } {
  const file = join(dir, ADAPTER_WEIGHTS);
  if (existsSync(file)) {
    const tensors = new Map([...readHeader(file).tensors].map(([key, entry]) => [nameOf(key), entry]));
    if (tensors.has(EMBED) && tensors.has(HEAD) && keepsHeadTied(dir)) tensors.delete(HEAD);
    return { file, tensors };
  }
  const hasPickle = existsSync(join(dir, "adapter_model.bin"));
  const found = hasPickle ? "; adapter_model.bin is a pickle, which is not read: save it again as safetensors" : "";
  throw new UserError(`${file}: not found; an adapter folder needs one${found}`);
}

/** One sentence for each way in which the file and the layers to adapt differ. */
function keyFaults(
  tensors: ReadonlyMap<string, TensorEntry>,
  shapes: ReadonlyMap<string, readonly number[]>,
): string[] {
  const keys = [...shapes.keys()];
  const missing = keys.filter((key) => !tensors.has(key));
  const strange = [...tensors.keys()].filter((key) => !shapes.has(key));
  const misshapen = keys.filter(
    (key) => tensors.has(key) && tensors.get(key)?.shape.join() !== shapes.get(key)?.join(),
  );
  const faults = [
    ...counted(
      missing,
      (key) => `lacks "${keyOf(key)}" [${shapes.get(key)}], which ${ADAPTER_CONFIG} and the model call for`,
    ),
    ...counted(
      strange,
      (key) => `"${tensors.get(key)?.name}" belongs to no layer that ${ADAPTER_CONFIG} names and the model has`,
    ),
    ...counted(
      misshapen,
      (key) => `"${keyOf(key)}" is [${tensors.get(key)?.shape}], the model calls for [${shapes.get(key)}]`,
    ),
  ];
  const [first] = strange;
  if (first && missing.length === keys.length)
    faults.push(`expected keys like "${keyOf(keys[0] ?? "")}"; is it for another model?`);
  return faults;
}

function counted(keys: readonly string[], say: (key: string) => string): string[] {
  const [first] = keys;
  if (first === undefined) return [];
  return [keys.length === 1 ? say(first) : `${say(first)} (and ${keys.length - 1} more of this kind)`];
}

/**
 * Writes an adapter folder, each file whole or not at all. Values are written as float32.
 * @throws UserError when the folder cannot be written
 */
export async function writeAdapter(dir: string, adapter: WritableAdapter): Promise<void> {
  const { settings, values, shapes, architecture, baseModel } = adapter;
  const config = adapterConfig(settings, architecture, baseModel);
  const tensors = [...shapes].map(([name, shape]) => {
    return { name: keyOf(name), shape, dtype: "F32" as const, values: required(values.get(name), `value of ${name}`) };
  });
  const embedding = tensors.find(({ name }) => name === keyOf(EMBED));
  if (embedding && savesTiedHead(settings, architecture)) tensors.push({ ...embedding, name: keyOf(HEAD) });
  await mkdir(dir, { recursive: true });
  await writeSafetensors(join(dir, ADAPTER_WEIGHTS), tensors);
  await writeJson(join(dir, ADAPTER_CONFIG), config);
  await writeWhole(join(dir, "README.md"), adapterCard(settings, baseModel));
}

/** The hub refuses a card whose base_model is a path, so only "owner/name" stands in its head. */
const isHubId = (name: string | null): name is string =>
  name !== null && /^\w[\w.-]*\/[\w.-]+$/.test(name) && !existsSync(name);

/** A model card by the hub's conventions for PEFT. */
function adapterCard(settings: LoraSettings, baseModel: string | null): string {
  const { r, alpha, dropout, targetModules, useRslora, useDora, modulesToSave } = settings;
  const kind = `${useRslora ? "rank-stabilised " : ""}${useDora ? "DoRA" : "LoRA"}`;
  const whole = modulesToSave ? `; trained whole with it: ${modulesToSave.join(", ")}` : "";
  const hubId = isHubId(baseModel) ? baseModel : null;
  const base = baseModel ?? "its base model";
  const targets = typeof targetModules === "string" ? `\`${targetModules}\`` : targetModules.join(", ");
  return [
    "---",
    ...(hubId ? [`base_model: ${hubId}`] : []),
    "library_name: peft",
    "pipeline_tag: image-text-to-text",
    "tags:",
    ...(hubId ? [`- base_model:adapter:${hubId}`] : []),
    "- lora",
    "---",
    "",
    `# ${useDora ? "DoRA" : "LoRA"} adapter for ${base}`,
    "",
    `${kind} of rank ${r}, alpha ${alpha}, dropout ${dropout}, on ${targets}${whole}. Trained with qwen3-vl-finetune.`,
    "",
    "```python",
    "from peft import PeftModel",
    "from transformers import AutoModelForImageTextToText, AutoProcessor",
    "",
    `model = AutoModelForImageTextToText.from_pretrained(${JSON.stringify(base)})`,
    'model = PeftModel.from_pretrained(model, "path/to/this/folder")',
    'processor = AutoProcessor.from_pretrained("path/to/this/folder")',
    "```",
    "",
    "The processor files here hold the pixel budget of the training run: pictures are scaled as they were then.",
    "",
  ].join("\n");
}
