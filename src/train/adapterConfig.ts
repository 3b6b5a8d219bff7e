/** PEFT's adapter_config.json: what it says of a LoRA adapter. Source: PEFT 0.21, tuners/lora/config.py. */
import { join } from "node:path";
import type { Architecture } from "../model/architecture.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { parametersInside } from "../model/groups.ts";
import type { Trainables } from "../model/layers.ts";
import { type LoraSettings, loraModules } from "../model/lora.ts";
import { EMBED, linearModules, parameterShapes } from "../model/parameters.ts";
import { trainablesOf } from "../model/trainables.ts";
import { messageOf, UserError } from "../utils/errors.ts";
import { type JsonObject, kindOf, readJsonObject } from "../utils/json.ts";

export const ADAPTER_CONFIG = "adapter_config.json";

/** Every field that PEFT 0.21 writes, with the value it has in an adapter of the plain kind. */
const PLAIN = {
  alora_invocation_tokens: null,
  alpha_pattern: {},
  arrow_config: null,
  auto_mapping: null,
  base_model_name_or_path: null,
  bias: "none",
  corda_config: null,
  ensure_weight_tying: false,
  eva_config: null,
  exclude_modules: null,
  fan_in_fan_out: false,
  inference_mode: true,
  init_lora_weights: true,
  kasa_config: null,
  layer_replication: null,
  layers_pattern: null,
  layers_to_transform: null,
  loftq_config: {},
  lora_alpha: 8,
  lora_bias: false,
  lora_dropout: 0,
  lora_ga_config: null,
  megatron_config: null,
  megatron_core: "megatron.core",
  modules_to_save: null,
  monteclora_config: null,
  peft_type: "LORA",
  peft_version: "0.21.0",
  qalora_group_size: 16,
  r: 8,
  rank_pattern: {},
  revision: null,
  target_modules: null,
  target_parameters: null,
  task_type: "CAUSAL_LM",
  trainable_token_indices: null,
  use_bdlora: null,
  use_dora: false,
  use_qalora: false,
  use_rslora: false,
  velora_config: null,
} as const;

/** Fields read elsewhere, and fields that change nothing about an adapter once it is trained. */
const FREE = new Set([
  ...["r", "lora_alpha", "lora_dropout", "target_modules", "init_lora_weights"],
  ...["use_rslora", "use_dora", "modules_to_save", "ensure_weight_tying"],
  ...["auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version"],
  ...["eva_config", "megatron_core", "qalora_group_size", "runtime_config"],
]);

/** Ways to begin that leave the base weights alone; with the others (PiSSA, OLoRA, CorDA, ...) PEFT changes them on loading. */
const HARMLESS_STARTS: readonly unknown[] = [undefined, null, true, false, "gaussian", "orthogonal", "eva"];

const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === false ||
  (typeof value === "object" && Object.keys(value).length === 0);

/** What a config asks for that is not built, one sentence each. */
function unsupported(config: JsonObject): string[] {
  const faults: string[] = [];
  for (const [key, value] of Object.entries(config)) {
    const plain: unknown = Object.hasOwn(PLAIN, key) ? PLAIN[key as keyof typeof PLAIN] : null;
    if (FREE.has(key) || value === plain || isEmpty(value)) continue;
    faults.push(`${key} is ${JSON.stringify(value)}; only ${JSON.stringify(plain)} is supported`);
  }
  if (!HARMLESS_STARTS.includes(config.init_lora_weights)) {
    const start = JSON.stringify(config.init_lora_weights);
    faults.push(
      `init_lora_weights is ${start}; such an adapter belongs to changed base weights: convert it to plain LoRA with PEFT first`,
    );
  }
  return faults;
}

const isTargets = (value: unknown): value is string | readonly string[] =>
  typeof value === "string"
    ? value !== ""
    : Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === "string");

const isSwitch = (value: unknown): boolean => value === undefined || value === null || typeof value === "boolean";
const SWITCHES = ["use_rslora", "use_dora", "ensure_weight_tying"] as const;

/** What a config says of the settings, wrong values included. */
function settingFaults(config: JsonObject): string[] {
  const { peft_type, r, lora_alpha, lora_dropout = 0, target_modules, modules_to_save: saved = null } = config;
  const faults: string[] = [];
  const expect = (isRight: boolean, key: string, value: unknown, expected: string): void => {
    if (!isRight) faults.push(`${key} is ${kindOf(value)}; expected ${expected}`);
  };
  expect(peft_type === "LORA", "peft_type", peft_type, '"LORA"');
  expect(Number.isInteger(r) && Number(r) > 0, "r", r, "a whole number of at least 1");
  expect(typeof lora_alpha === "number" && lora_alpha > 0, "lora_alpha", lora_alpha, "a number above 0");
  const isRate = typeof lora_dropout === "number" && lora_dropout >= 0 && lora_dropout < 1;
  expect(isRate, "lora_dropout", lora_dropout, "a number from 0 to below 1");
  expect(isTargets(target_modules), "target_modules", target_modules, "a list of module names, or a regex");
  for (const key of SWITCHES) expect(isSwitch(config[key]), key, config[key], "true or false");
  const isNames = Array.isArray(saved) && saved.every((name) => typeof name === "string" && name !== "");
  expect(saved === null || isNames, "modules_to_save", saved, "a list of module names");
  return faults;
}

