/** One stage against another, on the samples that both answered. */
import { isDeepStrictEqual } from "node:util";
import { UserError } from "../../utils/errors.ts";
import {
  type BootstrapOptions,
  bootstrapMean,
  type Estimate,
  mcnemarTest,
  type PermutationTest,
  signFlipTest,
} from "../../utils/statistics.ts";
import type { Case, Stage, StageName } from "./stages.ts";

/** A sample as two stages answered it. */
export interface Pair {
  readonly before: Case;
  readonly after: Case;
}

/** What changed on some pairs. Accuracies are shares, distances thousandths of the screen's sides. */
export interface Change {
  readonly n: number;
  readonly before: number;
  readonly after: number;
  readonly accuracy: Estimate;
  /** Over pairs in which both answers name a point; null where there is none. */
  readonly meanL2: Estimate | null;
}

export interface Comparison {
  readonly from: StageName;
  readonly to: StageName;
  readonly users: ReadonlyMap<number, Change>;
  /** Mean over users: each user counts the same. */
  readonly macro: Change;
  /** Whether the users' accuracies changed, by flipping the signs of their differences. */
  readonly permutation: PermutationTest;
  /** Clicks of all users together that became hits, and that became misses. */
  readonly mcnemar: { readonly gained: number; readonly lost: number; readonly p: number };
}

/** @returns null where no user has samples in both  @throws UserError where the two say different things of one sample */
export function compare(from: Stage, to: Stage, options: BootstrapOptions): Comparison | null {
  const pairs = pairsOf(from, to);
  if (pairs.size === 0) return null;
  const groups = [...pairs.values()];
  const gained = groups.flat().filter(({ before, after }) => after.isHit && !before.isHit).length;
  const lost = groups.flat().filter(({ before, after }) => before.isHit && !after.isHit).length;
  return {
    from: from.name,
    to: to.name,
    users: new Map([...pairs].map(([user, group]) => [user, changeOf([group], options)])),
    macro: changeOf(groups, options),
    permutation: signFlipTest(groups.map(meanHitChange), options.seed),
    mcnemar: { gained, lost, p: mcnemarTest(gained, lost) },
  };
}

const hitChange = ({ before, after }: Pair): number => Number(after.isHit) - Number(before.isHit);
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const meanHitChange = (pairs: readonly Pair[]): number => mean(pairs.map(hitChange));

function changeOf(groups: readonly (readonly Pair[])[], options: BootstrapOptions): Change {
  const distances = groups.map((pairs) => pairs.flatMap(distanceChange)).filter(({ length }) => length > 0);
  const accuracyOf = (side: keyof Pair): number =>
    mean(groups.map((pairs) => mean(pairs.map((pair) => Number(pair[side].isHit)))));
  return {
    n: groups.flat().length,
    before: accuracyOf("before"),
    after: accuracyOf("after"),
    accuracy: bootstrapMean(
      groups.map((pairs) => pairs.map(hitChange)),
      options,
    ),
    meanL2: distances.length === 0 ? null : bootstrapMean(distances, options),
  };
}

const distanceChange = ({ before, after }: Pair): number[] =>
  before.distance === null || after.distance === null ? [] : [after.distance - before.distance];

/** Pairs of each user that both stages have, ascending. */
export function pairsOf(from: Stage, to: Stage): ReadonlyMap<number, readonly Pair[]> {
  const users = [...from.users.keys()].filter((user) => to.users.has(user)).sort((a, b) => a - b);
  const pairs = users.map((user) => [user, pairsOfUser(from.users.get(user) ?? [], to.users.get(user) ?? [])] as const);
  return new Map(pairs.filter(([, found]) => found.length > 0));
}

function pairsOfUser(before: readonly Case[], after: readonly Case[]): Pair[] {
  const byId = [...before, ...after].every(({ sample }) => sample !== null);
  const key = byId ? ({ sample }: Case): string => sample?.id ?? "" : truthKeys();
  const known = new Map(before.map((one) => [key(one), one]));
  const keyAfter = byId ? key : truthKeys();
  return after.flatMap((one) => {
    const same = known.get(keyAfter(one));
    if (!same) return [];
    refuseOtherTruth(same, one);
    return [{ before: same, after: one }];
  });
}

/**
 * Without lists of samples, answers are matched by what the data say of them. Samples of equal truth are matched in their
 * order, which tells nothing where folds have mixed them; sums over them are right all the same.
 */
function truthKeys(): (one: Case) => string {
  const counts = new Map<string, number>();
  return ({ answer }) => {
    const truth = JSON.stringify([answer.gt_coord, answer.gt_content]);
    const nth = counts.get(truth) ?? 0;
    counts.set(truth, nth + 1);
    return `${truth} ${nth}`;
  };
}

function refuseOtherTruth({ answer: before, sample, user }: Case, { answer: after }: Case): void {
  if (before.gt_content === after.gt_content && isDeepStrictEqual(before.gt_coord, after.gt_coord)) return;
  throw new UserError(
    `user ${user}, sample ${sample?.id}: one evaluation has ${before.gt_coord} "${before.gt_content}" for its truth, another ` +
      `${after.gt_coord} "${after.gt_content}"; they were made on different data: evaluate again`,
  );
}
