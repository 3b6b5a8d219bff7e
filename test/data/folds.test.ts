import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Example } from "../../src/data/example.ts";
import { type Fold, foldsOf } from "../../src/data/folds.ts";

const sample = (id: string, episode?: string): Example => ({
  id,
  user: "7",
  messages: [
    { role: "user", content: `do ${id}` },
    { role: "assistant", content: "done" },
  ],
  ...(episode === undefined ? {} : { episode }),
});

/** Samples whose ids are their places. */
const steps = (n: number): Example[] => Array.from({ length: n }, (_, i) => sample(String(i)));
const placesOf = (examples: readonly Example[]): number[] => examples.map(({ id }) => Number(id));

const fixture: { folds: readonly { n: number; k: number; expected: readonly (readonly number[])[] }[] } = JSON.parse(
  readFileSync("test/fixtures/utils/shuffles.json", "utf8"),
);

test("folds by step are those of the per-user task, which Python drew", async () => {
  for (const { n, k, expected } of fixture.folds) {
    const folds = await foldsOf(steps(n), { by: "step", folds: k, seed: 42 });
    assert.deepEqual(
      folds.map(({ heldOut }) => placesOf(heldOut)),
      expected,
      `${n} samples in ${k} folds`,
    );
    for (const [i, { train }] of folds.entries())
      assert.deepEqual(placesOf(train), expected.filter((_, other) => other !== i).flat());
  }
  const ten = await foldsOf(steps(10), { by: "step", folds: 3, seed: 42 });
  assert.deepEqual(ten.map(({ heldOut }) => placesOf(heldOut)), [[7, 3, 2], [8, 5, 6], [9, 4, 0, 1]]); // biome-ignore format: one line
});

const episodesIn = (examples: readonly Example[]): Set<string | undefined> =>
  new Set(examples.map(({ episode }) => episode));

function assertParted(folds: readonly Fold[], all: readonly Example[]): void {
  const ids = (examples: readonly Example[]): string[] => examples.map(({ id }) => id).sort();
  assert.deepEqual(ids(folds.flatMap(({ heldOut }) => heldOut)), ids(all), "each sample is held out once");
  for (const { train, heldOut } of folds) {
    assert.deepEqual(ids([...train, ...heldOut]), ids(all), "what is not held out is learnt from");
    const learnt = episodesIn(train);
    for (const episode of episodesIn(heldOut)) assert.ok(!learnt.has(episode), `episode ${episode} on both sides`);
  }
}

test("folds by episode: no episode on both sides, whatever the lengths, counts and seeds", async () => {
  for (let seed = 0; seed < 40; seed++) {
    const all = Array.from({ length: 5 + seed }, (_, e) =>
      Array.from({ length: 1 + ((seed * 7 + e * e) % 6) }, (__, s) => sample(`${e}.${s}`, `episode ${e}`)),
    ).flat();
    const folds = await foldsOf(all, { by: "episode", folds: 2 + (seed % 4), seed });
    assertParted(folds, all);
    const sizes = folds.map(({ heldOut }) => heldOut.length);
    assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 6, `no more apart than the longest episode: ${sizes}`);
  }
});

test("by episode, twelve episodes of four steps are four to a fold, and the seed says which", async () => {
  const all = Array.from({ length: 48 }, (_, i) => sample(`${i}`, String(Math.floor(i / 4))));
  const one = await foldsOf(all, { by: "episode", folds: 3, seed: 42 });
  assert.deepEqual(one.map(({ heldOut }) => heldOut.length), [16, 16, 16]); // biome-ignore format: one line
  assert.deepEqual(await foldsOf(all, { by: "episode", folds: 3, seed: 42 }), one);
  assert.notDeepEqual(await foldsOf(all, { by: "episode", folds: 3, seed: 43 }), one);
});

test("equal samples of two episodes keep these together", async () => {
  const [twin, other] = [sample("a", "1"), { ...sample("a", "2"), id: "b" }]; // the same words
  const all = [twin, sample("c", "3"), other, sample("d", "4"), sample("e", "5")];
  for (let seed = 0; seed < 10; seed++) {
    for (const { heldOut } of await foldsOf(all, { by: "episode", folds: 2, seed }))
      assert.equal(heldOut.includes(twin), heldOut.includes(other), `seed ${seed}`);
  }
});

test("refusals name the sample or the user, and the way out", async () => {
  const by = (examples: readonly Example[], kind: "episode" | "step", folds = 3) =>
    foldsOf(examples, { by: kind, folds, seed: 42 });
  for (const lost of [sample("users.csv:9"), sample("users.csv:9", " ")])
    await assert.rejects(by([sample("x", "1"), lost], "episode"), {
      name: "UserError",
      message:
        '--fold-by episode: users.csv:9 names no episode, so steps of one could be learnt and asked; add "episode" to the data, or cut by single steps with --fold-by step',
    });
  await assert.rejects(by([sample("x", "1"), sample("y", "1"), sample("z", "2")], "episode"), {
    message: "--folds 3: user 7 has 2 episodes, and each fold needs one; ask for fewer folds, or leave the user out",
  });
  await assert.rejects(by(steps(4), "step", 5), {
    message: "--folds 5: user 7 has 4 samples, and each fold needs one; ask for fewer folds, or leave the user out",
  });
});
