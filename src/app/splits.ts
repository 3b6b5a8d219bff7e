/** The data of a run: which samples are trained on, which tell the validation loss, which are answered and scored. */
import { existsSync, statSync } from "node:fs";
import { USER_SPLIT } from "../config.ts";
import { holdOut } from "../data/holdOut.ts";
import { sameSamples } from "../data/sameSamples.ts";
import { type DatasetOptions, type Example, type Format, isUserFolder, readDataset, userFilesOf } from "../dataset.ts";
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

export interface SplitOptions extends DataOptions {
  /** Users of each split; null: USER_SPLIT's for user files; of one file every row trains that the others do not name. */
  readonly trainUsers: readonly number[] | null;
  readonly valUsers: readonly number[] | null;
  /** To be answered and scored. */
  readonly users: readonly number[] | null;
  /** Where validation and test samples come from, if not from `data`. */
  readonly valData: string | null;
  readonly testData: string | null;
  /** Share of the training samples that is held out for validation. */
  readonly valFraction: number | null;
  readonly seed: number;
  /** Whether test samples will be answered; without that, they are only held out of training, where their users are named. */
  readonly eval: boolean;
}

/** Samples by what they are for. */
export interface Splits {
  readonly train: readonly Example[];
  readonly validation: readonly Example[];
  readonly test: readonly Example[];
  /** Read, but of no user that a split names. */
  readonly unused: readonly Example[];
}

export const SPLIT_NAMES = { train: "training", validation: "validation", test: "test", unused: "unused" } as const;
export type SplitName = keyof Splits;

const range = ([from, to]: readonly [number, number]): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Whether samples belong to users that can be told apart: the embedded ones, or a folder with a file for each. */
const hasUserFiles = (data: string | null): boolean =>
  data === null || (existsSync(data) && statSync(data).isDirectory() && isUserFolder(data));

/**
 * Reads all splits.
 * @param want "run": what training and evaluation need; "all": every sample of `data` too, those of no split as unused
 * @throws UserError when no training sample is left, or a file cannot be read
 */
export async function readSplits(options: SplitOptions, want: "run" | "all" = "run"): Promise<Splits> {
  const { data, valData, testData, valFraction, seed } = options;
  const parts = hasUserFiles(data)
    ? await splitUserFiles(options, namedUsers(options, USER_SPLIT), want)
    : splitRows(await readDataset(data ?? "", readingOf(options)), namedUsers(options, null), data);
  const held = valFraction === null ? null : await holdOut(parts.train, valFraction, seed);
  return {
    train: held?.kept ?? parts.train,
    validation: valData === null ? (held?.heldOut ?? parts.validation) : await readOther(valData, options),
    test: testData !== null && options.eval ? ofUsers(await readOther(testData, options), options.users) : parts.test,
    unused: parts.unused,
  };
}

/** Users of each split; null: all who are in no other. */
interface NamedUsers {
  readonly train: readonly number[] | null;
  readonly validation: readonly number[];
  readonly test: readonly number[];
}

function namedUsers(options: SplitOptions, defaults: typeof USER_SPLIT | null): NamedUsers {
  const { trainUsers, valUsers, users, valData, valFraction, testData } = options;
  const isElsewhere = valData !== null || valFraction !== null;
  const testDefault = defaults && options.eval ? range(defaults.test) : [];
  return {
    train: trainUsers ?? (defaults && range(defaults.train)),
    validation: isElsewhere ? [] : (valUsers ?? (defaults ? range(defaults.validation) : [])),
    test: testData !== null ? [] : (users ?? testDefault),
  };
}

async function splitUserFiles(options: SplitOptions, named: NamedUsers, want: "run" | "all"): Promise<Splits> {
  const { data, format, valUsers } = options;
  const train = named.train ?? [];
  const present = data === null ? null : new Set((await userFilesOf(data, format)).keys());
  // validation is not asked for unless its users are named: a folder may lack it
  const validation = named.validation.filter((user) => valUsers !== null || present === null || present.has(user));
  const everyone = data === null ? range([USER_SPLIT.test[0], USER_SPLIT.validation[1]]) : [...(present ?? [])];
  const taken = new Set([...train, ...validation, ...named.test]);
  const others = want === "all" ? everyone.filter((user) => !taken.has(user)).sort((a, b) => a - b) : [];
  return {
    train: await readUsers(options, train, want),
    validation: await readUsers(options, validation, want),
    test: await readUsers(options, named.test, want),
    unused: await readUsers(options, others, want),
  };
}

/** All samples of some users. Users without a file are named and skipped. @throws UserError when none is left of a run's */
async function readUsers(options: SplitOptions, users: readonly number[], want: "run" | "all"): Promise<Example[]> {
  if (users.length === 0) return [];
  const folder = options.data ?? (await drawnUsers(users, options.log));
  if (want === "run" || options.data === null) return readDataset(folder, { users, ...readingOf(options) });
  const files = await userFilesOf(folder, options.format);
  const present = users.filter((user) => files.has(user));
  return present.length === 0 ? [] : readDataset(folder, { users: present, ...readingOf(options) });
}

