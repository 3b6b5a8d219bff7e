/** Low-rank adapters: which layers they attach to, by PEFT's rules, and what their parameters are called. Source: PEFT 0.21, tuners/lora. */

import { messageOf, UserError } from "../utils/errors.ts";
import type { Architecture } from "./architecture.ts";
import { PEFT_PREFIX } from "./groups.ts";
import { type LinearModule, linearModules } from "./parameters.ts";

export interface LoraSettings {
  readonly r: number;
  readonly alpha: number;
  readonly dropout: number;
  /**
   * A list holds exact names or their endings; one string is a regular expression that the whole name must match, or
   * "all-linear", which is every linear layer but the head.
   */
  readonly targetModules: readonly string[] | string;
  /** The output is scaled by alpha / sqrt(r) instead of alpha / r. Source: Kalajdzievski 2023, arXiv 2312.03732. */
  readonly useRslora?: boolean;
  /** Directions are adapted by A and B, lengths by a vector of their own. Source: Liu et al. 2024, arXiv 2402.09353. */
  readonly useDora?: boolean;
  /** Endings of the names of modules that train themselves, beside the adapter, and are saved with it. */
  readonly modulesToSave?: readonly string[];
}

/** The seven projections of every text layer. */
export const LLM_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] as const;

export interface LoraModule extends LinearModule {
  /** PEFT's keys in adapter_model.safetensors: A is [r, in], B is [out, r]. */
  readonly keyA: string;
  readonly keyB: string;
  /** DoRA's lengths of the rows of W + s B A, [out]. */
  readonly keyMagnitude: string;
}

/** What B A is multiplied by. */
export const loraScale = ({ r, alpha, useRslora = false }: LoraSettings): number =>
  alpha / (useRslora ? Math.sqrt(r) : r);

function matcher(targets: LoraSettings["targetModules"]): (name: string) => boolean {
  if (typeof targets !== "string")
    return (name) => targets.some((target) => name === target || name.endsWith(`.${target}`));
  if (targets.toLowerCase() === "all-linear") return (name) => name !== "lm_head";
  try {
    const pattern = new RegExp(`^(?:${targets})$`);
    return (name) => pattern.test(name);
  } catch (cause) {
    throw new UserError(`--lora-targets: "${targets}" is not a regular expression: ${messageOf(cause)}`, { cause });
  }
}

/** @throws UserError when no layer matches */
export function loraModules(architecture: Architecture, { targetModules }: LoraSettings): readonly LoraModule[] {
  const matches = matcher(targetModules);
  const modules = linearModules(architecture).filter(({ name }) => matches(name));
  if (modules.length === 0) {
    throw new UserError(
      `--lora-targets: ${JSON.stringify(targetModules)} matches no linear layer; names look like "model.language_model.layers.0.self_attn.q_proj" and "model.visual.blocks.0.attn.qkv"`,
    );
  }
  return modules.map((module) => ({
    ...module,
    keyA: `${PEFT_PREFIX}${module.name}.lora_A.weight`,
    keyB: `${PEFT_PREFIX}${module.name}.lora_B.weight`,
    keyMagnitude: `${PEFT_PREFIX}${module.name}.lora_magnitude_vector`,
  }));
}
