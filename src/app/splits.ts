/** The data of a run: which samples are trained on, which tell the validation loss, which are answered and scored. */
import { existsSync, statSync } from "node:fs";
import { extname } from "node:path";
import { type DatasetOptions, type Example, type Format, readDataset } from "../dataset.ts";
import { ensureEmbeddedData } from "../embedded/embeddedUsers.ts";
import { UserError } from "../utils/errors.ts";
import type { Log } from "../utils/log.ts";
import { type Progress, startProgress } from "../utils/progress.ts";

export interface DataOptions {
  /** File or folder; null for the embedded users. */
  readonly data: string | null;
  readonly limit: number | null;
  /** How the data are written; null: by their content. */
  readonly format: Format | null;
  /** Where picture paths start; null: at the data file's folder. */
  readonly imageRoot: string | null;
  readonly allowRemoteImages: boolean;
  readonly log: Log;
}

/** Whether samples belong to users that can be told apart: the embedded ones, or a folder with a file for each. */
const hasUserFiles = (data: string | null): boolean =>
  data === null || (existsSync(data) && statSync(data).isDirectory());

export const range = ([from, to]: readonly [number, number]): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** All samples of some users. Users without a file are named and skipped. @throws UserError when none is left */
async function readUsers(options: DataOptions, users: readonly number[]): Promise<Example[]> {
  const folder = options.data ?? (await drawnUsers(users, options.log));
  return readDataset(folder, { users, ...readingOf(options) });
}

const readingOf = ({ limit, format, imageRoot, allowRemoteImages, log }: DataOptions): DatasetOptions => ({
  limit: limit ?? undefined,
  format,
  imageRoot,
  allowRemoteImages,
  warn: (message) => log.warn(message),
});

async function drawnUsers(users: readonly number[], log: Log): Promise<string> {
  const shown: { progress?: Progress } = {};
  const onProgress = (done: number, total: number): void => {
    shown.progress ??= startProgress({ log, title: "drawing users", total });
    shown.progress.update(done);
  };
  try {
    return await ensureEmbeddedData({ users, onProgress });
  } finally {
    shown.progress?.stop();
  }
}

/** What to train on: the training users of a folder, or every row of a file. */
export function readTraining(options: DataOptions, users: readonly number[]): Promise<Example[]> {
  if (hasUserFiles(options.data)) return readUsers(options, users);
  return readDataset(options.data ?? "", readingOf(options));
}

/** Samples for the validation loss; none where the data are one file or have no such users. */
export async function readValidation(options: DataOptions, users: readonly number[]): Promise<Example[]> {
  if (!hasUserFiles(options.data)) return [];
  if (options.data === null) return readUsers(options, users);
  const present = users.filter((user) => existsSync(`${options.data}/user_${user}.csv`));
  return present.length === 0 ? [] : readUsers(options, present);
}

/**
 * What to answer and score: the samples of each user, in the order of `users`.
 * @throws UserError where samples have no click point to score an answer against, or none belongs to these users
 */
export async function readTest(
  options: DataOptions,
  users: readonly number[],
): Promise<ReadonlyMap<number, readonly Example[]>> {
  const { data } = options;
  if (!hasUserFiles(data) && existsSync(data ?? "") && extname(data ?? "") !== ".csv")
    throw new UserError(
      `--data ${data}: conversations have no click point to score an answer against; evaluate user_<id>.csv files, or only train (finetuneGlobal --no-eval)`,
    );
  return groupByUser(await readUsers(options, users), users);
}

function groupByUser(examples: readonly Example[], users: readonly number[]): ReadonlyMap<number, readonly Example[]> {
  const own = (user: number): Example[] => examples.filter((example) => example.user === String(user));
  return new Map(users.map((user) => [user, own(user)] as const).filter(([, samples]) => samples.length > 0));
}
