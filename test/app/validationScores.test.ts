import assert from "node:assert/strict";
import { test } from "node:test";
import { samplesToScore } from "../../src/app/validationScores.ts";
import type { Example } from "../../src/data/example.ts";

const sample = (i: number): Example => ({
  ...{ id: `user_${74 + Math.floor(i / 10)}.csv:${i}`, user: `${74 + Math.floor(i / 10)}`, messages: [] },
  target: { point: [i, i], content: "" },
});
const validation = Array.from({ length: 40 }, (_, i) => sample(i));

test("samples to answer during training are spread over all users, in order, each once", () => {
  const picked = (count: number | null) => samplesToScore(validation, { evalGenerate: count }).map(({ target }) => target?.point[0]); // biome-ignore format: one line
  assert.deepEqual(picked(null), []);
  assert.deepEqual(picked(4), [0, 10, 20, 30]);
  assert.deepEqual(picked(1), [0]);
  assert.deepEqual(picked(7), [0, 5, 11, 17, 22, 28, 34]);
  assert.deepEqual(picked(40), validation.map((_, i) => i)); // biome-ignore format: one line
  assert.deepEqual(picked(1000), picked(40));
});

test("without validation samples, or click points, the flag is refused", () => {
  assert.throws(() => samplesToScore([], { evalGenerate: 3 }), { name: "UserError", message: /^--eval-generate: there are no validation samples to answer; name some with / }); // biome-ignore format: one line
  const { target: _, ...pointless } = sample(3);
  const mixed = [...validation, { ...pointless, id: "notes.jsonl:7" }];
  assert.throws(() => samplesToScore(mixed, { evalGenerate: 3 }), { name: "UserError", message: /^--eval-generate: notes\.jsonl:7 has no click point/ }); // biome-ignore format: one line
  assert.deepEqual(samplesToScore([], { evalGenerate: null }), [], "nobody asked");
});
