// The best evaluation and the patience with those after it, against transformers; spikes; the watchdog.
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { bestOf, evaluationsWithoutGain, hasEvaluation, type MetricName } from "../../src/train/best.ts";
import { medianOf, spikeOf } from "../../src/train/spikes.ts";
import { Watchdog } from "../../src/train/watchdog.ts";
import { randomFrom } from "../../src/utils/random.ts";
import { readJson } from "./folders.ts";

interface Case {
  readonly metric: MetricName;
  readonly patience: number;
  readonly threshold: number;
  readonly rows: readonly {
    readonly value: number;
    readonly best_metric: number;
    readonly best_global_step: number;
    readonly patience_counter: number;
    readonly stops: boolean;
  }[];
}

test("the best and the patience are those of transformers after every evaluation", () => {
  const cases: readonly Case[] = readJson("test/fixtures/train/best.json").cases;
  assert.ok(cases.some(({ rows }) => rows.some(({ stops }) => stops)) && cases.length === 9);
  for (const { metric, threshold, rows } of cases) {
    const history = rows.flatMap(({ value }, i) => [
      { step: 10 * (i + 1), loss: 1 }, // rows of steps stand between
      { step: 10 * (i + 1), [metric]: value },
    ]);
    rows.forEach((expected, i) => {
      const known = history.slice(0, 2 * (i + 1));
      assert.deepEqual(bestOf(known, metric), { metric: expected.best_metric, step: expected.best_global_step });
      assert.equal(evaluationsWithoutGain(known, metric, threshold), expected.patience_counter);
    });
  }
});

test("without an evaluation there is no best; one that is no number is none, and no gain", () => {
  assert.equal(bestOf([{ step: 1, loss: 2 }], "eval_loss"), null);
  assert.equal(evaluationsWithoutGain([{ step: 1, loss: 2 }], "eval_loss", 0), 0);
  const history = [null, 3, null, 3].map((value, i) => ({ step: i, eval_loss: value })); // JSON has null for NaN
  assert.deepEqual(bestOf(history, "eval_loss"), { metric: 3, step: 1 });
  assert.equal(evaluationsWithoutGain(history, "eval_loss", 0), 2);
  assert.equal(evaluationsWithoutGain(history.slice(0, 1), "eval_loss", 0), 1);
  assert.ok(hasEvaluation(history, 0) && !hasEvaluation(history, 9) && !hasEvaluation([{ step: 9, loss: 1 }], 9));
});

test("a spike is far out by the deviations of the losses before, which other spikes do not widen", () => {
  const random = randomFrom(1, "spikes");
  const noise = Array.from({ length: 60 }, () => 2 + 0.2 * random.normal());
  for (const [i, loss] of noise.entries()) assert.equal(spikeOf(noise.slice(0, i), loss), null, `loss ${i}`);
  const spiked = noise.map((loss, i) => (i % 10 === 9 ? 50 : loss));
  const { median = 0, sigma = 0 } = spikeOf(spiked, 4) ?? {};
  assert.ok(Math.abs(median - 2) < 0.1 && sigma > 0.15 && sigma < 0.3, `${median} ${sigma}`);
  assert.equal(spikeOf(noise.slice(0, 9), 100), null, "too few to tell");
  const flat = new Array<number>(20).fill(1);
  assert.deepEqual([spikeOf(flat, 1.09), spikeOf(flat, 1.11)], [null, { median: 1, sigma: 0 }]);
  const fallen = [...new Array<number>(50).fill(9), ...new Array<number>(50).fill(1)];
  assert.equal(spikeOf(fallen, 2)?.median, 1, "the last fifty count");
  assert.deepEqual([medianOf([3, 1, 2]), medianOf([4, 1, 3, 2]), medianOf([7])], [2, 2.5, 7]);
});

test("the watchdog tells of a step at ten times the median, once, and not of short waits", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const told: (readonly number[])[] = [];
    const watchdog = new Watchdog((...report) => told.push(report));
    const step = (number: number, took: number, median: number): void => {
      watchdog.begin(number);
      mock.timers.tick(took);
      watchdog.end(median);
    };
    for (const number of [1, 2, 3, 4, 5]) step(number, 60_000, 200); // nothing to compare the first with
    assert.deepEqual(told, []);
    step(6, 1_999, 200);
    assert.deepEqual(told, []);
    step(7, 60_000, 200);
    assert.deepEqual(told, [[7, 2_000, 200]]);
    watchdog.begin(8);
    watchdog.end(); // the run ends
    mock.timers.tick(60_000);
    assert.equal(told.length, 1);
    for (let number = 9; number < 70; number++) step(number, 10, 10);
    step(70, 999, 10);
    assert.equal(told.length, 1, "a second at the least");
    step(71, 1_000, 10);
    assert.deepEqual(told.slice(1), [[71, 1_000, 10]]);
  } finally {
    mock.timers.reset();
  }
});
