// From labels to scored rows, and from sums to the loss that is followed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { IGNORE } from "../../src/collator.ts";
import { lossFeeds, normalizations, normalizedLoss, scoredTokens } from "../../src/train/loss.ts";

test("the token before predicts: rows are one to the left, in each sequence of the batch", () => {
  const labels = Int32Array.of(IGNORE, IGNORE, 5, 6, IGNORE, 7, IGNORE, 8);
  const { target_rows: rows, targets } = lossFeeds(labels, 4);
  assert.deepEqual([rows?.data, rows?.dims], [Int32Array.of(1, 2, 4, 6), [4]]);
  assert.deepEqual([targets?.data, targets?.dims], [Int32Array.of(5, 6, 7, 8), [4]]);
  assert.equal(scoredTokens(labels, 4), 4);
});

test("the first token of a sequence is never predicted, least of all from the sequence before", () => {
  const labels = Int32Array.of(1, 2, 3, 4, IGNORE, 6);
  const { target_rows: rows, targets } = lossFeeds(labels, 3);
  assert.deepEqual([rows?.data, targets?.data], [Int32Array.of(0, 1, 4), Int32Array.of(2, 3, 6)]);
  assert.equal(scoredTokens(labels, 3), 3);
});

test("token 0 is a token like others, and nothing scored is no rows", () => {
  assert.equal(scoredTokens(Int32Array.of(IGNORE, 0), 2), 1);
  assert.equal(scoredTokens(Int32Array.of(9, IGNORE), 2), 0);
  assert.deepEqual(lossFeeds(Int32Array.of(9, IGNORE), 2).targets?.dims, [0]);
});

test("two normalisations of the same step", () => {
  const outputs = [
    { lossSum: 12, tokenCount: 3 },
    { lossSum: 2, tokenCount: 1 },
  ];
  assert.equal(normalizedLoss("token", outputs), 14 / 4);
  assert.equal(normalizedLoss("microbatch-mean", outputs), (12 / 3 + 2 / 1) / 2);
  for (const { weight, total } of Object.values(normalizations)) {
    // gradients are weighted sums divided once: the same numbers as the loss
    const weights = outputs.map(({ tokenCount }) => weight(tokenCount) / total(outputs));
    assert.equal(
      weights.reduce((sum, w, i) => sum + w * (outputs[i]?.tokenCount ?? 0), 0),
      1,
      "the gradient of a loss of 1 a token is 1",
    );
  }
});
