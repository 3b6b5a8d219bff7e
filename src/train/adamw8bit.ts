/**
 * AdamW whose moments take a byte each: blocks of 256 numbers are divided by the largest of them and rounded to a map of 256
 * (dynamicMap.ts). The update itself follows the moments before they are rounded. Parameters of fewer than 4096 numbers keep
 * float32 moments, as with bitsandbytes.
 * Source: Dettmers et al. 2022, arXiv 2110.02861; torchao, optim/adam.py, AdamW8bit.  Golden: test/fixtures/train/adamw8bit.json
 */
import { DynamicMap } from "./dynamicMap.ts";
import { type Layout, rangeOf, type Slot } from "./layout.ts";
import { BLOCK_8BIT, isIn8Bits, type MomentGroup, type Moments } from "./moments.ts";
import type { AdamWSettings, Flats, Optimizer, UpdateOf } from "./optimizer.ts";

/** The moments of one kind of a parameter: codes and the largest of each block, or as they are. */
type Kept = { readonly codes: Uint8Array; readonly largest: Float32Array } | { readonly numbers: Float32Array };

interface Parameter {
  readonly slot: Slot;
  readonly first: Kept;
  readonly second: Kept;
}

const SMALLEST_SCALE = Math.fround(1e-12); // of a block of zeros

export class AdamW8Bit implements Optimizer {
  readonly #layout: Layout;
  readonly #settings: AdamWSettings;
  readonly #parameters: readonly Parameter[];
  readonly #first = new DynamicMap(true);
  readonly #second = new DynamicMap(false);

  constructor(layout: Layout, settings: AdamWSettings) {
    this.#layout = layout;
    this.#settings = settings;
    this.#parameters = layout.slots.map((slot) => {
      return { slot, first: emptyFor(slot), second: emptyFor(slot) };
    });
  }

  moments(): Moments {
    const groups = new Map<MomentGroup, Map<string, Float32Array | Uint8Array>>();
    const add = (group: MomentGroup, { name }: Slot, values: Float32Array | Uint8Array): void => {
      groups.set(group, (groups.get(group) ?? new Map<string, Float32Array | Uint8Array>()).set(name, values));
    };
    for (const { slot, first, second } of this.#parameters) {
      if ("numbers" in first) add("exp_avg", slot, first.numbers);
      else {
        add("state1", slot, first.codes);
        add("absmax1", slot, first.largest);
      }
      if ("numbers" in second) add("exp_avg_sq", slot, second.numbers);
      else {
        add("state2", slot, second.codes);
        add("absmax2", slot, second.largest);
      }
    }
    return groups;
  }

  async update(flats: Flats, updateOf: UpdateOf): Promise<void> {
    const [m, v] = [new Block(), new Block()];
    for (const { slot, first, second } of this.#parameters) {
      const numbers = stepNumbers(updateOf(rangeOf(this.#layout, slot)), this.#settings);
      for (let block = 0; slot.start + block * BLOCK_8BIT < slot.end; block++) {
        const at = slot.start + block * BLOCK_8BIT;
        const count = Math.min(BLOCK_8BIT, slot.end - at);
        read(first, this.#first, block, count, m);
        read(second, this.#second, block, count, v);
        step(flats, at, count, [m.numbers, v.numbers], numbers);
        write(first, this.#first, block, count, m);
        write(second, this.#second, block, count, v);
      }
    }
  }

  async release(): Promise<void> {}
}

function emptyFor({ start, end, shape }: Slot): Kept {
  const size = end - start;
  if (!isIn8Bits(shape)) return { numbers: new Float32Array(size) };
  return { codes: new Uint8Array(size), largest: new Float32Array(Math.ceil(size / BLOCK_8BIT)) }; // any code times 0
}

/** The moments of one block while they are worked on. */
class Block {
  readonly numbers = new Float32Array(BLOCK_8BIT);
  readonly bits = new Uint32Array(this.numbers.buffer);
}

function read(kept: Kept, { values }: DynamicMap, block: number, count: number, { numbers }: Block): void {
  const at = block * BLOCK_8BIT;
  if ("numbers" in kept) {
    numbers.set(kept.numbers.subarray(at, at + count));
    return;
  }
  const { codes } = kept;
  const scale = kept.largest[block] as number;
  for (let i = 0; i < count; i++) numbers[i] = (values[codes[at + i] as number] as number) * scale;
}

/** The block is divided in place. */
function write(kept: Kept, map: DynamicMap, block: number, count: number, { numbers, bits }: Block): void {
  const at = block * BLOCK_8BIT;
  if ("numbers" in kept) {
    kept.numbers.set(numbers.subarray(0, count), at);
    return;
  }
  let largest = SMALLEST_SCALE;
  for (let i = 0; i < count; i++) {
    const size = Math.abs(numbers[i] as number);
    if (size > largest) largest = size;
  }
  for (let i = 0; i < count; i++) numbers[i] = (numbers[i] as number) / largest;
  kept.largest[block] = largest;
  map.encode(numbers, bits, kept.codes.subarray(at, at + count));
}

/** What an update is computed with, in float32 where torch has it so. */
function stepNumbers(
  { learningRate, gradientScale, step, weightDecay }: ReturnType<UpdateOf>,
  { betas: [beta1, beta2], epsilon }: AdamWSettings,
) {
  return {
    ...{ gradientScale, epsilon, decay: 1 - learningRate * weightDecay },
    ...{ towards1: Math.fround(1 - beta1), towards2: Math.fround(1 - beta2) },
    stepSize: learningRate / (1 - beta1 ** step),
    root: Math.sqrt(1 - beta2 ** step),
  };
}

/** Moments and values of one block. */
function step(
  { values, gradients }: Flats,
  at: number,
  count: number,
  [m, v]: readonly [Float32Array, Float32Array],
  { gradientScale, epsilon, decay, towards1, towards2, stepSize, root }: ReturnType<typeof stepNumbers>,
): void {
  const { fround, sqrt } = Math;
  for (let i = 0; i < count; i++) {
    const g = fround((gradients[at + i] as number) * gradientScale);
    const average = fround((m[i] as number) + towards1 * fround(g - (m[i] as number)));
    const square = fround((v[i] as number) + towards2 * fround(fround(g * g) - (v[i] as number)));
    m[i] = average;
    v[i] = square;
    values[at + i] = (values[at + i] as number) * decay - (stepSize * average) / (sqrt(square) / root + epsilon);
  }
}
