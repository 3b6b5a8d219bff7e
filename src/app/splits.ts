/** The data of a run: which samples are trained on, which tell the validation loss, which are answered and scored. */
import { existsSync, statSync } from "node:fs";
import { type Example, readDataset } from "../dataset.ts";
import { ensureEmbeddedData } from "../embedded/embeddedUsers.ts";
import { UserError } from "../utils/errors.ts";
import type { Log } from "../utils/log.ts";
import { startProgress } from "../utils/progress.ts";

export interface DataOptions {
  /** File or folder; null for the embedded users. */
  readonly data: string | null;
  readonly limit: number | null;
  readonly log: Log;
}

/** Whether samples belong to users that can be told apart: the embedded ones, or a folder with a file for each. */
const hasUserFiles = (data: string | null): boolean =>
  data === null || (existsSync(data) && statSync(data).isDirectory());

export const range = ([from, to]: readonly [number, number]): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** All samples of some users. Users without a file are named and skipped. @throws UserError when none is left */
export async function readUsers({ data, limit, log }: DataOptions, users: readonly number[]): Promise<Example[]> {
  const folder = data ?? (await drawnUsers(users, log));
  return readDataset(folder, { users, limit: limit ?? undefined, warn: (message) => log.warn(message) });
}

async function drawnUsers(users: readonly number[], log: Log): Promise<string> {
  let progress: ReturnType<typeof startProgress> | null = null;
  try {
    return await ensureEmbeddedData({
      users,
      onProgress: (done, total) => {
        progress ??= startProgress({ log, title: "drawing users", total });
        progress.update(done);
      },
    });
  } catch (thrown) {
    throw thrown instanceof RangeError ? new UserError(`--u: ${thrown.message}`, { cause: thrown }) : thrown;
  } finally {
    (progress as ReturnType<typeof startProgress> | null)?.stop();
  }
}

/** What to train on: the training users of a folder, or every row of a file. */
export function readTraining(options: DataOptions, users: readonly number[]): Promise<Example[]> {
  if (hasUserFiles(options.data)) return readUsers(options, users);
  return readDataset(options.data ?? "", { limit: options.limit ?? undefined });
}

/** Samples for the validation loss; none where the data are one file or have no such users. */
export async function readValidation(options: DataOptions, users: readonly number[]): Promise<Example[]> {
  if (!hasUserFiles(options.data)) return [];
  if (options.data === null) return readUsers(options, users);
  const present = users.filter((user) => existsSync(`${options.data}/user_${user}.csv`));
  return present.length === 0 ? [] : readUsers(options, present);
}

/** By user, in the order of `users`. @throws UserError for a sample that has no click point to score against */
export function groupByUser(
  examples: readonly Example[],
  users: readonly number[],
): ReadonlyMap<number, readonly Example[]> {
  const groups = new Map<number, Example[]>();
  for (const user of users) {
    const own = examples.filter((example) => example.user === String(user));
    const untold = own.find(({ target }) => !target);
    if (untold)
      throw new UserError(
        `${untold.id}: has no click point to score an answer against; evaluate user_<id>.csv files, or train with --no-eval`,
      );
    if (own.length > 0) groups.set(user, own);
  }
  if (groups.size === 0)
    throw new UserError(
      `no sample belongs to users ${users.join(", ")}: nothing to evaluate; name other users with --u, or train with --no-eval`,
    );
  return groups;
}
