/** A user's samples cut into folds: each is held out once while the others are learnt from. */
import { UserError } from "../utils/errors.ts";
import { pythonShuffled } from "../utils/mersenne.ts";
import type { Example } from "./example.ts";
import { groupsOf } from "./holdOut.ts";

/** What a fold is made of: whole episodes, or steps wherever they belong. */
export type FoldBy = "episode" | "step";

export interface FoldOptions {
  readonly by: FoldBy;
  /** At least 2. */
  readonly folds: number;
  readonly seed: number;
}

export interface Fold {
  readonly train: readonly Example[];
  readonly heldOut: readonly Example[];
}

/**
 * Samples in shuffled order, cut as the per-user task cuts them with `by` "step": n / K each, rounded down, the last fold
 * takes the rest; episodes then stand on both sides. With "episode", episodes (and what equals one of their steps) stay
 * whole: the longest first, each goes to the fold that has the fewest steps.
 * @param examples of one user
 * @returns fold K holds out part K; parts together are all samples, each once
 * @throws UserError where there are fewer parts than folds, or a sample names no episode
 */
export async function foldsOf(examples: readonly Example[], options: FoldOptions): Promise<readonly Fold[]> {
  const parts = options.by === "step" ? cutSteps(examples, options) : await dealEpisodes(examples, options);
  return parts.map((heldOut, k) => ({ heldOut, train: parts.filter((_, other) => other !== k).flat() }));
}

function cutSteps(examples: readonly Example[], { folds, seed }: FoldOptions): Example[][] {
  refuseFew(examples, "samples", examples.length, folds);
  const shuffled = pythonShuffled(examples, seed);
  const size = Math.floor(examples.length / folds);
  return Array.from({ length: folds }, (_, k) =>
    shuffled.slice(k * size, k === folds - 1 ? undefined : (k + 1) * size),
  );
}

async function dealEpisodes(examples: readonly Example[], { folds, seed }: FoldOptions): Promise<Example[][]> {
  const nameless = examples.find(({ episode = "" }) => episode.trim() === "");
  if (nameless)
    throw new UserError(
      `--fold-by episode: ${nameless.id} names no episode, so steps of one could be learnt and asked; add "episode" to the data, or cut by single steps with --fold-by step`,
    );
  const episodes = await groupsOf(examples);
  refuseFew(examples, "episodes", episodes.length, folds);
  const longestFirst = pythonShuffled(episodes, seed).sort((a, b) => b.members.length - a.members.length);
  const parts: Example[][] = Array.from({ length: folds }, () => []);
  for (const { members } of longestFirst) fewest(parts).push(...members);
  return parts;
}

/** The first of those with the fewest. */
const fewest = (parts: readonly Example[][]): Example[] =>
  parts.reduce((least, part) => (part.length < least.length ? part : least));

function refuseFew(examples: readonly Example[], what: string, count: number, folds: number): void {
  if (count >= folds) return;
  const user = examples[0]?.user ?? null;
  throw new UserError(
    `--folds ${folds}: ${user === null ? "the data have" : `user ${user} has`} ${count} ${what}, and each fold needs one; ask for fewer folds, or leave the user out`,
  );
}
