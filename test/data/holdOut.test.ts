import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { holdOut } from "../../src/data/holdOut.ts";
import type { Example } from "../../src/dataset.ts";

const example = (id: string, text: string, more: Partial<Example> = {}): Example => ({
  ...{ id, user: null, ...more },
  messages: [
    { role: "user", content: text },
    { role: "assistant", content: "ok" },
  ],
});
const ids = (examples: readonly Example[]): string[] => examples.map(({ id }) => id);

const SAMPLES = fc
  .array(
    fc.record({
      user: fc.option(fc.constantFrom("1", "2", "3", "4", "5", "6")),
      episode: fc.option(fc.constantFrom("a", "b", "c")),
      text: fc.integer({ min: 0, max: 60 }),
    }),
    { minLength: 2, maxLength: 80 },
  )
  .map((rows) =>
    rows.map(({ user, episode, text }, i) =>
      example(`d:${i}`, String(text), { user, ...(episode === null ? {} : { episode }) }),
    ),
  );

const groupOf = ({ user, episode, id }: Example): string =>
  episode !== undefined ? `${user}/${episode}` : user === null ? id : `user ${user}`;
const wordsOf = ({ messages }: Example): string => JSON.stringify(messages);

test("episodes, users without episodes and equal samples stay on one side; nothing is lost; the same seed, the same parts", async () => {
  await fc.assert(
    fc.asyncProperty(SAMPLES, fc.double({ min: 0.01, max: 0.9, noNaN: true }), fc.nat(5), async (all, share, seed) => {
      const parts = await holdOut(all, share, seed).catch((thrown: unknown) => String(thrown));
      if (typeof parts === "string") return assert.match(parts, /nothing can be held out/);
      const { kept, heldOut } = parts;
      assert.deepEqual([...ids(kept), ...ids(heldOut)].sort(), ids(all).sort());
      assert.ok(kept.length > 0 && heldOut.length > 0);
      for (const keyOf of [groupOf, wordsOf]) {
        const keptKeys = new Set(kept.map(keyOf));
        assert.deepEqual(
          heldOut.filter((one) => keptKeys.has(keyOf(one))),
          [],
        );
      }
      assert.deepEqual(await holdOut(all, share, seed), parts);
      const backwards = await holdOut(all.toReversed(), share, seed);
      assert.deepEqual(ids(backwards.heldOut).sort(), ids(heldOut).sort(), "the order of rows does not matter");
    }),
    { numRuns: 300 },
  );
});

test("of single samples the share is met to one; seeds differ; both parts keep the order", async () => {
  const all = Array.from({ length: 1000 }, (_, i) => example(`d:${i}`, String(i)));
  const { kept, heldOut } = await holdOut(all, 0.05, 42);
  assert.equal(heldOut.length, 50);
  assert.deepEqual(
    ids(kept),
    ids(all).filter((id) => !ids(heldOut).includes(id)),
  );
  assert.notDeepEqual(ids((await holdOut(all, 0.05, 43)).heldOut), ids(heldOut));
});

test("rows added later leave most of those held out before where they were", async () => {
  const all = Array.from({ length: 1100 }, (_, i) => example(`d:${i}`, String(i)));
  const before = new Set(ids((await holdOut(all.slice(0, 1000), 0.1, 1)).heldOut));
  const after = ids((await holdOut(all, 0.1, 1)).heldOut);
  assert.ok(after.filter((id) => before.has(id)).length >= 85, `${after.filter((id) => before.has(id)).length} of 100`);
});

test("a large user is not held out for a small share; one group alone cannot be parted", async () => {
  const users = [90, 6, 5].flatMap((count, user) =>
    Array.from({ length: count }, (_, i) => example(`d:${user}-${i}`, `${user} ${i}`, { user: String(user) })),
  );
  for (const seed of [1, 2, 3, 4, 5]) {
    const { heldOut } = await holdOut(users, 0.05, seed);
    assert.ok(heldOut.length === 5 || heldOut.length === 6, String(heldOut.length));
  }
  await assert.rejects(
    holdOut(users.slice(0, 90), 0.05, 1),
    /^UserError: --val-fraction 0.05: the 90 training samples are one episode, one user or equal; .*--val-data$/,
  );
});
