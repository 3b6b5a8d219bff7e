// Which token follows: against transformers' filters, and what noise may not change.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { chooseToken, drawOf, NOISE } from "../../src/eval/choice.ts";
import { UserError } from "../../src/utils/errors.ts";
import { randomFrom } from "../../src/utils/random.ts";

interface Case {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly logits: readonly number[];
  readonly probabilities: readonly number[];
}
const { cases }: { cases: readonly Case[] } = JSON.parse(readFileSync("test/fixtures/eval/sampling.json", "utf8"));

const F32_SOFTMAX = 1e-6; // transformers filters in float32, we in double

test("draws fall where the probabilities of transformers' filters put them", () => {
  for (const { logits, probabilities, ...sampling } of cases) {
    const row = Float32Array.from(logits);
    let below = 0;
    for (const [token, probability] of probabilities.entries()) {
      if (probability === 0) continue;
      for (const draw of [below + F32_SOFTMAX, below + probability / 2, below + probability - F32_SOFTMAX])
        assert.equal(chooseToken(row, sampling, draw).token, token, `${JSON.stringify(sampling)} at ${draw}`);
      below += probability;
    }
    assert.ok(Math.abs(below - 1) < 1e-9);
  }
  const kept = cases.map(({ probabilities }) => probabilities.filter((p) => p > 0).length);
  assert.ok(new Set(kept).size > 4, `numbers of tokens kept: ${kept}`);
});

test("without sampling: the first of the largest", () => {
  assert.deepEqual(chooseToken(Float32Array.of(1, 3, 2, 3), null), { token: 1, isClear: false });
  assert.deepEqual(chooseToken(Float32Array.of(1, 3, 2), null), { token: 1, isClear: true });
  assert.deepEqual(chooseToken(Float32Array.of(3, 1), null), { token: 0, isClear: true });
  assert.equal(chooseToken(Float32Array.of(3, 3 * (1 + NOISE)), null).isClear, false);
});

test("logits that are no numbers are refused, wherever the first one stands", () => {
  const sampling = { temperature: 1, topK: 2, topP: 0.9 };
  for (const how of [null, sampling])
    for (const row of [Float32Array.of(Number.NaN, 1), Float32Array.of(1, Number.NaN, 5)])
      assert.throws(() => chooseToken(row, how, 0.5), (error) => error instanceof UserError && /not numbers/.test(error.message)); // biome-ignore format: one line
});

/** The row with every logit moved by as much as noise may, up or down. */
function noisy(row: Float32Array, seed: number): Float32Array {
  const random = randomFrom(seed, "noise");
  const most = 0.99 * NOISE * row.reduce((max, logit) => Math.max(max, Math.abs(logit)), 0);
  return row.map((logit) => logit + random.pick([-most, most]));
}

test("a choice that is called clear stands whatever the noise", () => {
  const random = randomFrom(3, "rows");
  const tally = { clear: 0, unclear: 0, turned: 0 };
  for (let i = 0; i < 3000; i++) {
    const row = Float32Array.from(
      { length: 12 },
      () => random.pick([0, 2]) + random.normal() * (i % 3 === 0 ? 1e-4 : 1),
    );
    const sampling =
      i % 2 === 0 ? null : { temperature: random.pick([0.3, 1, 2]), topK: random.below(12), topP: random.pick([0.4, 0.9, 1]) }; // biome-ignore format: one line
    const draw = random.uniform();
    const { token, isClear } = chooseToken(row, sampling, draw);
    tally[isClear ? "clear" : "unclear"]++;
    for (let k = 0; k < 8; k++) {
      const other = chooseToken(noisy(row, 8 * i + k), sampling, draw).token;
      if (isClear) assert.equal(other, token, `${JSON.stringify(sampling)} at ${draw}: ${row}`);
      else if (other !== token) tally.turned++;
    }
  }
  assert.ok(tally.clear > 1500 && tally.unclear > 200 && tally.turned > 100, JSON.stringify(tally));
});

test("draws follow from seed, sample and place, and are spread evenly", () => {
  assert.equal(drawOf(1, "a:2", 3), drawOf(1, "a:2", 3));
  const draws = [drawOf(1, "a:2", 3), drawOf(2, "a:2", 3), drawOf(1, "a:3", 3), drawOf(1, "a:2", 4)];
  assert.equal(new Set(draws).size, 4);
  const bins = Array.from({ length: 10 }, () => 0);
  for (let i = 0; i < 10_000; i++) {
    const bin = Math.floor(10 * drawOf(5, `user_${i % 10}.csv:${Math.floor(i / 100)}`, i % 100));
    bins[bin] = (bins[bin] ?? 0) + 1;
  }
  const chiSquare = bins.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  assert.ok(chiSquare < 27.9, `chi square ${chiSquare} of 9 degrees: one in a thousand is above 27.9`);
});
