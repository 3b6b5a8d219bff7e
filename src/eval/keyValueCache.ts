/**
 * Keys and values of what sequences have said so far. They stay in the host's memory, where the runtime reads them; new ones
 * are written behind them, so that a token costs the copy of a token and not of the cache.
 */
import { HIDDEN } from "../graph/cachedAttention.ts";
import type { TextArchitecture } from "../model/architecture.ts";
import { cacheNames } from "../model/graphs.ts";
import { floats, type HostTensor } from "../runtime/tensor.ts";
import { InternalError, required } from "../utils/errors.ts";

/**
 * Places are laid out in whole blocks: kernels add so many numbers at a time, so that a row's sums come out the same to the
 * last bit however many blocks its neighbours need.
 */
const BLOCK = 64;
/** Share of the places in use that is laid out on top: copying what there is gets rarer as it gets more. */
const ROOM = 0.125;

const inBlocks = (places: number): number => Math.ceil(places / BLOCK) * BLOCK;

/** By graph input, [B, K, S, Dh]: each head's places stand together, the first `length` of a row's are its tokens. */
type Places = Map<string, Float32Array>;

export class KeyValueCache {
  readonly #architecture: TextArchitecture;
  /** Tokens that each row will have at most: no block is laid out behind them. */
  readonly #most: number;
  #places: Places = new Map();
  #lengths: number[];
  #capacity = 0;

  /** An empty cache of so many rows. */
  constructor(architecture: TextArchitecture, rows: number, most: number) {
    this.#architecture = architecture;
    this.#most = most;
    this.#lengths = new Array<number>(rows).fill(0);
    for (let layer = 0; layer < architecture.layers; layer++) {
      const { pastKey, pastValue } = cacheNames(layer);
      for (const name of [pastKey, pastValue]) this.#places.set(name, new Float32Array(0));
    }
  }

  /** Tokens of each row. */
  get lengths(): readonly number[] {
    return this.#lengths;
  }

  /** Views of the cache, and its bias [B, S]; they hold until the cache changes. */
  feeds(): Readonly<Record<string, HostTensor>> {
    const { kvHeads, headDim } = this.#architecture;
    const dims = [this.#lengths.length, kvHeads, this.#capacity, headDim];
    const views = [...this.#places].map(([name, places]) => [name, floats(places, dims)] as const);
    return { past_bias: this.#bias(), ...Object.fromEntries(views) };
  }

  /**
   * Writes new keys and values behind those of their rows.
   * @param grown the graph's outputs [B, K, T, Dh] by name
   * @param counts how many of the T are tokens, the first ones of each row
   */
  append(grown: Readonly<Record<string, HostTensor>>, counts: readonly number[]): void {
    if (counts.length !== this.#lengths.length)
      throw new InternalError(`${counts.length} rows came to a cache of ${this.#lengths.length}`);
    const lengths = this.#lengths.map((length, b) => length + (counts[b] ?? 0));
    this.#makeRoom(Math.max(...lengths));
    for (let layer = 0; layer < this.#architecture.layers; layer++) {
      const { pastKey, pastValue, key, value } = cacheNames(layer);
      this.#write(pastKey, required(grown[key], key), counts);
      this.#write(pastValue, required(grown[value], value), counts);
    }
    this.#lengths = lengths;
  }

  /** Forgets all rows but these, which are given in their order. */
  keep(rows: readonly number[]): void {
    const block = this.#architecture.kvHeads * this.#capacity * this.#architecture.headDim;
    for (const [name, places] of this.#places) {
      for (const [to, from] of rows.entries()) places.copyWithin(to * block, from * block, (from + 1) * block);
      this.#places.set(name, places.subarray(0, rows.length * block));
    }
    this.#lengths = rows.map((row) => required(this.#lengths[row], `row ${row} of the cache`));
  }

  #write(name: string, { data, dims: [, , count = 0] }: HostTensor, counts: readonly number[]): void {
    const { kvHeads, headDim } = this.#architecture;
    const places = required(this.#places.get(name), name);
    for (const [b, length] of this.#lengths.entries())
      for (let head = b * kvHeads; head < (b + 1) * kvHeads; head++) {
        const from = head * count * headDim;
        const tokens = (data as Float32Array).subarray(from, from + (counts[b] ?? 0) * headDim);
        places.set(tokens, (head * this.#capacity + length) * headDim);
      }
  }

  /** Places without tokens hold zeros or what a token left behind: numbers, which the bias hides. */
  #makeRoom(needed: number): void {
    if (needed <= this.#capacity) return;
    const { kvHeads, headDim } = this.#architecture;
    const capacity = inBlocks(Math.max(needed, Math.min(this.#most, needed + Math.max(BLOCK, needed * ROOM))));
    const [before, after] = [this.#capacity * headDim, capacity * headDim];
    const heads = this.#lengths.length * kvHeads;
    for (const [name, places] of this.#places) {
      const wider = new Float32Array(heads * after);
      for (let head = 0; head < heads; head++)
        wider.set(places.subarray(head * before, (head + 1) * before), head * after);
      this.#places.set(name, wider);
    }
    this.#capacity = capacity;
  }

  #bias(): HostTensor {
    const bias = new Float32Array(this.#lengths.length * this.#capacity);
    for (const [b, length] of this.#lengths.entries())
      bias.fill(HIDDEN, b * this.#capacity + length, (b + 1) * this.#capacity);
    return floats(bias, [this.#lengths.length, this.#capacity]);
  }
}
