/**
 * Adapters of several users side by side as one: their A below each other, their B next to each other, and for each row a 1 for
 * the columns of its own. Sums over the others' columns add zeros, so that a row's answer is what its adapter alone would give.
 */
import { ADAPTER_SHARE } from "../model/graphs.ts";
import type { LoraModule } from "../model/lora.ts";
import { type Feeds, floats, type HostFeeds, type HostTensor } from "../runtime/tensor.ts";
import { InternalError, required } from "../utils/errors.ts";

export interface StackSettings {
  /** Rank of each adapter. */
  readonly r: number;
  readonly modules: readonly LoraModule[];
}

export class AdapterStack {
  readonly #feeds: Feeds;
  readonly #users: number;
  readonly #r: number;

  /** @param sets one for each user, all of them with the same names */
  constructor({ r, modules }: StackSettings, sets: readonly Feeds[]) {
    const [only] = sets;
    this.#r = r;
    this.#users = sets.length;
    this.#feeds = sets.length === 1 && only ? only : joined(modules, sets);
  }

  /** @param owners the user of each row */
  feeds(owners: readonly number[]): Feeds {
    const width = this.#users * this.#r;
    const share = new Float32Array(owners.length * width);
    for (const [row, owner] of owners.entries())
      share.fill(1, row * width + owner * this.#r, row * width + (owner + 1) * this.#r);
    return { ...this.#feeds, [ADAPTER_SHARE]: floats(share, [owners.length, width]) };
  }
}

/** What a device keeps for itself cannot be laid side by side here. */
export const isOnHost = (set: Feeds): set is HostFeeds => Object.values(set).every((tensor) => "data" in tensor);

function joined(modules: readonly LoraModule[], sets: readonly Feeds[]): Feeds {
  if (!sets.every(isOnHost)) throw new InternalError("adapters were stacked that a device keeps");
  const feeds: Record<string, HostTensor> = {};
  for (const { keyA, keyB } of modules.filter((module) => module.keyA in (sets[0] ?? {}))) {
    feeds[keyA] = below(sets.map((set) => required(set[keyA], keyA)));
    feeds[keyB] = beside(sets.map((set) => required(set[keyB], keyB)));
  }
  return feeds;
}

/** [R, in] of each -> [sum of R, in] */
function below(parts: readonly HostTensor[]): HostTensor {
  const rows = parts.reduce((sum, { dims: [r = 0] }) => sum + r, 0);
  const width = parts[0]?.dims[1] ?? 0;
  const whole = new Float32Array(rows * width);
  let at = 0;
  for (const { data } of parts) {
    whole.set(data, at);
    at += data.length;
  }
  return floats(whole, [rows, width]);
}

/** [out, R] of each -> [out, sum of R] */
function beside(parts: readonly HostTensor[]): HostTensor {
  const rows = parts[0]?.dims[0] ?? 0;
  const width = parts.reduce((sum, { dims: [, r = 0] }) => sum + r, 0);
  const whole = new Float32Array(rows * width);
  let left = 0;
  for (const { data, dims } of parts) {
    const [, r = 0] = dims;
    for (let row = 0; row < rows; row++) whole.set(data.subarray(row * r, (row + 1) * r), row * width + left);
    left += r;
  }
  return floats(whole, [rows, width]);
}
