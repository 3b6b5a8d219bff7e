// Work done ahead of its use: in order, so much of it and no more, failures in their place.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { mapAhead } from "../../src/utils/ahead.ts";

/** Takes all of it, saying where it failed. */
async function taken<T>(results: AsyncIterable<T>): Promise<(T | string)[]> {
  const seen: (T | string)[] = [];
  try {
    for await (const result of results) seen.push(result);
  } catch (error) {
    seen.push((error as Error).message);
  }
  return seen;
}

test("results keep the order of the items, whichever is ready first", async () => {
  const results = mapAhead([30, 1, 10, 0], 3, async (ms) => {
    await sleep(ms);
    return ms;
  });
  assert.deepEqual(await taken(results), [30, 1, 10, 0]);
});

test("the next ones are under way while one is used, and not more", async () => {
  const started: number[] = [];
  const results = mapAhead([0, 1, 2, 3, 4, 5], 2, async (item) => {
    started.push(item);
    return item;
  });
  await results.next();
  assert.deepEqual(started, [0, 1, 2, 3]);
  await results.next();
  assert.deepEqual(started, [0, 1, 2, 3, 4]);
  await results.return(undefined);
});

test("nothing begins before it is asked for, and nothing is nothing", async () => {
  let started = 0;
  void mapAhead([1], 1, async () => started++);
  await sleep(1);
  assert.equal(started, 0);
  assert.deepEqual(await taken(mapAhead([], 2, async (item) => item)), []);
});

test("a failure comes at its item, whether of the work or of its source", async () => {
  const failing = (at: number) => async (item: number) => {
    if (item === at) throw new Error(`item ${at}`);
    return item;
  };
  assert.deepEqual(await taken(mapAhead([0, 1, 2, 3], 3, failing(2))), [0, 1, "item 2"]);
  assert.deepEqual(await taken(mapAhead([0, 1], 1, failing(0))), ["item 0"]);
  function* source(): Generator<number> {
    yield* [0, 1];
    throw new Error("no more");
  }
  assert.deepEqual(await taken(mapAhead(source(), 5, async (item) => item)), [0, 1, "no more"]);
});

test("a consumer that stops lets the rest go, and the source is closed", async () => {
  let isClosed = false;
  function* source(): Generator<number> {
    try {
      for (let i = 0; ; i++) yield i;
    } finally {
      isClosed = true;
    }
  }
  const results = mapAhead(source(), 2, async (item) => {
    if (item > 0) throw new Error("under way and never looked at");
    return item;
  });
  for await (const _ of results) break;
  await sleep(1);
  assert.equal(isClosed, true);
});
