// What a run tells: metrics.jsonl and TensorBoard's events, from its beginning, after a resume, and where it cannot write.
import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { newRunName, summariesOf } from "../../src/train/journal/eventFile.ts";
import { stepFigures, trainedFigures } from "../../src/train/journal/figures.ts";
import { type Journal, type JournalOptions, openJournal } from "../../src/train/journal/journal.ts";
import type { JsonObject } from "../../src/utils/json.ts";
import { eventsIn, type ReadEvent } from "../utils/eventReader.ts";
import { newFolder, scratchFolder } from "./folders.ts";

const scratch = scratchFolder("journal");
const LOSSES = [2.5, 2.25, 2, 1.75, 1.5];
const rowAt = (step: number): JsonObject => ({ step, epoch: step / 5, learning_rate: 1e-3, loss: LOSSES[step - 1] });
const EVALUATION = { step: 2, epoch: 0.4, eval_loss: 3.5, eval_accuracy: 0.25 };
const HISTORY = [rowAt(1), rowAt(2), EVALUATION, rowAt(3), rowAt(4), rowAt(5)];

/** Seconds after a fixed moment, one more at each look. */
function clockFrom(second: number): () => Date {
  let passed = second;
  return () => new Date(2026, 0, 31, 9, 5, passed++);
}

function opened(runDir: string, known: Partial<JournalOptions> = {}): Journal {
  return openJournal({ runDir, reportTo: "tensorboard", history: [], step: 0, now: clockFrom(7), ...known });
}

/** A run of five steps, broken off. */
function begun(name: string, known: Partial<JournalOptions> = {}): string {
  const runDir = newFolder(scratch, name);
  const journal = opened(runDir, known);
  journal.show(0, [{ kind: "text", tag: "args", text: "{}" }]);
  for (const row of HISTORY) journal.note(row, { step_seconds: 0.5 });
  assert.deepEqual(journal.faults(), []);
  return runDir;
}

