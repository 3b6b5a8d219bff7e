// Stages against each other: matched sample by sample, counted per user, and refused where they speak of different data.
import assert from "node:assert/strict";
import { test } from "node:test";
import { compare, pairsOf } from "../../../src/app/report/compare.ts";
import { galleryOf } from "../../../src/app/report/gallery.ts";
import type { Case, Stage, StageName } from "../../../src/app/report/stages.ts";
import { summaryJson, summaryOf } from "../../../src/app/report/summary.ts";
import { reportText } from "../../../src/app/report/table.ts";

interface Row {
  readonly id?: string;
  /** Distance along x; null: no point. */
  readonly off: number | null;
  readonly content?: string;
}

const caseOf = (user: number, { id, off, content = "icon" }: Row): Case => ({
  user,
  answer: { pred_raw: "", gt_coord: [100, 500], pred_coord: off === null ? null : [100 + off, 500], gt_content: content, pred_content: "x" },
  sample: id === undefined ? null : { id, command: `tap ${id}`, episode: null, screen: null },
  distance: off,
  isHit: off !== null && off <= 140,
}); // biome-ignore format: one row

const stageOf = (name: StageName, users: Readonly<Record<number, readonly Row[]>>): Stage => ({
  name,
  users: new Map(
    Object.entries(users).map(([user, rows]) => [Number(user), rows.map((row) => caseOf(Number(user), row))]),
  ),
});
const rows = (...off: (number | null)[]): Row[] => off.map((distance, i) => ({ id: `s${i}`, off: distance }));
const OPTIONS = { draws: 500, seed: 1 };

test("users weigh the same, whatever their number of samples; clicks are counted as gained and lost", () => {
  const before = stageOf("vanilla", { 1: rows(500, 500, 500, 0), 2: rows(500, 0) });
  const after = stageOf("personal", { 1: rows(0, 0, 140, 0), 2: rows(500, 141) });
  const { macro, users, mcnemar, permutation } = compare(before, after, OPTIONS) ?? assert.fail();
  assert.deepEqual([users.get(1)?.accuracy.value, users.get(2)?.accuracy.value], [0.75, -0.5]);
  assert.deepEqual([macro.n, macro.before, macro.after, macro.accuracy.value], [6, 0.375, 0.5, 0.125]);
  assert.deepEqual(mcnemar, { gained: 3, lost: 1, p: 0.625 }); // 2 * (1 + 4) / 16
  assert.deepEqual(permutation, { p: 1, patterns: 4, isExact: true });
  assert.equal(users.get(1)?.meanL2?.value, -340); // (-500 - 500 - 360 + 0) / 4
});

test("samples are matched by id, in any order; those of one side are left out and told", () => {
  const vanilla = stageOf("vanilla", { 1: rows(500, 0, 300), 2: rows(1) });
  const personal = stageOf("personal", { 1: [{ id: "s2", off: 7 }, { id: "s0", off: 5 }, { id: "other", off: 0 }], 3: rows(1) }); // biome-ignore format: one line
  const pairs = pairsOf(vanilla, personal);
  assert.deepEqual([...pairs.keys()], [1]);
  assert.deepEqual(pairs.get(1)?.map(({ before, after }) => [before.sample?.id, before.distance, after.distance]), [["s2", 300, 7], ["s0", 500, 5]]); // biome-ignore format: one line
  const { notes } = summaryOf({ stages: [vanilla, personal], notes: ["first"] }, 1);
  assert.deepEqual(notes, [
    "first",
    "vanilla and personal did not answer the same samples (4 and 4): compared are the 2 of 1 users that both answered",
  ]);
});

test("without lists of samples, answers are matched by what the data say, equal ones in their order", () => {
  const vanilla = stageOf("vanilla", { 1: [{ off: 500, content: "a" }, { off: 1, content: "b" }, { off: 2, content: "a" }] }); // biome-ignore format: one line
  const personal = stageOf("personal", { 1: [{ off: 10, content: "b" }, { off: 20, content: "a" }, { off: 30, content: "a" }, { off: 0, content: "a" }] }); // biome-ignore format: one line
  const pairs = pairsOf(vanilla, personal).get(1) ?? [];
  assert.deepEqual(pairs.map(({ before, after }) => [before.distance, after.distance]), [[1, 10], [500, 20], [2, 30]]); // biome-ignore format: one line
});

