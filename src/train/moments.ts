/** What optimizers remember of each parameter from step to step, under the names that torch and transformers give it. */
import { UserError } from "../utils/errors.ts";

/** By transformers' names for its setting `optim`. */
export const OPTIMS = ["adamw_torch", "adafactor"] as const;
export type OptimName = (typeof OPTIMS)[number];

export const MOMENT_GROUPS = ["exp_avg", "exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col"] as const;
export type MomentGroup = (typeof MOMENT_GROUPS)[number];

/** By group and parameter; empty before the first update. */
export type Moments = ReadonlyMap<MomentGroup, ReadonlyMap<string, Float32Array>>;

/** Nothing remembered: an optimizer begins anew. */
export const NO_MOMENTS: Moments = new Map();

/** What an optimizer keeps of a parameter of this shape. */
export function momentShapes(optim: OptimName, shape: readonly number[]): readonly [MomentGroup, readonly number[]][] {
  if (optim === "adamw_torch")
    return [
      ["exp_avg", shape],
      ["exp_avg_sq", shape],
    ];
  if (shape.length < 2) return [["exp_avg_sq", shape]];
  return [
    ["exp_avg_sq_row", shape.slice(0, -1)],
    ["exp_avg_sq_col", [...shape.slice(0, -2), ...shape.slice(-1)]],
  ];
}

/** Which optimizer these are of; null where nothing is remembered. */
export function optimOf(groups: Iterable<string>): OptimName | null {
  const found = new Set(groups);
  if (found.size === 0) return null;
  return found.has("exp_avg") ? "adamw_torch" : "adafactor";
}

/** @throws UserError where moments are another optimizer's */
export function refuseOtherMoments(optim: OptimName, moments: Moments): void {
  const other = optimOf(moments.keys());
  if (other !== null && other !== optim)
    throw new UserError(
      `--optim ${optim}: the checkpoint holds what ${other} remembers; go on with --optim ${other}, or start anew from its weights`,
    );
}
