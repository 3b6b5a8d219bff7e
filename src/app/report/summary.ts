/** What an output folder comes to: scores of each stage, changes between them, and how sure they are. */
import { type Metrics, mean, metricsOf } from "../../eval/grounding.ts";
import { bootstrapMean, type Estimate } from "../../utils/statistics.ts";
import { type Comparison, compare } from "./compare.ts";
import type { Case, Found, Stage, StageName } from "./stages.ts";

export const DRAWS = 10_000;

/** Scores of one stage; `macro` is the mean over users, the headline. */
export interface StageScores {
  readonly name: StageName;
  readonly users: ReadonlyMap<number, Metrics>;
  readonly macro: Metrics;
  readonly micro: Metrics;
  readonly accuracy: Estimate;
}

export interface ReportSummary {
  readonly stages: readonly StageScores[];
  /** Each stage against each earlier one. */
  readonly comparisons: readonly Comparison[];
  readonly seed: number;
  readonly notes: readonly string[];
}

export function summaryOf({ stages, notes }: Found, seed: number): ReportSummary {
  const options = { draws: DRAWS, seed };
  const pairs = stages.flatMap((to, i) => stages.slice(0, i).map((from) => [from, to] as const));
  const comparisons = pairs.map(([from, to]) => compare(from, to, options)).filter((one) => one !== null);
  return {
    stages: stages.map((stage) => scoresOf(stage, seed)),
    comparisons,
    seed,
    notes: [...notes, ...pairs.flatMap(([from, to]) => uneven(from, to, comparisons))],
  };
}

const scored = ({ answer }: Case) => ({ predicted: answer.pred_coord, truth: answer.gt_coord });

function scoresOf({ name, users }: Stage, seed: number): StageScores {
  const groups = [...users.values()];
  const perUser = new Map([...users].map(([user, cases]) => [user, metricsOf(cases.map(scored))]));
  const micro = metricsOf(groups.flat().map(scored));
  const over = (of: (metrics: Metrics) => number | null): number | null => {
    const known = [...perUser.values()].map(of).filter((value) => value !== null);
    return known.length === 0 ? null : mean(known);
  };
  const accuracy = bootstrapMean(
    groups.map((cases) => cases.map(({ isHit }) => Number(isHit))),
    { draws: DRAWS, seed },
  );
  const { n, failures } = micro;
  const macro = { accuracy: accuracy.value, mean_l2: over((m) => m.mean_l2), median_l2: over((m) => m.median_l2) };
  return { name, users: perUser, macro: { ...macro, n, failures }, micro, accuracy };
}

/** Says so where two stages did not answer the same samples. */
function uneven(from: Stage, to: Stage, comparisons: readonly Comparison[]): string[] {
  const found = comparisons.find((one) => one.from === from.name && one.to === to.name);
  const size = ({ users }: Stage): number => [...users.values()].reduce((sum, cases) => sum + cases.length, 0);
  const compared = found?.macro.n ?? 0;
  if (compared === size(from) && compared === size(to)) return [];
  return [
    `${from.name} and ${to.name} did not answer the same samples (${size(from)} and ${size(to)}): compared are the ${compared} of ${found?.users.size ?? 0} users that both answered`,
  ];
}

/** The summary as JSON; names as in the other result files. */
export function summaryJson({ stages, comparisons, seed, notes }: ReportSummary): object {
  return {
    stages: Object.fromEntries(
      stages.map(({ name, users, macro, micro, accuracy }) => [
        name,
        { users: Object.fromEntries(users), macro, macro_accuracy_interval: [accuracy.low, accuracy.high], micro },
      ]),
    ),
    comparisons: comparisons.map(comparisonJson),
    method: {
      interval:
        "95 % percentile bootstrap: users drawn with replacement, then samples within each; one user: samples alone",
      draws: DRAWS,
      seed,
      permutation: "two-sided sign-flip test of the users' accuracy differences",
      mcnemar: "exact two-sided McNemar test of all clicks together, taken as independent",
      hit_distance: "140 thousandths of the screen's sides, itself included",
    },
    notes,
  };
}

function comparisonJson({ from, to, users, macro, permutation, mcnemar }: Comparison): object {
  const change = ({ n, before, after, accuracy, meanL2 }: Comparison["macro"]): object => ({
    n,
    accuracy_before: before,
    accuracy_after: after,
    accuracy_change: accuracy.value,
    accuracy_interval: [accuracy.low, accuracy.high],
    mean_l2_change: meanL2?.value ?? null,
    mean_l2_interval: meanL2 && [meanL2.low, meanL2.high],
  });
  return {
    from,
    to,
    macro: change(macro),
    users: Object.fromEntries([...users].map(([user, one]) => [user, change(one)])),
    permutation: { p: permutation.p, patterns: permutation.patterns, exact: permutation.isExact },
    mcnemar,
  };
}
