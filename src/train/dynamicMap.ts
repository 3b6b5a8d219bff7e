/**
 * The 256 numbers between -1 and 1, or 0 and 1, that an 8-bit moment can be: seven decades, each larger one cut twice as fine.
 * Source: Dettmers et al. 2022, arXiv 2110.02861; bitsandbytes, functional.create_dynamic_map.  Golden: test/fixtures/train/adamw8bit.json
 */
const DECADES = 7;

export class DynamicMap {
  /** [256], ascending. */
  readonly values: Float32Array;
  /** [256] From this number on, the next code is nearer. */
  readonly #borders: Float32Array;
  /** For the upper 16 bits of a float32: the code of the smallest number that begins with them. */
  readonly #first = new Uint8Array(1 << 16);

  constructor(isSigned: boolean) {
    this.values = mapValues(isSigned);
    this.#borders = bordersOf(this.values);
    const bits = new Uint32Array(1);
    const number = new Float32Array(bits.buffer);
    for (let high = 0; high < 1 << 16; high++) {
      bits[0] = ((high << 16) | (high >= 1 << 15 ? 0xffff : 0)) >>> 0; // of negative numbers the longest is the smallest
      let code = 0;
      while ((number[0] as number) >= (this.#borders[code] as number)) code++;
      this.#first[high] = code;
    }
  }

  /**
   * The codes nearest to numbers; of two that are as near, the larger.
   * @param bits of `numbers`, a view of the same memory
   */
  encode(numbers: Float32Array, bits: Uint32Array, codes: Uint8Array): void {
    const [borders, first] = [this.#borders, this.#first];
    for (let i = 0; i < codes.length; i++) {
      const x = numbers[i] as number;
      let code = first[(bits[i] as number) >>> 16] as number;
      while (x >= (borders[code] as number)) code++;
      codes[i] = code;
    }
  }
}

/** The smallest float32 that is at least half-way to the next number, measured in float32 as torchao does; of the last: none. */
function bordersOf(values: Float32Array): Float32Array {
  return values.map((low, code) => {
    const high = values[code + 1];
    if (high === undefined) return Number.POSITIVE_INFINITY;
    const isBeyond = (x: number): boolean => Math.fround(x - low) >= Math.fround(high - low) * 0.5;
    let border = Math.fround(low + (high - low) / 2);
    while (isBeyond(neighbour(border, -1))) border = neighbour(border, -1);
    while (!isBeyond(border)) border = neighbour(border, 1);
    return border;
  });
}

/** The float32 before or behind one that is not 0. */
function neighbour(x: number, direction: 1 | -1): number {
  const number = Float32Array.of(x);
  const bits = new Uint32Array(number.buffer);
  bits[0] = (bits[0] as number) + (x > 0 ? direction : -direction);
  return number[0] as number;
}

function mapValues(isSigned: boolean): Float32Array {
  const numbers = [0, 1];
  for (let decade = 0; decade < DECADES; decade++) {
    const pieces = 2 ** (isSigned ? decade : decade + 1);
    const scale = 10 ** (decade - DECADES + 1);
    const ends = evenly(pieces + 1);
    for (let i = 0; i < pieces; i++) {
      const middle = Math.fround(Math.fround((ends[i] as number) + (ends[i + 1] as number)) / 2);
      const size = Math.fround(Math.fround(scale) * middle);
      numbers.push(size, ...(isSigned ? [-size] : []));
    }
  }
  return Float32Array.from(numbers).sort();
}

/** From 0.1 to 1, from both ends to the middle, as torch.linspace computes them in float32. */
function evenly(count: number): number[] {
  const [start, end] = [Math.fround(0.1), 1];
  const step = Math.fround(Math.fround(end - start) / (count - 1));
  return Array.from({ length: count }, (_, i) =>
    Math.fround(i < count / 2 ? start + step * i : end - step * (count - 1 - i)),
  );
}
