/** From what a user asks to train to the parameters that train. */
import { UserError } from "../utils/errors.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { groupOf, PARAMETER_GROUPS, type ParameterGroup, parametersInside } from "./groups.ts";
import { NOTHING_TRAINABLE, type Trainables } from "./layers.ts";
import { type LoraModule, type LoraSettings, loraModules } from "./lora.ts";
import { EMBED } from "./parameters.ts";

/** Plain data: it crosses threads and stands in run_config.json. */
export type TrainableSpec =
  | { readonly kind: "none" }
  | { readonly kind: "lora"; readonly settings: LoraSettings }
  | { readonly kind: "full"; readonly groups: readonly ParameterGroup[] };

/** Every weight trains. */
export const FULL: TrainableSpec & { kind: "full" } = { kind: "full", groups: PARAMETER_GROUPS };
/** Every weight but those of the tower and its mergers. */
export const FULL_TEXT: TrainableSpec & { kind: "full" } = { kind: "full", groups: ["llm", "head"] };

/** @throws UserError when a LoRA target matches nothing, or also trains itself */
export function trainablesOf(checkpoint: Checkpoint, spec: TrainableSpec): Trainables {
  if (spec.kind === "none") return NOTHING_TRAINABLE;
  if (spec.kind === "full") {
    const names = [...checkpoint.tensors.keys()];
    return { full: new Set(names.filter((name) => spec.groups.includes(groupOf(name)))), lora: null };
  }
  const { settings } = spec;
  if (settings.r < 1) throw new UserError(`--lora-r: expected a rank of at least 1, got ${settings.r}`);
  const modules = loraModules(checkpoint.architecture, settings);
  const full = new Set(savedParameters(checkpoint, settings));
  refuseBoth(modules, full);
  return { full, lora: { settings, modules } };
}

/** @throws UserError when a module to save is not there */
function savedParameters({ architecture }: Checkpoint, { modulesToSave = [] }: LoraSettings): readonly string[] {
  for (const ending of modulesToSave) {
    if (parametersInside(architecture, [ending]).length > 0) continue;
    if (ending.endsWith("lm_head") && architecture.isHeadTied) continue; // the embedding, see below
    throw new UserError(
      `modules_to_save: no module with parameters is called "${ending}"; names look like "model.visual.merger" and "model.language_model.embed_tokens"`,
    );
  }
  const names = parametersInside(architecture, modulesToSave);
  const hasTiedHead = architecture.isHeadTied && modulesToSave.some((ending) => ending.endsWith("lm_head"));
  return hasTiedHead && !names.includes(EMBED) ? [EMBED, ...names] : names;
}

function refuseBoth(modules: readonly LoraModule[], full: ReadonlySet<string>): void {
  const both = modules.filter(({ name }) => full.has(`${name}.weight`) || (name === "lm_head" && full.has(EMBED)));
  const [first] = both;
  if (!first) return;
  throw new UserError(
    `--train ${groupOf(`${first.name}.weight`)}: ${first.name} would train whole and under an adapter${both.length > 1 ? ` (and ${both.length - 1} more)` : ""}; leave the group out of --train, or the layers out of --lora-targets`,
  );
}
