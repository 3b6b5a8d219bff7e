/** Which format a data file is written in: said by the user, or seen from its first bytes. */
import { open, stat } from "node:fs/promises";
import { extname } from "node:path";
import { messageOf, UserError } from "../utils/errors.ts";

/** `messages` and `conversations` are rows of JSONL or JSON; the others are kinds of file. */
export const FORMATS = ["messages", "conversations", "csv", "parquet", "pickle"] as const;
export type Format = (typeof FORMATS)[number];

/** What a file is. `json` is one JSON text (a list of rows, or one row), `jsonl` a row a line. */
export type FileKind = "jsonl" | "json" | "csv" | "parquet" | "pickle";

export const KNOWN_FILES = "a .jsonl, .json, .csv, .parquet or .pkl file";

const BY_EXTENSION: ReadonlyMap<string, FileKind> = new Map([
  [".jsonl", "jsonl"],
  [".json", "json"],
  [".csv", "csv"],
  [".parquet", "parquet"],
  [".pkl", "pickle"],
  [".pickle", "pickle"],
]);

/** File name endings that a reader exists for, with the dot. */
export const EXTENSIONS: readonly string[] = [...BY_EXTENSION.keys()];

/**
 * How a file is to be read. Its content decides; its name only where the content leaves it open (an empty file, a first
 * line that is cut off).
 * @throws UserError naming the file when it is none that a reader exists for, or not the format asked for
 */
export async function kindOfFile(file: string, format: Format | null): Promise<FileKind> {
  const start = await firstBytes(file);
  if (format === "csv" || format === "parquet" || format === "pickle") return format;
  const byName = BY_EXTENSION.get(extname(file).toLowerCase());
  const kind = kindOfContent(start, byName);
  if (format !== null) {
    if (kind === "jsonl" || kind === "json" || kind === "parquet") return kind;
    return byName === "json" ? "json" : "jsonl"; // its reader says what is wrong with the file
  }
  if (kind !== undefined) return kind;
  throw new UserError(
    `${file}: neither its content nor its name tells what it is; expected ${KNOWN_FILES}, or say with --format how to read it`,
  );
}

const SNIFFED_BYTES = 64 * 1024;

async function firstBytes(file: string): Promise<Buffer> {
  if (!(await stat(file)).isFile()) throw new UserError(`${file}: not a file; expected ${KNOWN_FILES}`);
  try {
    const handle = await open(file);
    try {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(SNIFFED_BYTES), 0, SNIFFED_BYTES, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new UserError(`${file}: cannot be read (${messageOf(cause)}); check the file`, { cause });
  }
}

const PICKLE_PROTO = 0x80;
const OLD_PICKLE = /^(\((l|d|t)(p\d+\n|q|\(|\.)|\](q|\(|\.))/; // protocols 0 and 1 begin with a list, a dict or a tuple

function kindOfContent(start: Buffer, byName: FileKind | undefined): FileKind | undefined {
  if (start.subarray(0, 4).toString("latin1") === "PAR1") return "parquet";
  if (start[0] === PICKLE_PROTO && byName !== "csv") return "pickle";
  const text = start.toString("latin1").replace(/^\u00ef\u00bb\u00bf/, ""); // a byte order mark
  if (OLD_PICKLE.test(text)) return "pickle";
  const visible = text.trimStart();
  if (visible === "" || byName === "pickle" || byName === "parquet") return byName;
  if (visible.startsWith("[")) return "json";
  if (visible.startsWith("{")) return isOneLine(visible) ? "jsonl" : byName === "jsonl" ? "jsonl" : "json";
  if (byName === undefined && /^[^\n]*\bimage\b[^\n]*,[^\n]*\n/.test(visible)) return "csv";
  return byName;
}

/** Whether the first line is a JSON text of its own, or too long to tell. */
function isOneLine(text: string): boolean {
  const end = text.indexOf("\n");
  if (end < 0) return text.length >= SNIFFED_BYTES - 4;
  try {
    JSON.parse(text.slice(0, end));
    return true;
  } catch {
    return false;
  }
}