const rowsIn = (runDir: string): JsonObject[] =>
  readFileSync(join(runDir, "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
const withoutTime = ({ time, run, ...row }: JsonObject): JsonObject => row;
const runsIn = (runDir: string): string[] => readdirSync(join(runDir, "runs")).sort();
const onlyRun = (runDir: string): ReadEvent[][] => {
  const [run = "", ...others] = runsIn(runDir);
  assert.deepEqual(others, []);
  return eventsIn(join(runDir, "runs", run));
};

/** What TensorBoard shows of a curve: what files say of the steps at and after a later file's restart is gone. */
function curveOf(files: readonly ReadEvent[][], tag: string): [number, unknown][] {
  let points: [number, unknown][] = [];
  for (const event of files.flat()) {
    if (event.isRestart) points = points.filter(([step]) => step < event.step);
    if (tag in event.values) points.push([event.step, event.values[tag]]);
  }
  return points;
}

test("a run from its beginning: a line for each row, with its time; the same as scalars by transformers' names", () => {
  const runDir = begun("new");
  const rows = rowsIn(runDir);
  assert.deepEqual(
    rows.map(withoutTime),
    HISTORY.map((row) => ({ ...row, step_seconds: 0.5 })),
  );
  assert.deepEqual([...new Set(rows.map(({ run }) => run))], runsIn(runDir));
  assert.match(String(rows[0]?.run), /^Jan31_09-05-\d\d_\S+$/);
  assert.ok(rows.every(({ time }) => /^2026-01-\d\dT\d\d:05:\d\d\.000Z$/.test(String(time))));
  const files = onlyRun(runDir);
  assert.equal(files.length, 1);
  assert.equal(files[0]?.[0]?.version, "brain.Event:2");
  assert.ok(!files.flat().some(({ isRestart }) => isRestart));
  assert.deepEqual(
    curveOf(files, "train/loss"),
    LOSSES.map((loss, i) => [i + 1, loss]),
  );
  assert.deepEqual(curveOf(files, "eval/loss"), [[2, 3.5]]);
  assert.deepEqual(curveOf(files, "args/text_summary"), [[0, "{}"]]);
  const [last] = files.flat().slice(-1);
  assert.deepEqual(Object.keys(last?.values ?? {}), [
    ...["train/epoch", "train/learning_rate", "train/loss", "train/step_seconds"],
  ]);
});

test("resumed after step 3: later rows are cut, the folder gets a second file that counts from step 4", () => {
  const runDir = begun("resumed");
  const before = rowsIn(runDir);
  appendFileSync(join(runDir, "metrics.jsonl"), '{"step":6,"los'); // killed while it wrote
  const journal = opened(runDir, { history: HISTORY.slice(0, 4), step: 3, now: clockFrom(40) });
  assert.equal(journal.isNew, false);
  journal.note({ ...rowAt(4), loss: 1.7 }, {});
  assert.deepEqual(rowsIn(runDir).slice(0, 4), before.slice(0, 4), "with the times that they had");
  assert.deepEqual(rowsIn(runDir).slice(4).map(withoutTime), [{ ...rowAt(4), loss: 1.7 }]);
  const files = onlyRun(runDir);
  assert.equal(files.length, 2);
  assert.deepEqual([files[1]?.[1]?.isRestart, files[1]?.[1]?.step], [true, 4]);
  const curve = curveOf(files, "train/loss");
  assert.deepEqual(
    curve.map(([step]) => step),
    [1, 2, 3, 4],
  );
  assert.equal(Math.fround(1.7), curve[3]?.[1]);
});

test("what the folder tells of another run is not taken for this one's: its history is told anew", () => {
  const runDir = begun("other");
  const history = HISTORY.slice(0, 2).map((row) => ({ ...row, loss: 7 }));
  const journal = opened(runDir, { history, step: 2, now: clockFrom(50) });
  assert.equal(journal.isNew, true);
  journal.note(rowAt(3), {});
  assert.deepEqual(rowsIn(runDir).slice(0, 2), history, "without times, which nobody knows");
  const [, own = ""] = runsIn(runDir);
  assert.deepEqual(curveOf(eventsIn(join(runDir, "runs", own)), "train/loss"), [
    [1, 7],
    [2, 7],
    [3, 2],
  ]);
});

test("where TensorBoard was not told, or its folder is gone, it is told all at the resume", () => {
  const runDir = begun("silent", { reportTo: "none" });
  assert.ok(!existsSync(join(runDir, "runs")));
  const written = Date.parse(String(rowsIn(runDir)[0]?.time)) / 1000;
  const journal = opened(runDir, { history: HISTORY.slice(0, 4), step: 3, now: clockFrom(50) });
  assert.equal(journal.isNew, true);
  journal.note(rowAt(4), {});
  const files = onlyRun(runDir);
  assert.deepEqual(
    curveOf(files, "train/loss").map(([step]) => step),
    [1, 2, 3, 4],
  );
  assert.equal(files.flat().find(({ step }) => step === 1)?.wallTime, written, "at the time when it was");
});

test("a new run in the folder of an earlier one: its rows replace the file at the first of them", () => {
  const runDir = begun("anew");
  const journal = opened(runDir, { now: clockFrom(7) });
  assert.equal(rowsIn(runDir).length, HISTORY.length);
  journal.note(rowAt(1), {});
  assert.deepEqual(rowsIn(runDir).map(withoutTime), [rowAt(1)]);
  const [first = "", second = ""] = runsIn(runDir);
  assert.equal(second, `${first}_2`, "started in the same second, they have two folders");
});

test("what cannot be written ends nothing, and is told once", () => {
  const runDir = newFolder(scratch, "blocked");
  writeFileSync(join(runDir, "runs"), "in the way");
  mkdirSync(join(runDir, "metrics.jsonl"));
  const journal = opened(runDir);
  for (const row of HISTORY) journal.note(row, {});
  const [metrics, events, ...others] = journal.faults();
  assert.match(metrics ?? "", /metrics\.jsonl: holds no more than what came before .*EISDIR|ENOTEMPTY/);
  assert.match(events ?? "", /runs\/Jan31\S+: holds no more than what came before .*(ENOTDIR|EEXIST)/);
  assert.deepEqual([others, journal.faults()], [[], []]);
  assert.deepEqual(readdirSync(runDir).sort(), ["metrics.jsonl", "runs"], "nothing half-written is left");
});

test("rows as scalars and texts: what is no number is text, marks are 1", () => {
  const row = {
    step: 3,
    epoch: 0.5,
    loss: 2,
    learning_rate_vision: 1e-4,
    loss_spike: true,
    eval_loss: 1,
    eval_runtime: 2,
  };
  assert.deepEqual(
    summariesOf({ ...row, skipped: "why", time: "now", run: "r" }).map((one) => [
      one.tag,
      one.kind === "scalar" ? one.value : one.kind === "text" ? one.text : null,
    ]),
    [
      ["train/epoch", 0.5],
      ["train/loss", 2],
      ["train/learning_rate_vision", 1e-4],
      ["train/loss_spike", 1],
      ["eval/loss", 1],
      ["eval/runtime", 2],
      ["train/skipped", "why"],
    ],
  );
});

test("figures of a step and of a run", () => {
  const {
    peak_memory_gb: peak,
    memory_gb: now,
    ...step
  } = stepFigures({
    ...{ step: 1, epoch: 0.1, fault: null, loss: 2, gradNorm: 0.5, learningRate: 1e-3, otherRates: {} },
    ...{ tokens: 100, supervisedTokens: 8, ids: ["a", "b"], elapsedMs: 250, waitShare: 0.25 },
  });
  assert.deepEqual(step, {
    ...{ trained_tokens: 8, step_seconds: 0.25, tokens_per_second: 400, trained_tokens_per_second: 32 },
    ...{ samples_per_second: 8, data_wait: 0.25 },
  });
  assert.ok(Number(peak) >= Number(now) * 0.99 && Number(now) > 0.01 && Number(peak) < 100, `${now} of ${peak} GB`);
  const {
    peak_memory_gb: _,
    memory_gb: __,
    ...run
  } = trainedFigures({ elapsedMs: 2000, steps: 4, samples: 12 }, HISTORY);
  assert.deepEqual(run, { train_runtime: 2, train_samples_per_second: 6, train_steps_per_second: 2, train_loss: 2 });
});

test("names of runs are as transformers makes them", () => {
  assert.match(newRunName(newFolder(scratch, "names"), new Date(2026, 10, 3, 4, 5, 6)), /^Nov03_04-05-06_\S+$/);
});
