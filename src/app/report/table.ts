/** The printed report, and the texts of numbers that the page shares with it. */
import { count } from "../../utils/count.ts";
import type { Estimate } from "../../utils/statistics.ts";
import { type Column, formatTable } from "../../utils/table.ts";
import type { Change, Comparison } from "./compare.ts";
import { DRAWS, type ReportSummary, type StageScores } from "./summary.ts";

export const percent = (share: number, digits = 1): string => `${(100 * share).toFixed(digits)} %`;
export const units = (distance: number | null): string => distance?.toFixed(1) ?? "-";
/** "+12.3" */
export const signed = (value: number): string => `${value < 0 ? "-" : "+"}${Math.abs(value).toFixed(1)}`;

/** "+12.3 [+8.0, +16.5]" */
const withInterval = ({ value, low, high }: Estimate, scale: number): string =>
  `${signed(scale * value)} [${signed(scale * low)}, ${signed(scale * high)}]`;

export const pointsChange = (estimate: Estimate): string => withInterval(estimate, 100);
export const distanceChange = (estimate: Estimate | null): string =>
  estimate === null ? "-" : withInterval(estimate, 1);

/** 0.002, or < 0.001 */
export const pText = (p: number): string => (p < 0.001 ? "< 0.001" : p.toFixed(3));

export const nameOf = ({ from, to }: Comparison): string => `${from} -> ${to}`;

/** A table's head and rows, for text and page alike; null is a rule. */
export interface Rows {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly string[] | null)[];
}

const columns = (first: string, ...rest: readonly string[]): Column[] => [
  { name: first, align: "left" },
  ...rest.map((name) => ({ name, align: "right" as const })),
];

/** Accuracy of each user at each stage, and the change against the first stage. */
export function userTable({ stages, comparisons }: ReportSummary): Rows {
  const [first] = stages;
  const against = comparisons.filter(({ from }) => from === first?.name);
  const users = [...new Set(stages.flatMap((stage) => [...stage.users.keys()]))].sort((a, b) => a - b);
  const row = (name: string, n: number, of: (stage: StageScores) => number | undefined, change: ChangeOf): string[] => [
    name,
    count(n),
    ...stages.map((stage) => optional(of(stage), percent)),
    ...against.map((comparison) => optional(change(comparison)?.accuracy, pointsChange)),
  ];
  const most = (of: (stage: StageScores) => number | undefined): number => Math.max(...stages.map((s) => of(s) ?? 0));
  return {
    columns: columns(
      "user",
      "n",
      ...stages.map(({ name }) => name),
      ...against.map(({ to }) => `${to} - ${first?.name}, points [95 %]`),
    ),
    rows: [
      ...users.map((user) =>
        row(
          String(user),
          most((stage) => stage.users.get(user)?.n),
          (stage) => stage.users.get(user)?.accuracy,
          (comparison) => comparison.users.get(user),
        ),
      ),
      null,
      row(
        "macro average",
        most((stage) => stage.macro.n),
        (stage) => stage.macro.accuracy,
        (comparison) => comparison.macro,
      ),
    ],
  };
}

type ChangeOf = (comparison: Comparison) => Change | undefined;

const optional = <T>(value: T | undefined, text: (value: T) => string): string =>
  value === undefined ? "-" : text(value);

/** Macro averages of each stage, and all its answers together. */
export function stageTable({ stages }: ReportSummary): Rows {
  const hasFailures = stages.some(({ micro }) => micro.failures > 0);
  return {
    columns: columns(
      "stage",
      ...["users", "n", "accuracy [95 %]", "mean L2", "median L2", "all answers"],
      ...(hasFailures ? ["unread"] : []),
    ),
    rows: stages.map(({ name, users, macro, micro, accuracy }) => [
      name,
      count(users.size),
      count(micro.n),
      `${percent(macro.accuracy)} [${percent(accuracy.low)}, ${percent(accuracy.high)}]`,
      units(macro.mean_l2),
      units(macro.median_l2),
      percent(micro.accuracy),
      ...(hasFailures ? [count(micro.failures)] : []),
    ]),
  };
}

/** Changes of the macro averages, and the tests. */
export function comparisonTable({ comparisons }: ReportSummary): Rows {
  return {
    columns: columns(
      "change",
      ...["n", "accuracy, points [95 %]", "mean L2 [95 %]", "permutation p", "gained", "lost", "McNemar p"],
    ),
    rows: comparisons.map((comparison) => {
      const { macro, permutation, mcnemar } = comparison;
      return [
        nameOf(comparison),
        count(macro.n),
        pointsChange(macro.accuracy),
        distanceChange(macro.meanL2),
        pText(permutation.p),
        ...[mcnemar.gained, mcnemar.lost].map(count),
        pText(mcnemar.p),
      ];
    }),
  };
}

export function methodLines({ comparisons, seed }: ReportSummary): string[] {
  const users = Math.max(0, ...comparisons.map((comparison) => comparison.users.size));
  const isExact = comparisons.every(({ permutation }) => permutation.isExact);
  return [
    "A click counts where it lies within 140 thousandths of the screen's sides of the true point (L2, in the same units).",
    "Macro averages weigh every user the same; a personal agent is scored only on samples that it was not trained on.",
    `Intervals: 95 % percentile bootstrap, ${count(DRAWS)} draws, seed ${seed}: users with replacement, then samples within each (of one user: samples alone).`,
    "Where all clicks agree (0 % or 100 %), so do the draws: an interval without width says nothing.",
    `Permutation p: two-sided sign flips of the users' differences, ${isExact ? "all patterns" : "patterns drawn"}${isExact && users > 0 ? ` (the least p possible with ${users} users is ${pText(Math.min(1, 2 / 2 ** users))})` : ""}.`,
    "McNemar p: exact, over the clicks of all users together, taken as independent: users are not, so trust the permutation test first.",
    "Training is one run with one seed: the intervals tell how the score would vary with other users and samples, not with other seeds.",
  ];
}

export function reportText(summary: ReportSummary): string {
  const text = ({ columns, rows }: Rows): string => formatTable(columns, rows);
  const { stages, comparisons, notes } = summary;
  return [
    ...(stages.length > 0 ? [text(userTable(summary)), text(stageTable(summary))] : []),
    ...(comparisons.length > 0 ? [text(comparisonTable(summary)), methodLines(summary).join("\n")] : []),
    ...notes.map((note) => `note: ${note}`),
  ].join("\n");
}
