// A micro-batch's gradient does not depend on how its examples were put together.
import assert from "node:assert/strict";
import { test } from "node:test";
import { IGNORE } from "../../src/collator.ts";
import type { EngineBatch } from "../../src/engine/engine.ts";
import type { RemoteEngine } from "../../src/engine/start.ts";
import { isVision } from "../../src/model/parameters.ts";
import { FULL, FULL_TEXT } from "../../src/model/trainables.ts";
import type { NamedArrays } from "../../src/train/replica.ts";
import { required } from "../../src/utils/errors.ts";
import { adapterOf, batchesOf, largestDifference, loadTiny, loraSpec, openEngine } from "../tiny.ts";

const F32 = 1e-5; // of a tensor's largest number: the same sums in another order

const tiny = await loadTiny();
const lora = openEngine(tiny, loraSpec());
await lora.setValues(adapterOf(tiny));
const loraBatches = batchesOf(tiny, lora);

interface Sums {
  readonly gradients: NamedArrays;
  readonly lossSum: number;
  readonly tokenCount: number;
}

/** Sums over micro-batches. */
async function sumsOf(engine: RemoteEngine, batches: readonly EngineBatch[], dropoutSeed = 1): Promise<Sums> {
  let [lossSum, tokenCount] = [0, 0];
  for (const batch of batches) {
    const output = await engine.accumulate(batch, { weight: 1, dropoutSeed });
    lossSum += output.lossSum;
    tokenCount += output.tokenCount;
  }
  const gradients = await engine.gradients(1);
  await engine.clearGradients();
  return { gradients, lossSum, tokenCount };
}

function assertSame(got: Sums, expected: Sums, what: string): void {
  const { share, at } = largestDifference(got.gradients, expected.gradients);
  assert.ok(share <= F32, `${what}: ${at} differs by ${share}`);
  assert.ok(Math.abs(got.lossSum / expected.lossSum - 1) <= F32, `${what}: loss ${got.lossSum}, ${expected.lossSum}`);
  assert.equal(got.tokenCount, expected.tokenCount);
}

/** Example 0 has a picture, 1 another, 2 none, 3 two and two turns; all of unequal length. */
const SPLITS = {
  "2x2": [
    [0, 1],
    [2, 3],
  ],
  "2x2, otherwise": [
    [3, 0],
    [2, 1],
  ],
  "1x4": [[0, 1, 2, 3]],
  "1 and 3": [[2], [0, 1, 3]],
};

test("LoRA: one by one, in pairs and all four at once", async () => {
  const lengths = [0, 1, 2, 3].map((i) => tiny.encoded[i]?.inputIds.length);
  assert.equal(new Set(lengths).size, 4);
  const all = (split: readonly (readonly number[])[]) => Promise.all(split.map(loraBatches.batch));
  const expected = await sumsOf(lora, await all([[0], [1], [2], [3]]));
  for (const [name, split] of Object.entries(SPLITS)) assertSame(await sumsOf(lora, await all(split)), expected, name);
});

test("full fine-tuning, pictures of four sizes through the tower at once", async () => {
  const engine = openEngine(tiny, FULL);
  const { batch } = batchesOf(tiny, engine, true);
  const expected = await sumsOf(engine, await Promise.all([[0], [1], [2], [3]].map(batch)));
  assertSame(await sumsOf(engine, [await batch([0, 1, 2, 3])]), expected, "1x4");

  const words = await sumsOf(engine, [await batch([2])]);
  for (const [name, gradient] of words.gradients) {
    const isMoved = gradient.some((value) => value !== 0);
    assert.ok(gradient.every(Number.isFinite), `${name} without a picture`);
    assert.equal(isMoved, !isVision(name), `${name} is moved by words alone`);
  }

  const frozen = openEngine(tiny, FULL_TEXT);
  const text = await sumsOf(frozen, [await batchesOf(tiny, frozen).batch([0, 1, 2, 3])]);
  assert.deepEqual([...text.gradients.keys()].filter(isVision), []);
  const language = new Map([...expected.gradients].filter(([name]) => !isVision(name)));
  assert.deepEqual([...text.gradients.keys()].sort(), [...language.keys()].sort());
  assertSame(text, { ...expected, gradients: language }, "with the tower frozen");
});

