/** Files to examples: conversations (`messages`) in JSONL or JSON, and the CSV files of the per-user grounding task. */
import { existsSync, statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import type { Example } from "./data/example.ts";
import type { Format } from "./data/format.ts";
import { readGroundingCsv } from "./data/groundingCsv.ts";
import { imageResolver } from "./data/imageReference.ts";
import { readMessagesFile } from "./data/messagesFile.ts";
import { UserError } from "./utils/errors.ts";

export type * from "./data/example.ts";
export type { Format } from "./data/format.ts";

export interface DatasetOptions {
  /** Only these users. Default: all. */
  readonly users?: readonly number[] | undefined;
  /** At most so many examples of each file (so of each user, where every user has a file). Default: all. */
  readonly limit?: number | undefined;
  /** How files are written. Default: seen from each file's content. */
  readonly format?: Format | null | undefined;
  /** Where picture paths start; none may lead out of it. Default: the folder of the data file. */
  readonly imageRoot?: string | null | undefined;
  /** Download pictures that are named by http(s). Default: refuse them. */
  readonly allowRemoteImages?: boolean | undefined;
  /** Hears of a user without a file. */
  readonly warn?: (message: string) => void;
}

/**
 * Reads a `.jsonl`, `.json` or `.csv` file, or a folder of `user_<id>.csv`. Pictures are found, not opened.
 * @throws UserError naming file and row of the first fault, or when nothing is left to read
 */
export async function readDataset(path: string, options: DatasetOptions = {}): Promise<Example[]> {
  if (!existsSync(path)) throw new UserError(`${path}: not found; expected a .jsonl, .json or .csv file, or a folder`);
  const examples = statSync(path).isDirectory() ? await readFolder(path, options) : await readFile(path, options);
  if (examples.length === 0) throw new UserError(`${path}: no example in it${forUsers(options.users)}`);
  return examples;
}

const forUsers = (users: readonly number[] | undefined): string => (users ? ` for users ${users.join(", ")}` : "");

async function readFile(file: string, { users, limit = Number.POSITIVE_INFINITY }: DatasetOptions): Promise<Example[]> {
  const resolveImage = imageResolver(file);
  if (extname(file) === ".csv") {
    const user = userOfFile(file);
    if (users && !(user !== null && users.includes(user))) return [];
    return readGroundingCsv(file, { user, limit, resolveImage });
  }
  if ([".jsonl", ".json"].includes(extname(file))) return readMessagesFile(file, { users, limit, resolveImage });
  throw new UserError(`${file}: unknown kind of file; expected .jsonl, .json or .csv`);
}

async function readFolder(folder: string, options: DatasetOptions): Promise<Example[]> {
  const examples: Example[] = [];
  for (const user of await usersToRead(folder, options)) {
    examples.push(...(await readFile(join(folder, `user_${user}.csv`), options)));
  }
  return examples;
}

/** The wanted users who have a file, in the order wanted; one warning names those who have none. */
async function usersToRead(folder: string, { users, warn = console.warn }: DatasetOptions): Promise<number[]> {
  const present = (await readdir(folder)).map(userOfFile).filter((user) => user !== null);
  if (present.length === 0) {
    throw new UserError(`${folder}: no user_<id>.csv in it; expected one CSV file a user, or name a .jsonl file`);
  }
  if (!users) return present.sort((a, b) => a - b);
  const missing = users.filter((user) => !present.includes(user));
  if (missing.length > 0) warn(`${folder}: no file for user ${missing.join(", ")} (user_<id>.csv): skipped`);
  return users.filter((user) => present.includes(user));
}

/** The id in `user_<id>.csv`; null for any other name. */
function userOfFile(file: string): number | null {
  const id = /^user_(\d+)\.csv$/.exec(basename(file))?.[1];
  return id === undefined ? null : Number(id);
}
