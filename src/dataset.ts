/** Files to examples, whatever format they are in: the formats are in data/, docs/data.md shows each. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Example } from "./data/example.ts";
import { EXTENSIONS, type FileKind, type Format, KNOWN_FILES, kindOfFile } from "./data/format.ts";
import { readGroundingCsv } from "./data/groundingCsv.ts";
import { imageResolver, remoteImages } from "./data/imageReference.ts";
import { jsonlRows, jsonRows } from "./data/jsonFile.ts";
import { parquetRows } from "./data/parquet/file.ts";
import { pickleBudget, pickleRows } from "./data/pickle/file.ts";
import { type Row, readRows } from "./data/rows.ts";
import { ranges } from "./utils/count.ts";
import { messageOf, UserError } from "./utils/errors.ts";

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

/** Pictures from the network are fetched once, however often data are read. */
const remote = remoteImages();

/**
 * Reads a file, or a folder of `user_<id>` files. Pictures are found, not opened (from the network they are fetched).
 * @throws UserError naming file and row of the first fault, or when nothing is left to read
 */
export async function readDataset(path: string, options: DatasetOptions = {}): Promise<Example[]> {
  if (!existsSync(path)) throw new UserError(`${path}: not found; expected ${KNOWN_FILES}, or a folder`);
  const examples = statSync(path).isDirectory() ? await readFolder(path, options) : await readFile(path, options);
  if (examples.length === 0) throw new UserError(`${path}: no example in it${forUsers(options.users)}`);
  return examples;
}

const forUsers = (users: readonly number[] | undefined): string => (users ? ` for users ${ranges(users)}` : "");

async function readFile(file: string, options: DatasetOptions): Promise<Example[]> {
  const { users, format = null, limit = Number.POSITIVE_INFINITY } = options;
  const user = userOfFile(file);
  if (users && user !== null && !users.includes(user)) return [];
  try {
    const kind = await kindOfFile(file, format);
    const resolveImage = imageResolver(file, {
      imageRoot: options.imageRoot,
      remote: options.allowRemoteImages ? remote : null,
    });
    if (kind === "csv")
      return users && user === null ? [] : await readGroundingCsv(file, { user, limit, resolveImage });
    const budget = kind === "pickle" ? pickleBudget(statSync(file).size) : undefined;
    return await readRows(ROWS_OF[kind](file), { file, format, user, users, limit, resolveImage, budget });
  } catch (cause) {
    if (isSystemError(cause)) throw new UserError(`${file}: cannot be read (${messageOf(cause)})`, { cause });
    throw cause instanceof UserError && readable(cause.message) !== cause.message
      ? new UserError(readable(cause.message), { cause })
      : cause;
  }
}

const ROWS_OF: Readonly<Record<Exclude<FileKind, "csv">, (file: string) => AsyncIterable<Row>>> = {
  jsonl: jsonlRows,
  json: jsonRows,
  parquet: parquetRows,
  pickle: pickleRows,
};

const MAX_MESSAGE = 1000;

/** One line of a bearable length, without what would steer a terminal: messages quote what stands in files. */
function readable(message: string): string {
  const line = message.replace(/[\p{Cc}\p{Cs}\u2028\u2029]+/gu, " ");
  return line.length <= MAX_MESSAGE ? line : `${line.slice(0, MAX_MESSAGE - 300)} ... ${line.slice(-300)}`;
}

/** Of the operating system: no permission, a disk that fails. */
const isSystemError = (thrown: unknown): boolean => thrown instanceof Error && "syscall" in thrown;

async function readFolder(folder: string, options: DatasetOptions): Promise<Example[]> {
  const examples: Example[] = [];
  for (const file of await filesToRead(folder, options)) {
    for (const example of await readFile(join(folder, file), options)) examples.push(example);
  }
  return examples;
}

/** The files of the wanted users, in the order wanted; one warning names those who have none. */
async function filesToRead(
  folder: string,
  { users, format, warn = console.warn }: DatasetOptions,
): Promise<readonly string[]> {
  const files = await userFilesOf(folder, format);
  if (files.size === 0) return shardsOf(folder);
  if (!users) return [...files.keys()].sort((a, b) => a - b).flatMap((user) => files.get(user) ?? []);
  const missing = users.filter((user) => !files.has(user));
  if (missing.length > 0) warn(`${folder}: no file for user ${ranges(missing)} (user_<id>.csv or .pkl): skipped`);
  return users.flatMap((user) => files.get(user) ?? []);
}

/** A data set in parts, as the hub keeps it. */
async function shardsOf(folder: string): Promise<readonly string[]> {
  const shards = (await readdir(folder)).filter((name) => /\.(parquet|jsonl|json)$/i.test(name)).sort();
  if (shards.length > 0) return shards;
  throw new UserError(
    `${folder}: no user_<id>.csv or .pkl in it; expected one file a user, the shards of a data set, or name ${KNOWN_FILES} itself`,
  );
}

/** Whether a folder holds a file for each user, rather than the shards of one data set. */
export const isUserFolder = (folder: string): boolean => readdirSync(folder).some((name) => userOfFile(name) !== null);

/**
 * The names of a folder's user files by their user.
 * @throws UserError where a user has several
 */
export async function userFilesOf(folder: string, format: Format | null = null): Promise<ReadonlyMap<number, string>> {
  const files = new Map<number, string>();
  for (const name of (await readdir(folder)).sort()) {
    const user = userOfFile(name);
    if (user === null || (format !== null && !isOfFormat(name, format))) continue;
    const former = files.get(user);
    if (former !== undefined)
      throw new UserError(`${folder}: ${former} and ${name} are of one user; say with --format which to read`);
    files.set(user, name);
  }
  return files;
}

/** Rows of either form stand in files of the same names. */
const isOfFormat = (name: string, format: Format): boolean =>
  ({
    csv: /\.csv$/i,
    pickle: /\.(pkl|pickle)$/i,
    parquet: /\.parquet$/i,
    messages: /\.(jsonl|json|parquet)$/i,
    conversations: /\.(jsonl|json|parquet)$/i,
  })[format].test(name);

/** The id in `user_<id>.csv`, `.pkl` and so on; null for any other name. */
export function userOfFile(file: string): number | null {
  const [, id, extension = ""] = /^user_(\d{1,15})(\.\w+)$/.exec(basename(file)) ?? [];
  return id !== undefined && EXTENSIONS.includes(extension.toLowerCase()) ? Number(id) : null;
}
