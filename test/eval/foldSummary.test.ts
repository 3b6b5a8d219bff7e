import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { formatPersonal, personalSummary, type UserFolds, userSummary } from "../../src/eval/foldSummary.ts";
import type { Scored } from "../../src/eval/grounding.ts";

type Numbers = Readonly<Record<string, number>>;
interface FixtureUser extends UserFolds {
  readonly n_folds: number;
  readonly pooled: Numbers;
}
const fixture: { users: readonly FixtureUser[]; macro_of_folds: Numbers; macro: Numbers; micro: Numbers } = JSON.parse(
  readFileSync("test/fixtures/eval/fold-summary.json", "utf8"),
);

const DOUBLE = 1e-12; // sums in another order than numpy's pairwise ones

/** Every field of `expected` stands in `got`, equal but for rounding. */
function assertNear(got: object, expected: Numbers, what: string): void {
  const values: Readonly<Record<string, unknown>> = { ...got };
  for (const [name, value] of Object.entries(expected))
    assert.ok(
      Math.abs(Number(values[name]) - value) <= DOUBLE * Math.max(1, value),
      `${what}: ${name} is ${values[name]}, numpy has ${value}`,
    );
}

const averagesOf = ({ user: _, folds: __, pooled: ___, ...numbers }: FixtureUser): Numbers =>
  ({ ...numbers }) as Numbers;

test("a user's means and population deviations are numpy's, folds of unequal size among them", () => {
  for (const user of fixture.users) {
    const summary = userSummary(user);
    assertNear(summary, averagesOf(user), `user ${user.user}`);
    assert.equal(Object.keys(averagesOf(user)).length, 7);
    assert.deepEqual(summary.folds.map(({ n }) => n), user.folds.map((fold) => fold.length)); // biome-ignore format: one line
  }
});

test("over users: each user alike, each answer alike, and each user's folds alike", () => {
  const summary = personalSummary(fixture.users);
  assertNear(summary.macro, fixture.macro, "macro");
  assertNear(summary.micro, fixture.micro, "micro");
  assertNear(summary.folds.macro, fixture.macro_of_folds, "macro of folds");
  assert.deepEqual(Object.keys(summary.users), ["2", "3", "10"]);
  for (const user of fixture.users) {
    assertNear(summary.users[user.user] ?? {}, user.pooled, `user ${user.user}, all folds`);
    assertNear(summary.folds.users[user.user] ?? {}, averagesOf(user), `user ${user.user}`);
  }
});

test("where strict parsing finds no point, distances are those of the folds that have one", () => {
  const lost: Scored = { predicted: null, truth: [5, 5] };
  const hit: Scored = { predicted: [5, 8], truth: [5, 5] };
  const one = userSummary({ user: 1, folds: [[lost], [hit, lost]] });
  assert.deepEqual(
    [one.avg_accuracy, one.std_accuracy, one.avg_mean_l2, one.std_mean_l2, one.avg_median_l2],
    [0.25, 0.25, 3, 0, 3],
  );
  const none = userSummary({ user: 1, folds: [[lost], [lost]] });
  assert.deepEqual([none.avg_accuracy, none.avg_mean_l2, none.std_median_l2], [0, null, null]);
  const table = formatPersonal(personalSummary([{ user: 1, folds: [[lost], [lost]] }]));
  assert.match(table, /│ 1 +│ 2 │ +2 │ +0\.00 % ± +0\.00 % │ +- ± +- │ +- ± +- │ +2 │/);
});

test("the table", () => {
  const table = [
    "┌───────────────┬────┬───────┬───────────────────┬────────────────┬────────────────┐",
    "│ user          │  n │ folds │          accuracy │        mean L2 │      median L2 │",
    "├───────────────┼────┼───────┼───────────────────┼────────────────┼────────────────┤",
    "│ 2             │ 40 │     5 │ 64.91 % ± 27.27 % │ 178.4 ±   99.2 │ 119.8 ±   89.7 │",
    "│ 3             │ 10 │     2 │ 83.33 % ± 16.67 % │ 152.1 ±   94.3 │  87.8 ±   27.7 │",
    "│ 10            │ 48 │     3 │ 54.17 % ±  5.89 % │ 206.6 ±   51.4 │ 122.0 ±   33.1 │",
    "├───────────────┼────┼───────┼───────────────────┼────────────────┼────────────────┤",
    "│ macro average │ 98 │       │           67.47 % │          179.0 │          109.9 │",
    "│ all answers   │ 98 │       │           60.20 % │          195.6 │          101.6 │",
    "└───────────────┴────┴───────┴───────────────────┴────────────────┴────────────────┘",
  ];
  assert.deepEqual(formatPersonal(personalSummary(fixture.users)).split("\n"), table);
});
