/** Rows of JSONL files (one a line) and of JSON files (one list of them, or one row), read piece by piece. */
import { createReadStream } from "node:fs";
import { messageOf, UserError } from "../utils/errors.ts";
import type { Row } from "./rows.ts";
import { decodedText, linesOf, MAX_TEXT_BYTES } from "./textFile.ts";

export async function* jsonlRows(file: string): AsyncGenerator<Row> {
  for await (const { text, line } of linesOf(file)) {
    const where = `${file}, line ${line}`;
    if (text.trim() !== "") yield { value: parseJson(text, where), where, number: line };
  }
}

/** The elements of the file's list one after the other, so that a list may be larger than one text can be; or its one row. */
export async function* jsonRows(file: string): AsyncGenerator<Row> {
  let number = 0;
  for await (const bytes of elementsOf(file)) {
    const where = `${file}, row ${++number}`;
    yield { value: parseJson(decodedText(bytes, where), where), where, number };
  }
}

function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${where}: not JSON (${messageOf(cause)})`, { cause });
  }
}

const code = (character: string): number => character.charCodeAt(0);
const QUOTE = code('"');
const BACKSLASH = code("\\");
const COMMA = code(",");
const OPENING = new Set([code("["), code("{")]);
const CLOSING = new Set([code("]"), code("}")]);
const SPACE = new Set([code(" "), code("\n"), code("\r"), code("\t")]);
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

/** Where a scan of JSON stands. All marks of its grammar are ASCII, so bytes of longer characters cannot be taken for them. */
interface Scan {
  depth: number;
  inText: boolean;
  escaped: boolean;
  /** 1 in a list of rows, 0 where the file is one row. */
  rowDepth: number | null;
  isClosed: boolean;
}

/** Cuts the bytes of a file at the commas of its outermost list. */
async function* elementsOf(file: string): AsyncGenerator<Buffer> {
  const scan: Scan = { depth: 0, inText: false, escaped: false, rowDepth: null, isClosed: false };
  let parts: Buffer[] = [];
  let length = 0;
  let rows = 0;
  let isFirst = true;
  for await (const raw of createReadStream(file) as AsyncIterable<Buffer>) {
    const chunk = isFirst && raw.subarray(0, 3).equals(BYTE_ORDER_MARK) ? raw.subarray(3) : raw;
    isFirst = false;
    let from = 0;
    for (let at = 0; at < chunk.length; at++) {
      const step = advance(scan, chunk[at] as number, file);
      if (step === "within") continue;
      const row = Buffer.concat([...parts, chunk.subarray(from, at)]);
      if (step === "end of row" && !(scan.isClosed && rows === 0 && isBlank(row))) {
        rows++;
        yield row;
      }
      from = at + 1;
      parts = [];
      length = 0;
    }
    parts.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > MAX_TEXT_BYTES)
      throw new UserError(`${file}: a row of more than ${MAX_TEXT_BYTES} bytes; write a list of rows, or JSONL`);
  }
  yield* rest(scan, Buffer.concat(parts), file);
}

const isBlank = (bytes: Buffer): boolean => bytes.every((byte) => SPACE.has(byte));

/** @returns whether the byte belongs to a row, ends one, or stands between rows */
function advance(scan: Scan, byte: number, file: string): "within" | "between" | "end of row" {
  if (scan.inText) {
    if (scan.escaped) scan.escaped = false;
    else if (byte === BACKSLASH) scan.escaped = true;
    else if (byte === QUOTE) scan.inText = false;
    return "within";
  }
  if (SPACE.has(byte)) return "within";
  if (scan.isClosed)
    throw new UserError(`${file}: not JSON: more follows after the end of its list; write one list, or JSONL`);
  if (byte === QUOTE) scan.inText = true;
  if (OPENING.has(byte)) {
    scan.depth++;
    if (scan.rowDepth !== null) return "within";
    scan.rowDepth = byte === code("[") ? 1 : 0;
    return scan.rowDepth === 1 ? "between" : "within";
  }
  scan.rowDepth ??= 0;
  if (byte === COMMA && scan.depth === 1 && scan.rowDepth === 1) return "end of row";
  if (!CLOSING.has(byte)) return "within";
  scan.depth--;
  if (scan.depth > 0 || scan.rowDepth === 0) return "within";
  scan.isClosed = true;
  return "end of row";
}

async function* rest(scan: Scan, bytes: Buffer, file: string): AsyncGenerator<Buffer> {
  if (scan.rowDepth === 1 && !scan.isClosed)
    throw new UserError(`${file}: not JSON: its list does not end; it is cut off`);
  if (scan.rowDepth === 0) yield bytes; // one row, or no JSON at all
}
