/** Where each trainable parameter lies in the flat vectors, those with weight decay first. */
import { InternalError } from "../utils/errors.ts";
import { elementCount } from "../utils/safetensors.ts";

export interface Slot {
  readonly name: string;
  readonly shape: readonly number[];
  readonly start: number;
  readonly end: number;
}

export interface Layout {
  readonly slots: readonly Slot[];
  readonly size: number;
  /** Elements before this one decay, those after it do not. */
  readonly decayEnd: number;
}

/** Biases and norms are not decayed. Source: transformers 5.18, Trainer.get_decay_parameter_names. */
export const isDecayed = (name: string): boolean => !/bias|(^|[._])norm\d?(\.|$)|layernorm/.test(name);

export function layoutOf(shapes: ReadonlyMap<string, readonly number[]>): Layout {
  const entries = [...shapes];
  const ordered = [...entries.filter(([name]) => isDecayed(name)), ...entries.filter(([name]) => !isDecayed(name))];
  const slots: Slot[] = [];
  let end = 0;
  let decayEnd = 0;
  for (const [name, shape] of ordered) {
    const start = end;
    end += elementCount(shape);
    if (isDecayed(name)) decayEnd = end;
    slots.push({ name, shape, start, end });
  }
  return { slots, size: end, decayEnd };
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
