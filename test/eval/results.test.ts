import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import type { Point } from "../../src/eval/grounding.ts";
import { type Answer, formatSummary, openRun, readAnswers, type Truth, userDir } from "../../src/eval/results.ts";

const scratch = mkdtempSync(join(tmpdir(), "results-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(scratch, "run-"));
});

// the published example: accuracy 0.5, mean 205.967832, median 140.710678
const PREDICTED: Point[] = [[311, 541], [0, 0], [500, 500], [100, 240]]; // biome-ignore format: one line
const TRUTH: Point[] = [[300, 500], [300, 400], [400, 400], [100, 100]]; // biome-ignore format: one line
const truths: Truth[] = TRUTH.map((gt_coord, i) => ({ gt_coord, gt_content: `element ${i} "ä"` }));
const answerOf = (i: number, predicted: Point | null = PREDICTED[i] ?? [0, 0]): Answer => ({
  pred_raw: `\`\`\`grounding\n[${predicted}]\n\`\`\``,
  gt_coord: [...(TRUTH[i] ?? [0, 0])],
  pred_coord: predicted && [...predicted],
  gt_content: truths[i]?.gt_content ?? "",
  pred_content: "None",
});
const IDENTITY = { model: "m", adapter: null, weights: "abc" };
const read = (name: string, user = 1): string => readFileSync(join(userDir(dir, user), name), "utf8");

/** Answers one user whole, from where the book stands. */
async function evaluateUser(user: number, identity: object = IDENTITY): Promise<number> {
  const run = await openRun(dir, identity, 0);
  const book = await run.openUser(user, truths);
  const kept = book.answers.length;
  for (let i = kept; i < truths.length; i++) await book.add(answerOf(i));
  await book.finish();
  return kept;
}

test("a user's folder holds the answers and the scores", async () => {
  await evaluateUser(1);
  assert.deepEqual(readdirSync(userDir(dir, 1)).sort(), ["evaluation.json", "metrics.json", "out.json", "results.txt"]);
  const rows: object[] = JSON.parse(read("out.json"));
  assert.deepEqual(
    rows,
    [0, 1, 2, 3].map((i) => answerOf(i)),
  );
  assert.deepEqual(Object.keys(rows[0] ?? {}), ["pred_raw", "gt_coord", "pred_coord", "gt_content", "pred_content"]);
  const metrics = JSON.parse(read("metrics.json"));
  assert.deepEqual(Object.keys(metrics), ["accuracy", "mean_l2", "median_l2", "n", "failures"]);
  assert.deepEqual([metrics.accuracy, metrics.n, metrics.failures], [0.5, 4, 0]);
  assert.deepEqual([metrics.mean_l2.toFixed(6), metrics.median_l2.toFixed(6)], ["205.967832", "140.710678"]);
  assert.match(read("results.txt"), /^\{'accuracy': 0\.5, 'mean_l2': 205\.967831\d+, 'median_l2': 140\.710678\d+\}$/);
});

test("whole numbers in results.txt look as Python writes them", async () => {
  const run = await openRun(dir, IDENTITY);
  const book = await run.openUser(1, truths.slice(3));
  await book.add(answerOf(3));
  await book.finish();
  assert.equal(read("results.txt"), "{'accuracy': 1.0, 'mean_l2': 140.0, 'median_l2': 140.0}");
});

test("out.json is rewritten as answers come, and always whole", async () => {
  const book = await (await openRun(dir, IDENTITY, 0)).openUser(1, truths);
  assert.ok(!existsSync(join(userDir(dir, 1), "out.json")));
  for (let i = 0; i < 4; i++) {
    await book.add(answerOf(i));
    assert.equal((await readAnswers(userDir(dir, 1))).length, i + 1);
  }
  assert.ok(!existsSync(join(userDir(dir, 1), "metrics.json")), "scores only at the end");
});

test("an interrupted evaluation goes on, and ends with the same files as an uninterrupted one", async () => {
  await evaluateUser(1);
  const names = ["out.json", "results.txt", "metrics.json", "evaluation.json"];
  const uninterrupted = names.map((name) => read(name));
  for (const answered of [0, 1, 3, 4]) {
    dir = mkdtempSync(join(scratch, "cut-"));
    const book = await (await openRun(dir, IDENTITY, 0)).openUser(1, truths);
    for (let i = 0; i < answered; i++) await book.add(answerOf(i));
    assert.equal(await evaluateUser(1), answered);
    assert.deepEqual(
      names.map((name) => read(name)),
      uninterrupted,
    );
  }
});