/**
 * Reads the settings of an adapter folder as they stand there.
 * @throws UserError naming every field that is wrong or not supported
 */
export function readAdapterConfig(dir: string): LoraSettings {
  const file = join(dir, ADAPTER_CONFIG);
  const config = readJsonObject(file, "an adapter folder as PEFT writes it has one");
  const faults = config.peft_type === "LORA" ? [...settingFaults(config), ...unsupported(config)] : [];
  if (config.peft_type !== "LORA") faults.push(`peft_type is ${kindOf(config.peft_type)}; expected "LORA"`);
  if (faults.length > 0) throw new UserError(faults.map((fault) => `${file}: ${fault}`).join("\n"));
  return {
    r: Number(config.r),
    alpha: Number(config.lora_alpha),
    dropout: Number(config.lora_dropout ?? 0),
    targetModules: config.target_modules as string | readonly string[],
    ...(config.use_rslora === true ? { useRslora: true } : {}),
    ...(config.use_dora === true ? { useDora: true } : {}),
    ...(Array.isArray(config.modules_to_save) && config.modules_to_save.length > 0
      ? { modulesToSave: config.modules_to_save as readonly string[] }
      : {}),
  };
}

/** "all-linear" means every linear layer but the head. Source: PEFT 0.21, _maybe_include_all_linear_layers. */
export function resolvedTargets(settings: LoraSettings, architecture: Architecture): LoraSettings {
  const { targetModules } = settings;
  if (typeof targetModules !== "string" || targetModules.toLowerCase() !== "all-linear") return settings;
  const names = linearModules(architecture).map(({ name }) => name);
  return { ...settings, targetModules: names.filter((name) => name !== "lm_head") };
}

/** adapter_config.json as an object, its keys in PEFT's (alphabetical) order. */
export function adapterConfig(
  settings: LoraSettings,
  architecture: Architecture,
  baseModel: string | null,
): JsonObject {
  return {
    ...PLAIN,
    base_model_name_or_path: baseModel,
    ensure_weight_tying: savesTiedHead(settings, architecture),
    lora_alpha: settings.alpha,
    lora_dropout: settings.dropout,
    modules_to_save: settings.modulesToSave ?? null,
    r: settings.r,
    target_modules: targetsForPeft(settings, architecture),
    use_dora: settings.useDora ?? false,
    use_rslora: settings.useRslora ?? false,
  };
}

/** Whether the embedding trains whole and is the head as well: PEFT then keeps the two one, and writes both. */
export const savesTiedHead = ({ modulesToSave = [] }: LoraSettings, architecture: Architecture): boolean =>
  architecture.isHeadTied &&
  (modulesToSave.some((ending) => HEAD_MODULE.endsWith(ending)) ||
    parametersInside(architecture, modulesToSave).includes(EMBED));

const HEAD_MODULE = "lm_head";

/**
 * The targets as PEFT may read them. We adapt linear layers only; where the same words also hit an embedding (which PEFT
 * would adapt too) or a block (at which it would stop), the adapted layers are named one by one instead.
 */
function targetsForPeft(settings: LoraSettings, architecture: Architecture): LoraSettings["targetModules"] {
  const resolved = resolvedTargets(settings, architecture);
  if (!otherModules(architecture).some((name) => hits(resolved.targetModules, name))) return resolved.targetModules;
  return loraModules(architecture, resolved).map(({ name }) => name);
}

const hits = (targets: LoraSettings["targetModules"], name: string): boolean =>
  typeof targets === "string"
    ? new RegExp(`^(?:${targets})$`).test(name)
    : targets.some((target) => name === target || name.endsWith(`.${target}`));

/** Modules of the model that are no linear layers. Those without parameters have one of three names. */
function otherModules(architecture: Architecture): string[] {
  const linear = new Set(linearModules(architecture).map(({ name }) => name));
  const modules = new Set<string>();
  for (const parameter of parameterShapes(architecture).keys()) {
    const path = parameter.split(".").slice(0, -1);
    for (let depth = path.length; depth > 0; depth--) modules.add(path.slice(0, depth).join("."));
  }
  const others = [...modules].filter((name) => !linear.has(name));
  return others.flatMap((name) => [name, `${name}.act_fn`, `${name}.rotary_emb`, `${name}.rotary_pos_emb`]);
}

/** What an adapter folder's settings attach to and bring with them. @throws UserError that names the file, not a flag */
export function adapterTrainables(dir: string, settings: LoraSettings, checkpoint: Checkpoint): Trainables {
  try {
    return trainablesOf(checkpoint, { kind: "lora", settings });
  } catch (cause) {
    if (!(cause instanceof UserError)) throw cause;
    const message = messageOf(cause)
      .replace(/^--lora-targets/, "target_modules")
      .replace(/^--train \w+/, "modules_to_save");
    throw new UserError(`${join(dir, ADAPTER_CONFIG)}: ${message}`, { cause });
  }
}

/** Whether the folder's configuration says that a tied head and embedding stay one. */
export const keepsHeadTied = (dir: string): boolean =>
  readJsonObject(join(dir, ADAPTER_CONFIG), "an adapter folder as PEFT writes it has one").ensure_weight_tying === true;
