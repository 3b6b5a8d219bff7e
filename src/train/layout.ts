/** Where each trainable parameter lies in the flat vectors: side by side with those that AdamW treats alike. */
import { InternalError } from "../utils/errors.ts";
import { elementCount } from "../utils/safetensors.ts";
import { type RateName, rateOf } from "./rates.ts";

export interface Slot {
  readonly name: string;
  readonly shape: readonly number[];
  readonly start: number;
  readonly end: number;
}

/** Elements [start, end) that decay or do not, and follow one learning rate. */
export interface Range {
  readonly start: number;
  readonly end: number;
  readonly isDecayed: boolean;
  readonly rate: RateName;
}

export interface Layout {
  readonly slots: readonly Slot[];
  readonly ranges: readonly Range[];
  readonly size: number;
}

/**
 * Biases and norms are not decayed; DoRA's magnitudes are, as they are by the Trainer.
 * Source: transformers 5.18, Trainer.get_decay_parameter_names.
 */
export const isDecayed = (name: string): boolean => !/bias|(^|[._])norm\d?(\.|$)|layernorm|rmsnorm/.test(name);

/** Decayed parameters first; within both, one learning rate after the other, in the order of their first parameters. */
export function layoutOf(shapes: ReadonlyMap<string, readonly number[]>): Layout {
  const names = [...shapes.keys()];
  const kinds = [true, false].flatMap((decays) =>
    [...new Set(names.map(rateOf))].map((rate) => ({
      ...{ isDecayed: decays, rate },
      names: names.filter((name) => isDecayed(name) === decays && rateOf(name) === rate),
    })),
  );
  const slots: Slot[] = [];
  const ranges: Range[] = [];
  let end = 0;
  for (const { names: alike, ...kind } of kinds) {
    const first = end;
    for (const name of alike) {
      const shape = shapes.get(name) ?? [];
      const start = end;
      end += elementCount(shape);
      slots.push({ name, shape, start, end });
    }
    if (end > first) ranges.push({ start: first, end, ...kind });
  }
  return { slots, ranges, size: end };
}

/** The range in which a parameter lies. */
export function rangeOf({ ranges }: Layout, { name, start, end }: Slot): Range {
  const range = ranges.find((one) => one.start <= start && end <= one.end);
  if (!range) throw new InternalError(`parameter ${name} lies in no range`);
  return range;
}

/** Copies named arrays into a flat vector. @throws InternalError when one is missing or of another size */
export function flatten(layout: Layout, named: ReadonlyMap<string, Float32Array>): Float32Array {
  const flat = new Float32Array(layout.size);
  for (const { name, start, end } of layout.slots) {
    const values = named.get(name);
    if (values?.length !== end - start)
      throw new InternalError(`parameter ${name} has ${values?.length} elements, expected ${end - start}`);
    flat.set(values, start);
  }
  return flat;
}

/** Views into a flat vector by name. */
export const named = (layout: Layout, flat: Float32Array): ReadonlyMap<string, Float32Array> =>
  new Map(layout.slots.map(({ name, start, end }) => [name, flat.subarray(start, end)]));
