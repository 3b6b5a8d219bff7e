// The cache against lists of tokens: what is written stands behind what was there, whatever is made room for or forgotten.
import assert from "node:assert/strict";
import { test } from "node:test";
import { KeyValueCache } from "../../src/eval/keyValueCache.ts";
import { HIDDEN } from "../../src/graph/cachedAttention.ts";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { cacheNames } from "../../src/model/graphs.ts";
import { floats, type HostTensor } from "../../src/runtime/tensor.ts";
import { required } from "../../src/utils/errors.ts";
import { TINY } from "../model/folders.ts";

const { text } = openCheckpoint(TINY).architecture;
const { layers, kvHeads, headDim } = text;
const NAMES = Array.from({ length: layers }, (_, layer) => cacheNames(layer));

/** Numbers that no other token has: [B, K, T, Dh] of every output. */
let fresh = 0;
function grownBy(rows: number, tokens: number): Record<string, HostTensor> {
  const tensor = (): HostTensor => {
    const data = Float32Array.from({ length: rows * kvHeads * tokens * headDim }, () => ++fresh % 2 ** 24);
    return floats(data, [rows, kvHeads, tokens, headDim]);
  };
  return Object.fromEntries(NAMES.flatMap(({ key, value }) => [key, value].map((name) => [name, tensor()] as const)));
}

/** A cache and, beside it, the tokens of each row, head and layer as plain lists. */
class Told {
  readonly cache: KeyValueCache;
  /** By input: rows of heads of tokens. */
  #lists: Map<string, number[][][]>;

  constructor(rows: number, most: number) {
    this.cache = new KeyValueCache(text, rows, most);
    const empty = () => Array.from({ length: rows }, () => Array.from({ length: kvHeads }, (): number[] => []));
    this.#lists = new Map(NAMES.flatMap((names) => [names.pastKey, names.pastValue].map((name) => [name, empty()])));
  }

  append(tokens: number, counts: readonly number[]): void {
    const grown = grownBy(counts.length, tokens);
    this.cache.append(grown, counts);
    for (const { pastKey, pastValue, key, value } of NAMES)
      for (const [past, now] of [
        [pastKey, key],
        [pastValue, value],
      ] as const) {
        const data = required(grown[now], now).data;
        for (const [b, heads] of required(this.#lists.get(past), past).entries())
          for (const [head, list] of heads.entries()) {
            const from = (b * kvHeads + head) * tokens * headDim;
            list.push(...data.subarray(from, from + (counts[b] ?? 0) * headDim));
          }
      }
  }

  keep(rows: readonly number[]): void {
    this.cache.keep(rows);
    for (const [name, lists] of this.#lists)
      this.#lists.set(
        name,
        rows.map((row) => required(lists[row], "row")),
      );
  }

  check(): void {
    const { past_bias: bias, ...feeds } = this.cache.feeds();
    const [rows = 0, places = 0] = required(bias, "bias").dims;
    for (const [name, lists] of this.#lists) {
      const { data, dims } = required(feeds[name], name);
      assert.deepEqual(dims, [lists.length, kvHeads, places, headDim]);
      assert.equal(data.length, lists.length * kvHeads * places * headDim);
      for (const [b, heads] of lists.entries())
        for (const [head, list] of heads.entries()) {
          const from = (b * kvHeads + head) * places * headDim;
          assert.deepEqual([...data.subarray(from, from + list.length)], list, `${name}, row ${b}, head ${head}`);
        }
      assert.ok(data.every(Number.isFinite));
    }
    const lengths = required(this.#lists.get("past.0.key"), "lists").map(([list = []]) => list.length / headDim);
    assert.deepEqual(this.cache.lengths, lengths);
    const expected = lengths.flatMap((length) => Array.from({ length: places }, (_, s) => (s < length ? 0 : HIDDEN)));
    assert.deepEqual([...required(bias, "bias").data], [...Float32Array.from(expected)]);
    assert.equal(rows, lengths.length);
  }
}

test("prompts of unequal length, then token after token beyond the first room", () => {
  const told = new Told(3, 400);
  told.check();
  told.append(30, [30, 7, 21]);
  told.check();
  for (let i = 0; i < 130; i++) told.append(1, [1, 1, 1]);
  told.check();
});

test("rows that are forgotten make room, the others stay what they were", () => {
  const told = new Told(4, 60);
  told.append(12, [12, 3, 9, 5]);
  told.append(1, [1, 1, 1, 1]);
  told.keep([0, 2, 3]);
  told.check();
  told.append(1, [1, 1, 1]);
  told.keep([2]);
  told.check();
  for (let i = 0; i < 30; i++) told.append(1, [1]);
  told.check();
});

test("a token is written in place: the arrays that the runtime reads stay the same until there is no room", () => {
  const told = new Told(2, 1000);
  told.append(10, [10, 10]);
  const { data } = required(told.cache.feeds()["past.0.key"], "keys");
  for (let i = 0; i < 60; i++) {
    told.append(1, [1, 1]);
    assert.equal(required(told.cache.feeds()["past.0.key"], "keys").data, data);
  }
});

test("no more room than answers can need", () => {
  for (const [most, places] of [
    [64, 64],
    [1000, 128],
  ] as const) {
    const told = new Told(1, most);
    told.append(10, [10]);
    told.append(1, [1]);
    assert.deepEqual(told.cache.feeds().past_bias?.dims, [1, places]);
  }
});

test("as many rows as there are", () => {
  assert.throws(() => new KeyValueCache(text, 2, 5).append(grownBy(1, 1), [1]), /1 rows came to a cache of 2/);
});
