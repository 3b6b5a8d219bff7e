/** Scores of personal agents: of each fold, their mean and spread by user, and over all users. */

import { formatTable } from "../utils/table.ts";
import { type Metrics, mean, metricsOf, type Scored } from "./grounding.ts";
import { type Summary, summaryOf } from "./results.ts";

const METRICS = ["accuracy", "mean_l2", "median_l2"] as const;
type MetricName = (typeof METRICS)[number];

type Averages = { readonly [name in MetricName as `avg_${name}`]: number | null };
type Deviations = { readonly [name in MetricName as `std_${name}`]: number | null };

/** user_N_summary.json. Distances are null where strict parsing found no point in any fold. */
export interface UserSummary extends Averages, Deviations {
  readonly user: number;
  readonly n_folds: number;
  /** Of each fold, in order. */
  readonly folds: readonly Metrics[];
}

/**
 * summary.json: every sample counted once, by the agent that was not trained on it, as other evaluations count; and the means
 * of the folds as `user_N_summary.json` has them.
 */
export interface PersonalSummary extends Summary {
  readonly folds: {
    readonly users: Readonly<Record<string, Omit<UserSummary, "user" | "folds">>>;
    /** Mean over users of each average. */
    readonly macro: Averages;
  };
}

/** Scored answers of one user, fold by fold. */
export interface UserFolds {
  readonly user: number;
  readonly folds: readonly (readonly Scored[])[];
}

/** Means over folds, each fold counting alike, and population deviations, as numpy's mean and std. */
export function userSummary({ user, folds }: UserFolds): UserSummary {
  const metrics = folds.map(metricsOf);
  const known = (name: MetricName): number[] => metrics.map((fold) => fold[name]).filter((value) => value !== null);
  return {
    user,
    n_folds: folds.length,
    avg_accuracy: meanOf(known("accuracy")),
    avg_mean_l2: meanOf(known("mean_l2")),
    avg_median_l2: meanOf(known("median_l2")),
    std_accuracy: deviationOf(known("accuracy")),
    std_mean_l2: deviationOf(known("mean_l2")),
    std_median_l2: deviationOf(known("median_l2")),
    folds: metrics,
  };
}

const meanOf = (values: readonly number[]): number | null => (values.length === 0 ? null : mean(values));

/** Divided by their number, not by one less. */
function deviationOf(values: readonly number[]): number | null {
  const centre = meanOf(values);
  return centre === null ? null : Math.sqrt(mean(values.map((value) => (value - centre) ** 2)));
}

export function personalSummary(users: readonly UserFolds[]): PersonalSummary {
  const pooled = users.map(
    ({ user, folds }) => [user, { metrics: metricsOf(folds.flat()), scored: folds.flat() }] as const,
  );
  const summaries = users.map(userSummary).sort((a, b) => a.user - b.user);
  const macroOf = (name: keyof Averages): number | null =>
    meanOf(summaries.map((one) => one[name]).filter((value) => value !== null));
  return {
    ...summaryOf(new Map(pooled)),
    folds: {
      users: Object.fromEntries(summaries.map(({ user, folds: _, ...rest }) => [String(user), rest])),
      macro: {
        avg_accuracy: macroOf("avg_accuracy"),
        avg_mean_l2: macroOf("avg_mean_l2"),
        avg_median_l2: macroOf("avg_median_l2"),
      },
    },
  };
}

/** The table at the end of a run: a row a user with means and deviations over folds, then the averages. */
export function formatPersonal({ users, micro, folds }: PersonalSummary): string {
  const hasFailures = micro.failures > 0;
  const columns = ["user", "n", "folds", "accuracy", "mean L2", "median L2", ...(hasFailures ? ["unread"] : [])];
  const spread = (average: string, deviation: string): string => `${average} ± ${deviation}`;
  const rows = Object.entries(folds.users).map(([user, one]) => [
    user,
    String(users[user]?.n),
    String(one.n_folds),
    spread(percent(one.avg_accuracy), percent(one.std_accuracy).padStart(7)),
    spread(units(one.avg_mean_l2), units(one.std_mean_l2).padStart(6)),
    spread(units(one.avg_median_l2), units(one.std_median_l2).padStart(6)),
    ...(hasFailures ? [String(users[user]?.failures)] : []),
  ]);
  const failures = hasFailures ? [String(micro.failures)] : [];
  const { avg_accuracy, avg_mean_l2, avg_median_l2 } = folds.macro;
  return formatTable(
    columns.map((name, i) => ({ name, align: i === 0 ? "left" : "right" })),
    [
      ...rows,
      null,
      [
        "macro average",
        String(micro.n),
        "",
        percent(avg_accuracy),
        units(avg_mean_l2),
        units(avg_median_l2),
        ...failures,
      ],
      [
        "all answers",
        String(micro.n),
        "",
        percent(micro.accuracy),
        units(micro.mean_l2),
        units(micro.median_l2),
        ...failures,
      ],
    ],
  );
}

const percent = (share: number | null): string => (share === null ? "-" : `${(share * 100).toFixed(2)} %`);
const units = (distance: number | null): string => distance?.toFixed(1) ?? "-";
