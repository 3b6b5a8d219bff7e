/** What a data set holds, counted: the numbers that the report and the page show. */
import type { Example } from "../../dataset.ts";
import { type Bin, binsOf } from "../../utils/histogram.ts";
import { SPLIT_NAMES, type SplitName } from "../splits.ts";
import { type SampleFacts, SPLIT_ORDER } from "./survey.ts";

export interface SplitCounts {
  readonly split: SplitName;
  readonly samples: number;
  /** Samples of each user, users in the order of their numbers; "-" stands for none. */
  readonly users: ReadonlyMap<string, number>;
  readonly pictures: number;
  readonly tokens: number;
  readonly imageTokens: number;
  readonly trained: number;
  readonly longest: number;
}

/** Samples of one outcome of the length limit. */
export interface Overlong {
  readonly split: SplitName;
  readonly outcome: Exclude<SampleFacts["outcome"], "whole">;
  readonly samples: number;
  readonly longest: SampleFacts;
}

export interface Summary {
  readonly splits: readonly SplitCounts[];
  readonly lengths: readonly Bin[];
  readonly imageTokens: readonly Bin[];
  readonly overlong: readonly Overlong[];
}

/** Samples that training takes, or would take if it were not refused. */
export const isTaken = ({ outcome }: SampleFacts): boolean => outcome !== "dropped" && outcome !== "emptied";

export function summaryOf(all: readonly SampleFacts[]): Summary {
  const used = all.filter(({ split }) => split !== "unused");
  const shown = used.length > 0 ? used : all;
  return {
    splits: SPLIT_ORDER.map((split) =>
      countsOf(
        split,
        all.filter((facts) => facts.split === split),
      ),
    ).filter(({ samples }) => samples > 0),
    lengths: binsOf(shown.map(({ wholeLength }) => wholeLength)),
    imageTokens: binsOf(shown.map(({ imageTokens }) => imageTokens)),
    overlong: overlongOf(all),
  };
}

const sum = (facts: readonly SampleFacts[], of: (one: SampleFacts) => number): number =>
  facts.reduce((total, one) => total + of(one), 0);

function countsOf(split: SplitName, facts: readonly SampleFacts[]): SplitCounts {
  const users = new Map<string, number>();
  for (const { user } of facts) users.set(user ?? "-", (users.get(user ?? "-") ?? 0) + 1);
  return {
    split,
    samples: facts.length,
    users: new Map([...users].sort(([a], [b]) => Number(a) - Number(b) || (a < b ? -1 : 1))),
    pictures: sum(facts, ({ pictures }) => pictures.length),
    tokens: sum(facts, ({ length }) => length),
    imageTokens: sum(facts, ({ imageTokens }) => imageTokens),
    trained: sum(facts, ({ trained }) => trained),
    longest: facts.reduce((longest, { wholeLength }) => Math.max(longest, wholeLength), 0),
  };
}

const OUTCOMES = ["refused", "dropped", "emptied", "shrunk", "cut"] as const;

function overlongOf(all: readonly SampleFacts[]): Overlong[] {
  return SPLIT_ORDER.flatMap((split) =>
    OUTCOMES.flatMap((outcome) => {
      const met = all.filter((facts) => facts.split === split && facts.outcome === outcome);
      const longest = met.reduce<SampleFacts | null>(
        (top, facts) => (top === null || facts.wholeLength > top.wholeLength ? facts : top),
        null,
      );
      return longest === null ? [] : [{ split, outcome, samples: met.length, longest }];
    }),
  );
}

/** "11-73: 48 each · 74: 12", neighbours with as many samples together. */
export function userRanges(users: ReadonlyMap<string, number>): string {
  const runs: { first: string; last: string; samples: number }[] = [];
  for (const [user, samples] of users) {
    const run = runs.at(-1);
    if (run && run.samples === samples && Number(run.last) + 1 === Number(user)) run.last = user;
    else runs.push({ first: user, last: user, samples });
  }
  return runs
    .map(({ first, last, samples }) => (first === last ? `${first}: ${samples}` : `${first}-${last}: ${samples} each`))
    .join(" · ");
}

/** Samples that are equal, as ids. */
export interface Duplicates {
  readonly groups: number;
  readonly samples: number;
  /** The first few groups. */
  readonly examples: readonly (readonly string[])[];
}

const GROUPS_SHOWN = 5;
const IDS_SHOWN = 4;

export function duplicatesOf(groups: readonly (readonly Example[])[]): Duplicates {
  const idsOf = (group: readonly Example[]): string[] => {
    const ids = group.slice(0, IDS_SHOWN).map(({ id }) => id);
    return group.length > IDS_SHOWN ? [...ids, `${group.length - IDS_SHOWN} more`] : ids;
  };
  return {
    groups: groups.length,
    samples: groups.reduce((total, { length }) => total + length, 0),
    examples: groups.slice(0, GROUPS_SHOWN).map(idsOf),
  };
}

export const splitName = (split: SplitName): string => SPLIT_NAMES[split];
