// Adapters side by side: products of the stack, with each row's share, are the products of its own adapter.
import assert from "node:assert/strict";
import { test } from "node:test";
import { AdapterStack } from "../../src/eval/adapterStack.ts";
import type { LoraModule } from "../../src/model/lora.ts";
import { floats, type HostTensor } from "../../src/runtime/tensor.ts";
import { required } from "../../src/utils/errors.ts";

const MODULE: LoraModule = {
  name: "q",
  keyA: "q.A",
  keyB: "q.B",
  keyMagnitude: "q.m",
  inFeatures: 3,
  outFeatures: 2,
  hasBias: false,
};
const OTHER: LoraModule = { ...MODULE, name: "elsewhere", keyA: "e.A", keyB: "e.B" };

/** Whole numbers, so that sums are exact. */
const setOf = (first: number): Readonly<Record<string, HostTensor>> => ({
  "q.A": floats(Float32Array.from({ length: 6 }, (_, i) => first + i), [2, 3]), // biome-ignore format: one line
  "q.B": floats(Float32Array.from({ length: 4 }, (_, i) => first * 10 - i), [2, 2]), // biome-ignore format: one line
});

/** (share * (x A^T)) B^T, by hand. */
function product(
  x: readonly number[],
  feeds: Readonly<Record<string, HostTensor>>,
  share: readonly number[],
): number[] {
  const [a, b] = [required(feeds["q.A"], "A"), required(feeds["q.B"], "B")];
  const [ranks = 0, width = 0] = a.dims;
  assert.deepEqual(b.dims, [2, ranks]);
  const low = share.map((own, r) => own * x.reduce((sum, value, i) => sum + value * (a.data[r * width + i] ?? 0), 0));
  return [0, 1].map((row) => low.reduce((sum, value, r) => sum + value * (b.data[row * ranks + r] ?? 0), 0));
}

test("each row's share of the stack is its own adapter", () => {
  const sets = [setOf(1), setOf(5), setOf(-3)];
  const owners = [2, 0, 1, 0];
  const feeds = new AdapterStack({ r: 2, modules: [MODULE, OTHER] }, sets).feeds(owners);
  assert.deepEqual(Object.keys(feeds).sort(), ["adapter_share", "q.A", "q.B"]);
  const { data, dims } = feeds.adapter_share as HostTensor;
  assert.deepEqual(dims, [4, 6]);
  const x = [2, -1, 4];
  for (const [row, owner] of owners.entries()) {
    const expected = product(x, required(sets[owner], "set"), [1, 1]);
    const share = [...data.subarray(row * 6, (row + 1) * 6)];
    assert.deepEqual(product(x, feeds as Record<string, HostTensor>, share), expected, `row ${row}`);
  }
});

test("one adapter is passed on as it is, nothing copied", () => {
  const set = setOf(1);
  const feeds = new AdapterStack({ r: 2, modules: [MODULE] }, [set]).feeds([0, 0]);
  assert.equal(feeds["q.A"], set["q.A"]);
  assert.deepEqual(feeds.adapter_share, floats(Float32Array.of(1, 1, 1, 1), [2, 2]));
});

test("what a device keeps cannot be laid side by side", () => {
  const kept = { ...setOf(1), "q.A": { dtype: "float32", dims: [2, 3], buffer: {} } } as unknown as Record<
    string,
    HostTensor
  >;
  assert.throws(() => new AdapterStack({ r: 2, modules: [MODULE] }, [kept, setOf(2)]), /that a device keeps/);
});
