/** From what a user asks to train to the parameters that train. */
import { UserError } from "../utils/errors.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { NOTHING_TRAINABLE, type Trainables } from "./layers.ts";
import { type LoraSettings, loraModules } from "./lora.ts";
import { isVision } from "./parameters.ts";

/** Plain data: it crosses threads and stands in run_config.json. */
export type TrainableSpec =
  | { readonly kind: "none" }
  | { readonly kind: "lora"; readonly settings: LoraSettings }
  | { readonly kind: "full"; readonly vision: boolean };

/** @throws UserError when a LoRA target matches nothing */
export function trainablesOf(checkpoint: Checkpoint, spec: TrainableSpec): Trainables {
  if (spec.kind === "none") return NOTHING_TRAINABLE;
  if (spec.kind === "lora") {
    if (spec.settings.r < 1) throw new UserError(`--lora-r: expected a rank of at least 1, got ${spec.settings.r}`);
    return {
      full: new Set(),
      lora: { settings: spec.settings, modules: loraModules(checkpoint.architecture, spec.settings) },
    };
  }
  return { full: new Set([...checkpoint.tensors.keys()].filter((name) => spec.vision || !isVision(name))), lora: null };
}