test("documents packed into rows are what they are alone", async () => {
  const alone = await sumsOf(lora, await Promise.all([[0], [2], [3], [4], [5]].map(loraBatches.batch)));
  for (const rows of [
    [[0, 2, 3, 4, 5]],
    [
      [0, 5],
      [2, 4, 3],
    ],
  ])
    assertSame(await sumsOf(lora, [await loraBatches.packed(rows)]), alone, `rows ${JSON.stringify(rows)}`);
});

/** A batch in which the labels of `places` alone are kept. */
const supervising = (batch: EngineBatch, isKept: (at: number) => boolean): EngineBatch => ({
  ...batch,
  labels: batch.labels.map((label, at) => (isKept(at) ? label : IGNORE)),
});
/** A batch with other words at some places; the image tokens stay. */
const reworded = (batch: EngineBatch, isChanged: (at: number) => boolean): EngineBatch => ({
  ...batch,
  inputIds: batch.inputIds.map((id, at) =>
    isChanged(at) && id !== tiny.processor.imageTokenId ? (id + 17) % 400 : id,
  ),
});

test("nothing of another document is seen, to the last bit", async () => {
  const packed = await loraBatches.packed([[2, 4, 5]]);
  for (const document of [0, 1, 2]) {
    const isOwn = (at: number) => packed.segmentIds[at] === document;
    const own = supervising(packed, isOwn);
    const { lossSum } = await lora.evaluateLoss(own);
    assert.deepEqual((await lora.evaluateLoss(reworded(own, (at) => !isOwn(at)))).lossSum, lossSum);
    assert.notEqual((await lora.evaluateLoss(reworded(own, isOwn))).lossSum, lossSum);
  }
});

test("nothing behind a token is seen, and padding by none", async () => {
  const batch = await loraBatches.batch([3, 2]);
  const last = batch.labels.findIndex((label, at) => label !== IGNORE && batch.labels[at + 1] === IGNORE);
  const first = supervising(batch, (at) => at <= last);
  const { lossSum } = await lora.evaluateLoss(first);
  assert.equal((await lora.evaluateLoss(reworded(first, (at) => at > last && at < batch.length))).lossSum, lossSum);
  const { lossSum: whole } = await lora.evaluateLoss(batch);
  const filled = reworded(batch, (at) => batch.segmentIds[at] === -1);
  assert.notDeepEqual(filled.inputIds, batch.inputIds);
  assert.equal((await lora.evaluateLoss(filled)).lossSum, whole);
});

test("no gradient reaches the words of another document", async () => {
  const untied = await loadTiny("sharded-bf16");
  const engine = openEngine(untied, FULL_TEXT);
  const packed = await batchesOf(untied, engine).packed([[2, 5]]);
  const { gradients } = await sumsOf(engine, [supervising(packed, (at) => packed.segmentIds[at] === 1)]);
  const embedding = required(gradients.get("model.language_model.embed_tokens.weight"), "embedding");
  const width = embedding.length / 640;
  const [other, own] = [0, 1].map(
    (segment) => new Set(packed.inputIds.filter((_, at) => packed.segmentIds[at] === segment)),
  );
  const moved = Array.from({ length: 640 }, (_, id) => id).filter((id) =>
    embedding.subarray(id * width, (id + 1) * width).some((value) => value !== 0),
  );
  assert.ok(
    [...(other ?? [])].some((id) => !own?.has(id)),
    "the documents differ in words",
  );
  assert.ok(moved.length > 10 && moved.every((id) => own?.has(id)), "words of the supervised document alone are moved");
});

test("dropout follows its seed, and evaluation has none", async () => {
  const engine = openEngine(tiny, loraSpec({ dropout: 0.5 }));
  await engine.setValues(adapterOf(tiny));
  const { batch } = batchesOf(tiny, engine);
  const own = await batch([0]);
  const [first, again, other] = [
    await sumsOf(engine, [own], 5),
    await sumsOf(engine, [own], 5),
    await sumsOf(engine, [own], 6),
  ];
  assert.deepEqual(again, first);
  assert.notEqual(other.lossSum, first.lossSum);
  assert.deepEqual(await engine.evaluateLoss(own), await lora.evaluateLoss(own));
  const mean = { lossSum: 0 };
  for (let seed = 0; seed < 40; seed++) mean.lossSum += (await sumsOf(engine, [own], seed)).lossSum / 40;
  const { lossSum } = await lora.evaluateLoss(own);
  assert.ok(Math.abs(mean.lossSum / lossSum - 1) < 0.05, `its mean ${mean.lossSum} is near ${lossSum}`);
});
