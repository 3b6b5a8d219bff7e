/** A share of the samples held out by a seed, so that what belongs together stays on one side. */
import { UserError } from "../utils/errors.ts";
import { hashOf } from "../utils/random.ts";
import type { Example } from "./example.ts";
import { sameSamples } from "./sameSamples.ts";

export interface Held {
  readonly kept: readonly Example[];
  readonly heldOut: readonly Example[];
}

/**
 * Holds out whole groups: the steps of an episode; where rows name no episode, the samples of a user; else each sample by
 * itself. Equal samples are never parted. Which groups go follows from the seed and their names alone, so that rows
 * which are added later leave the others where they were, as far as the share allows.
 * @param share above 0 and below 1; whole groups are taken while that comes nearer to it, at least one
 * @returns both parts in the order of the data
 * @throws UserError when all samples are one group
 */
export async function holdOut(examples: readonly Example[], share: number, seed: number): Promise<Held> {
  const groups = await groupsOf(examples);
  if (groups.length < 2)
    throw new UserError(
      `--val-fraction ${share}: the ${examples.length} training samples are one episode, one user or equal; nothing can be held out: name a file with --val-data`,
    );
  const drawn = groups
    .map(({ name, members }) => ({ name, members, draw: hashOf(seed, "hold out", name) }))
    .sort((a, b) => a.draw - b.draw || (a.name < b.name ? -1 : 1));
  const target = share * examples.length;
  const held = new Set<Example>();
  const take = (members: readonly Example[]): void => members.forEach((member) => void held.add(member));
  for (const { members } of drawn) {
    const after = held.size + members.length;
    if (after < examples.length && Math.abs(after - target) < Math.abs(held.size - target)) take(members);
  }
  if (held.size === 0) take(drawn.toSorted((a, b) => a.members.length - b.members.length)[0]?.members ?? []);
  return { kept: examples.filter((one) => !held.has(one)), heldOut: examples.filter((one) => held.has(one)) };
}

/** Samples that must stay on one side. */
export interface Group {
  readonly name: string;
  readonly members: readonly Example[];
}

/** Steps of an episode, and whatever equals one of them, in the order of the data. */
export async function groupsOf(examples: readonly Example[]): Promise<Group[]> {
  const leaders = new Map<string, string>();
  const leaderOf = (name: string): string => {
    let leader = name;
    for (let next = leaders.get(leader); next !== undefined; next = leaders.get(leader)) leader = next;
    return leader;
  };
  for (const equal of await sameSamples(examples)) {
    // the least name leads, so that the order of the rows does not matter
    const [first = "", ...rest] = [...new Set(equal.map((example) => leaderOf(groupName(example))))].sort();
    for (const name of rest) leaders.set(name, first);
  }
  const members = new Map<string, Example[]>();
  for (const example of examples) {
    const name = leaderOf(groupName(example));
    const known = members.get(name);
    if (known) known.push(example);
    else members.set(name, [example]);
  }
  return [...members].map(([name, own]) => ({ name, members: own }));
}

function groupName({ id, user, episode }: Example): string {
  if (episode !== undefined) return `episode ${user ?? ""}/${episode}`;
  return user === null ? `sample ${id}` : `user ${user}`;
}
