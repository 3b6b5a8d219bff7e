/** What optimizers remember of each parameter from step to step, under the names that torch and transformers give it. */
import { UserError } from "../utils/errors.ts";
import { elementCount } from "../utils/safetensors.ts";

/** By transformers' names for its setting `optim`. */
export const OPTIMS = ["adamw_torch", "adafactor", "adamw_8bit"] as const;
export type OptimName = (typeof OPTIMS)[number];

export const MOMENT_GROUPS = [
  ...(["exp_avg", "exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col"] as const),
  ...(["state1", "absmax1", "state2", "absmax2"] as const), // bitsandbytes' names of codes and the largest of each block
] as const;
export type MomentGroup = (typeof MOMENT_GROUPS)[number];

/** Codes of 8 bits are whole numbers from 0 to 255. */
export type Moment = Float32Array | Uint8Array;

/** By group and parameter; empty before the first update. */
export type Moments = ReadonlyMap<MomentGroup, ReadonlyMap<string, Moment>>;

/** Nothing remembered: an optimizer begins anew. */
export const NO_MOMENTS: Moments = new Map();

/** Numbers that are divided by the largest of them, and rounded, together. */
export const BLOCK_8BIT = 256;
const FEWEST_IN_8BITS = 4096;
export const isIn8Bits = (shape: readonly number[]): boolean => elementCount(shape) >= FEWEST_IN_8BITS;

/** A tensor that an optimizer keeps. */
export interface MomentShape {
  readonly group: MomentGroup;
  readonly dtype: "F32" | "U8";
  readonly shape: readonly number[];
}

/** What an optimizer keeps of a parameter of this shape. */
export function momentShapes(optim: OptimName, shape: readonly number[]): readonly MomentShape[] {
  const floats = (group: MomentGroup, of: readonly number[]): MomentShape => ({ group, dtype: "F32", shape: of });
  if (optim === "adamw_8bit" && isIn8Bits(shape)) {
    const blocks = [Math.ceil(elementCount(shape) / BLOCK_8BIT)];
    const codes = (group: MomentGroup): MomentShape => ({ group, dtype: "U8", shape });
    return [codes("state1"), floats("absmax1", blocks), codes("state2"), floats("absmax2", blocks)];
  }
  if (optim !== "adafactor") return [floats("exp_avg", shape), floats("exp_avg_sq", shape)];
  if (shape.length < 2) return [floats("exp_avg_sq", shape)];
  return [
    floats("exp_avg_sq_row", shape.slice(0, -1)),
    floats("exp_avg_sq_col", [...shape.slice(0, -2), ...shape.slice(-1)]),
  ];
}

/** Which optimizer these are of; null where nothing is remembered. Of small parameters both kinds of AdamW keep the same. */
export function optimOf(groups: Iterable<string>): OptimName | null {
  const found = new Set(groups);
  if (found.size === 0) return null;
  if (found.has("state1")) return "adamw_8bit";
  return found.has("exp_avg") ? "adamw_torch" : "adafactor";
}

/**
 * Puts what is remembered where an optimizer keeps it; nothing remembered: zeros, with which it begins.
 * @param own what it keeps, to be written to
 * @throws UserError where the moments are another optimizer's
 */
export function putMoments(own: Moments, moments: Moments): void {
  for (const [group, arrays] of own)
    for (const [name, values] of arrays) {
      const given = moments.get(group)?.get(name);
      if (moments.size === 0) values.fill(0);
      else if (given) values.set(given);
      else refuseMissing(own, moments);
    }
}

function refuseMissing(own: Moments, moments: Moments): never {
  const [optim, other] = [optimOf(own.keys()), optimOf(moments.keys())];
  throw new UserError(
    `--optim ${optim}: the checkpoint holds what ${other} remembers; go on with --optim ${other}, or start anew from its weights`,
  );
}