test("answers of another model, of other samples, or of a finished run are not taken over", async () => {
  await evaluateUser(1);
  assert.equal(await evaluateUser(1, { ...IDENTITY, weights: "def" }), 0);
  assert.equal(await evaluateUser(1, { ...IDENTITY, weights: "def" }), 4);
  const run = await openRun(dir, { ...IDENTITY, weights: "def" });
  const other = truths.map((truth) => ({ ...truth, gt_content: "another element" }));
  assert.equal((await run.openUser(1, other)).answers.length, 0);
  assert.deepEqual(readdirSync(userDir(dir, 1)), ["evaluation.json"], "old scores do not stay beside new answers");

  dir = mkdtempSync(join(scratch, "finished-"));
  const whole = await openRun(dir, IDENTITY);
  const book = await whole.openUser(1, truths);
  await book.add(answerOf(0));
  await book.finish();
  await whole.finish();
  assert.equal((await (await openRun(dir, IDENTITY)).openUser(1, truths)).answers.length, 0);
  assert.ok(!existsSync(join(dir, "summary.json")), "no summary beside an unfinished run");
});

test("folders of users that a run does not touch stay", async () => {
  await evaluateUser(7);
  await evaluateUser(8, { other: true });
  assert.equal(JSON.parse(read("metrics.json", 7)).n, 4);
});

test("summary: per user, macro over users, micro over answers", async () => {
  const run = await openRun(dir, IDENTITY);
  for (const [user, samples] of [
    [10, [0, 1, 2]],
    [2, [3]],
  ] as const) {
    // biome-ignore format: one line
    const book = await run.openUser(user, samples.map((i) => truths[i] ?? { gt_coord: [0, 0], gt_content: "" })); // biome-ignore format: one line
    for (const i of samples) await book.add(answerOf(i));
    await book.finish();
  }
  const summary = await run.finish();
  assert.deepEqual(JSON.parse(readFileSync(join(dir, "summary.json"), "utf8")), summary);
  assert.deepEqual(Object.keys(summary.users), ["2", "10"]);
  const distances = [Math.sqrt(11 ** 2 + 41 ** 2), 500, Math.sqrt(20000)] as const;
  const meanOfTen = (distances[0] + distances[1] + distances[2]) / 3;
  assert.deepEqual(summary.users["2"], { accuracy: 1, mean_l2: 140, median_l2: 140, n: 1, failures: 0 });
  const { macro, micro } = summary;
  assert.ok(Math.abs(macro.accuracy - (1 / 3 + 1) / 2) < 1e-12);
  assert.ok(Math.abs((macro.mean_l2 ?? 0) - (meanOfTen + 140) / 2) < 1e-9);
  assert.ok(Math.abs((macro.median_l2 ?? 0) - (distances[2] + 140) / 2) < 1e-9);
  assert.deepEqual([macro.n, micro.n, micro.accuracy], [4, 4, 0.5]);
  assert.equal(micro.mean_l2?.toFixed(6), "205.967832");
  assert.equal(micro.median_l2?.toFixed(6), "140.710678");
  assert.equal(
    formatSummary(summary),
    [
      "┌───────────────┬───┬──────────┬─────────┬───────────┐",
      "│ user          │ n │ accuracy │ mean L2 │ median L2 │",
      "├───────────────┼───┼──────────┼─────────┼───────────┤",
      "│ 2             │ 1 │ 100.00 % │   140.0 │     140.0 │",
      "│ 10            │ 3 │  33.33 % │   228.0 │     141.4 │",
      "├───────────────┼───┼──────────┼─────────┼───────────┤",
      "│ macro average │ 4 │  66.67 % │   184.0 │     140.7 │",
      "│ all answers   │ 4 │  50.00 % │   206.0 │     140.7 │",
      "└───────────────┴───┴──────────┴─────────┴───────────┘",
    ].join("\n"),
  );
});

test("answers that cannot be read: counted apart, null in the files, a column in the table", async () => {
  const run = await openRun(dir, IDENTITY);
  const book = await run.openUser(1, truths.slice(0, 1));
  await book.add(answerOf(0, null));
  await book.finish();
  assert.equal(read("results.txt"), "{'accuracy': 0.0, 'mean_l2': None, 'median_l2': None}");
  const summary = await run.finish();
  assert.deepEqual(summary.macro, { accuracy: 0, mean_l2: null, median_l2: null, n: 1, failures: 1 });
  assert.match(formatSummary(summary), /median L2 │ unread │\n.*\n│ 1 .* 0\.00 % │ +- │ +- │ +1 │/);
});

test("damaged files and folders are named", async () => {
  const folder = userDir(dir, 1);
  assert.deepEqual(await readAnswers(folder), []);
  mkdirSync(folder);
  writeFileSync(join(folder, "out.json"), '[{"pred_raw": 3}]');
  await assert.rejects(
    readAnswers(folder),
    /user_1.out\.json: not a list of answers \(row 0\.pred_raw: .*\); move it away/,
  );
  writeFileSync(join(folder, "out.json"), "[");
  await assert.rejects(readAnswers(folder), /out\.json: not a list of answers \(.*JSON/);
  writeFileSync(join(dir, "user_2"), "a file");
  await assert.rejects(
    (await openRun(dir, IDENTITY)).openUser(2, truths),
    /^UserError: .*user_2.*: cannot be made|read/,
  );
});
