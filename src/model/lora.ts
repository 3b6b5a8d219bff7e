/** Low-rank adapters: which layers they attach to, by PEFT's rules, and what their parameters are called. Source: PEFT 0.21, tuners/lora. */

import { messageOf, UserError } from "../utils/errors.ts";
import { randomFrom } from "../utils/random.ts";
import type { Architecture } from "./architecture.ts";
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
}

/** The seven projections of every text layer. */
export const LLM_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] as const;

export interface LoraModule extends LinearModule {
  /** PEFT's keys in adapter_model.safetensors: A is [r, in], B is [out, r]. */
  readonly keyA: string;
  readonly keyB: string;
}

const PREFIX = "base_model.model.";

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
    keyA: `${PREFIX}${module.name}.lora_A.weight`,
    keyB: `${PREFIX}${module.name}.lora_B.weight`,
  }));
}

/** A from U(-1/sqrt(in), 1/sqrt(in)), which is PyTorch's kaiming_uniform with a = sqrt(5); B zero: an adapter that does nothing yet. */
export function initialAdapter(
  modules: readonly LoraModule[],
  r: number,
  seed: number,
): ReadonlyMap<string, Float32Array> {
  const adapter = new Map<string, Float32Array>();
  for (const { keyA, keyB, inFeatures, outFeatures } of modules) {
    const random = randomFrom(seed, "lora", keyA);
    const bound = 1 / Math.sqrt(inFeatures);
    adapter.set(
      keyA,
      Float32Array.from({ length: r * inFeatures }, () => (2 * random.uniform() - 1) * bound),
    );
    adapter.set(keyB, new Float32Array(outFeatures * r));
  }
  return adapter;
}