test("one sample with two truths is refused", () => {
  const vanilla = stageOf("vanilla", { 4: [{ id: "s0", off: 1, content: "gear" }] });
  const global = stageOf("global", { 4: [{ id: "s0", off: 1, content: "arrow" }] });
  assert.throws(
    () => compare(vanilla, global, OPTIONS),
    /^UserError: user 4, sample s0: one evaluation has 100,500 "gear" for its truth, another 100,500 "arrow"; they were made on different data: evaluate again$/,
  );
});

test("stages without a common user are not compared, and strict answers without a point count as misses", () => {
  const vanilla = stageOf("vanilla", { 1: rows(null, null), 2: rows(0) });
  const global = stageOf("global", { 1: rows(0, null) });
  assert.equal(compare(stageOf("vanilla", { 2: rows(0) }), global, OPTIONS), null);
  const { macro } = compare(vanilla, global, OPTIONS) ?? assert.fail();
  assert.deepEqual([macro.before, macro.after, macro.meanL2], [0, 0.5, null]);
  const summary = summaryOf({ stages: [vanilla, global], notes: [] }, 1);
  assert.deepEqual(summary.stages.map(({ macro }) => [macro.accuracy, macro.failures]), [[0.5, 2], [0.5, 1]]); // biome-ignore format: one line
  assert.match(reportText(summary), /unread/);
  JSON.stringify(
    summaryJson(summary),
    (_, value: unknown) => assert.ok(typeof value !== "number" || Number.isFinite(value)) ?? value,
  );
});

test("the table: users, averages, changes and tests", () => {
  const vanilla = stageOf("vanilla", { 2: rows(500, 0), 10: rows(500, 500) });
  const global = stageOf("global", { 2: rows(0, 0), 10: rows(0, 500) });
  const text = reportText(summaryOf({ stages: [vanilla, global], notes: ["personal: missing"] }, 42));
  assert.match(text, /│ user +│ n │ vanilla │ +global │ global - vanilla, points \[95 %\] │/);
  assert.match(text, /│ 2 +│ 2 │ +50\.0 % │ 100\.0 % │ +\+50\.0 \[\+0\.0, \+100\.0\] │/);
  assert.match(text, /│ 10 +│ 2 │ +0\.0 % │ +50\.0 % │/);
  assert.match(text, /│ macro average │ 4 │ +25\.0 % │ +75\.0 % │ +\+50\.0 \[/);
  assert.match(text, /│ vanilla -> global │ 4 │ .* │ +0\.500 │ +2 │ +0 │ +0\.500 │/);
  assert.match(text, /users with replacement, then samples within each/);
  assert.match(text, /the least p possible with 2 users is 0\.500/);
  assert.ok(text.endsWith("note: personal: missing"));
});

test("the gallery: farthest of the last stage first, no point before all, then the largest gains", () => {
  const vanilla = stageOf("vanilla", { 1: rows(800, 700, 0, 900), 2: rows(300, 600) });
  const global = stageOf("global", { 1: rows(0, 10, 400, null), 2: rows(200, 100) });
  const { worst, gains, total, gained } = galleryOf([vanilla, global], 3);
  const named = (list: typeof worst) => list.map(({ last }) => `${last.user}/${last.sample?.id}`);
  assert.deepEqual(named(worst), ["1/s3", "1/s2", "2/s0"]);
  assert.deepEqual([named(gains), total, gained], [["1/s0"], 6, 3]);
  assert.deepEqual(named(galleryOf([vanilla, global], 9).gains), ["1/s0", "1/s1", "2/s1"]);
  assert.deepEqual(worst[0]?.answers.map(([stage, { distance }]) => [stage, distance]), [["vanilla", 900], ["global", null]]); // biome-ignore format: one line
  assert.deepEqual(named(galleryOf([vanilla], 1).gains), []);
  assert.deepEqual(galleryOf([], 5).worst, []);
});
