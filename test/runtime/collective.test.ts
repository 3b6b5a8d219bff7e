// Replicas' numbers put together: sums in one fixed order, whole, and nobody left waiting for a rank that is lost.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ALONE, breakOff, sharedMemory } from "../../src/runtime/collective.ts";
import { startThread, type Thread } from "../../src/runtime/thread.ts";
import { randomFrom } from "../../src/utils/random.ts";
import type { Rank } from "./summing.ts";

const started: Thread<Rank>[] = [];
after(() => Promise.all(started.map((thread) => thread.stop())));

function ranks(size: number) {
  const memory = sharedMemory(size);
  const threads = Array.from({ length: size }, (_, rank) =>
    startThread<Rank>(new URL("./summing.ts", import.meta.url), { memory, rank }),
  );
  started.push(...threads);
  return { memory, threads };
}

/** Longer than what crosses at a time (2^18), and not a multiple of it or of three. */
const LENGTH = 2 ** 19 + 12_345;

const drawn = (name: string, rank: number, length: number): Float64Array => {
  const random = randomFrom(7, name, rank);
  return Float64Array.from({ length }, () => random.uniform() - 0.5);
};

test("sums of three ranks are those in the order of the ranks, to the last bit, and all ranks hold them", async () => {
  const { threads } = ranks(3);
  const lengths = [LENGTH, 1, 0, 2, LENGTH];
  const vectors = (rank: number) => lengths.map((length, i) => drawn(`sum ${i}`, rank, length));
  const others = (rank: number) => lengths.map((length, i) => Float32Array.from(drawn(`other ${i}`, rank, length)));
  const results = await Promise.all(threads.map(({ remote }, rank) => remote.inTurn(vectors(rank), others(rank))));
  const [a, b, c] = [vectors(0), vectors(1), vectors(2)];
  const expected = a.map((first, i) => first.map((value, k) => value + (b[i]?.[k] ?? 0) + (c[i]?.[k] ?? 0)));
  for (const { sums, broadcasts } of results) {
    for (const [i, sum] of sums.entries())
      assert.ok(Buffer.compare(bytesOf(sum), bytesOf(expected[i])) === 0, `sum ${i}`);
    for (const [i, other] of broadcasts.entries())
      assert.ok(Buffer.compare(bytesOf(other), bytesOf(others(0)[i])) === 0, `broadcast ${i}`);
  }
});

const bytesOf = (array: Float64Array | Float32Array | undefined): Buffer =>
  array ? Buffer.from(array.buffer, array.byteOffset, array.byteLength) : Buffer.alloc(0);

test("a rank that is lost ends the waiting of the others, and calls to come", async () => {
  const { memory, threads } = ranks(3);
  const [first, second, third] = threads.map(({ remote }) => remote);
  const vector = () => [Float64Array.of(1, 2, 3)];
  const waiting = [first, second].map((rank) => assert.rejects(rank?.inTurn(vector(), []) ?? assert.fail(), /internal: another device of this run was lost/)); // biome-ignore format: one line
  third?.end().catch(() => undefined);
  const reason = await threads[2]?.died;
  assert.match(reason?.message ?? "", /ended with code 3/);
  breakOff(memory);
  await Promise.all(waiting);
  await assert.rejects(first?.inTurn(vector(), []) ?? assert.fail(), /another device of this run was lost/);
});

test("one replica's sum is its own vector", async () => {
  const vector = Float64Array.of(1, 2);
  await ALONE.sum(vector);
  assert.deepEqual(vector, Float64Array.of(1, 2));
});
