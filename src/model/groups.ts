/** Parts of the model that are frozen or trained as one, each at a learning rate of its own. */
import type { Architecture } from "./architecture.ts";
import { EMBED, HEAD, isVision, MERGER, parameterShapes, VISUAL } from "./parameters.ts";

/**
 * - vision: the tower without its mergers
 * - merger: what turns patches into words of the language model, DeepStack's mergers with it
 * - llm: the decoder layers and the norm behind them
 * - head: lm_head and the embedding. Where the two are tied they are one matrix, so they stay together in every model.
 */
export const PARAMETER_GROUPS = ["vision", "merger", "llm", "head"] as const;
export type ParameterGroup = (typeof PARAMETER_GROUPS)[number];

/** What PEFT puts before the name of a module or parameter of the base model. */
export const PEFT_PREFIX = "base_model.model.";

const DEEPSTACK = `${VISUAL}.deepstack_merger_list.`;
const moduleOf = (parameter: string): string => parameter.slice(0, parameter.lastIndexOf("."));

/** @param name of a parameter, or PEFT's key of a part of its adapter */
export function groupOf(name: string): ParameterGroup {
  const path = name.startsWith(PEFT_PREFIX) ? name.slice(PEFT_PREFIX.length) : name;
  if (path.startsWith(`${MERGER}.`) || path.startsWith(DEEPSTACK)) return "merger";
  if (isVision(path)) return "vision";
  return [HEAD, EMBED].some((table) => path.startsWith(`${moduleOf(table)}.`)) ? "head" : "llm";
}

/** The largest modules of which all parameters are of one group: a layer, a block, a merger. */
const UNIT = new RegExp(`^(${MERGER}|${DEEPSTACK}\\d+|${VISUAL}\\.\\w+(\\.\\d+)?|.*\\.layers\\.\\d+)(?=\\.)`);
const unitOf = (parameter: string): string => UNIT.exec(parameter)?.[0] ?? moduleOf(parameter);

/** The modules of some groups, named as PEFT's `modules_to_save` takes them. */
export function groupModules(architecture: Architecture, groups: readonly ParameterGroup[]): readonly string[] {
  const parameters = [...parameterShapes(architecture).keys()].filter((name) => groups.includes(groupOf(name)));
  return [...new Set(parameters.map(unitOf))];
}

/** Parameters inside the modules whose names end in one of `endings`. Source: PEFT 0.21, utils/other.py, _set_trainable. */
export function parametersInside(architecture: Architecture, endings: readonly string[]): readonly string[] {
  const isInside = (parameter: string): boolean => {
    const path = parameter.split(".").slice(0, -1);
    return path.some((_, depth) => {
      const module = path.slice(0, depth + 1).join(".");
      return endings.some((ending) => module.endsWith(ending));
    });
  };
  return [...parameterShapes(architecture).keys()].filter(isInside);
}