function splitRows(rows: readonly Example[], { train, validation, test }: NamedUsers, data: string | null): Splits {
  const named = [...(train ?? []), ...validation, ...test];
  const nameless = rows.find(({ user }) => user === null);
  if (named.length > 0 && nameless)
    throw new UserError(
      `--data ${data}: users are selected, but ${nameless.id} has no "user"; leave the users out, or split by --val-data or --val-fraction`,
    );
  const taken = new Set(named.map(String));
  const isTaken = ({ user }: Example): boolean => user !== null && taken.has(user);
  const parts = { validation: ofUsers(rows, validation), test: ofUsers(rows, test) };
  if (train === null) return { train: rows.filter((row) => !isTaken(row)), ...parts, unused: [] };
  return { train: ofUsers(rows, train), ...parts, unused: rows.filter((row) => !isTaken(row)) };
}

/** Samples of some users, in the order of the data; null: of all. */
function ofUsers(rows: readonly Example[], users: readonly number[] | null): readonly Example[] {
  const wanted = users && new Set(users.map(String));
  return wanted ? rows.filter(({ user }) => user !== null && wanted.has(user)) : rows;
}

const readingOf = ({ limit, format, imageRoot, allowRemoteImages, log }: DataOptions): DatasetOptions => ({
  limit: limit ?? undefined,
  format,
  imageRoot,
  allowRemoteImages,
  warn: (message) => log.warn(message),
});

/** Another file than --data: its format is seen from its content. */
const readOther = (path: string, options: DataOptions): Promise<Example[]> =>
  readDataset(path, { ...readingOf(options), format: null });

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

/** Two rows of one sample, in different splits. */
export interface Overlap {
  readonly first: { readonly id: string; readonly split: SplitName };
  readonly second: { readonly id: string; readonly split: SplitName };
}

/** Samples that stand in two splits, one pair for each. */
export async function overlapsOf({ train, validation, test }: Omit<Splits, "unused">): Promise<readonly Overlap[]> {
  const splits = { train, validation, test } as const;
  const splitOf = new Map<Example, SplitName>();
  const all = (["train", "validation", "test"] as const).flatMap((split) =>
    splits[split].map((example) => {
      const own = { ...example }; // a row that was picked twice is one object
      splitOf.set(own, split);
      return own;
    }),
  );
  return (await sameSamples(all)).flatMap((group) => {
    const [first, ...rest] = group.map((example) => ({ id: example.id, split: splitOf.get(example) ?? "train" }));
    const second = rest.find(({ split }) => split !== first?.split);
    return first && second ? [{ first, second }] : [];
  });
}

/** @throws UserError naming two rows that are one sample, one of which would be trained on */
export async function refuseOverlap(splits: Omit<Splits, "unused">): Promise<void> {
  const [overlap, ...more] = await overlapsOf(splits);
  if (overlap) throw new UserError(overlapText(overlap, more.length));
}

export function overlapText({ first, second }: Overlap, more: number): string {
  const place = ({ id, split }: Overlap["first"]): string => `${id} (${SPLIT_NAMES[split]})`;
  const others = more === 0 ? "" : `, and ${more} more`;
  return (
    `${place(first)} and ${place(second)} are the same sample, pictures and words${others}: a score on samples that were ` +
    "trained on says little; take them out, choose other users, or pass --allow-overlap"
  );
}

/**
 * What to answer and score, for a run that trains nothing: these users; null: the test users, or all of one file.
 * @throws UserError where samples have no click point to score an answer against, or none belongs to these users
 */
export async function readTest(
  options: DataOptions,
  users: readonly number[] | null,
): Promise<ReadonlyMap<number, readonly Example[]>> {
  const { data } = options;
  if (!hasUserFiles(data)) {
    const rows = await readDataset(data ?? "", { ...readingOf(options), users: users ?? undefined });
    return testUsers(rows, options);
  }
  const wanted = users ?? range(USER_SPLIT.test);
  const folder = data ?? (await drawnUsers(wanted, options.log));
  return testUsers(await readDataset(folder, { users: wanted, ...readingOf(options) }), options);
}

/**
 * Test samples by user, in the order in which users first stand; rows that name no user are answered as user 0.
 * @throws UserError where there is none, one has no click point, or a user is no number
 */
export function testUsers(
  examples: readonly Example[],
  { data, log }: Pick<DataOptions, "data" | "log">,
): ReadonlyMap<number, readonly Example[]> {
  if (examples.length === 0)
    throw new UserError(
      `--data ${data}: no sample is held out to be answered; name users with --u or a file with --test-data, or only train (finetuneGlobal --no-eval)`,
    );
  const pointless = examples.find(({ target }) => target === undefined);
  if (pointless)
    throw new UserError(
      `${pointless.id}: conversations have no click point to score an answer against; evaluate user_<id>.csv files, or only train (finetuneGlobal --no-eval)`,
    );
  const users = new Map<number, Example[]>();
  for (const example of examples) {
    const user = userNumber(example);
    const own = users.get(user);
    if (own) own.push(example);
    else users.set(user, [example]);
  }
  if (examples.some(({ user }) => user === null)) log.line('rows without a "user" are answered as user 0');
  return users;
}

function userNumber({ id, user }: Example): number {
  if (user === null) return 0;
  if (/^\d{1,15}$/.test(user)) return Number(user);
  throw new UserError(`${id}: user "${user}"; expected a number, by which the folder of the answers is called`);
}
