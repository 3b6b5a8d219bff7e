/** One user's CSV file of the grounding task: a row is a screenshot, a command and where it is to be clicked. */
import { basename } from "node:path";
import { CsvError, parse } from "csv-parse/sync";
import { groundingAnswer, groundingPrompt } from "../text/groundingPrompt.ts";
import { mapAhead } from "../utils/ahead.ts";
import { messageOf, UserError } from "../utils/errors.ts";
import type { Example, GroundingTarget } from "./example.ts";
import type { ImageResolver } from "./imageReference.ts";
import { readUtf8 } from "./textFile.ts";

const COLUMNS = ["image", "command", "referring", "x", "y", "episode"] as const;

type CsvRow = Readonly<Record<(typeof COLUMNS)[number], string>>;

/**
 * Reads the rows as grounding conversations; other columns are ignored. `user` is null where the file's name says none.
 * @throws UserError naming file and line
 */
export async function readGroundingCsv(
  file: string,
  { user, limit, resolveImage }: { user: number | null; limit: number; resolveImage: ImageResolver },
): Promise<Example[]> {
  const rows = parseRows(file, await readUtf8(file));
  if (rows.length === 0) throw new UserError(`${file}: no rows below the header; expected at least one`);
  const of = { file, user: user === null ? null : String(user), resolveImage };
  const examples: Example[] = [];
  const wanted = rows.slice(0, limit);
  for await (const example of mapAhead(wanted, AHEAD, ({ row, line }) => exampleOf(row, { ...of, line })))
    examples.push(example);
  return examples;
}

const AHEAD = 31; // so that pictures from the network come several at a time

interface RowPlace {
  readonly file: string;
  readonly line: number;
  readonly user: string | null;
  readonly resolveImage: ImageResolver;
}

async function exampleOf(row: CsvRow, { file, line, user, resolveImage }: RowPlace): Promise<Example> {
  const where = `${file}, line ${line}`;
  for (const column of ["image", "command", "referring"] as const) {
    if (row[column].trim() === "") throw new UserError(`${where}: column "${column}" is empty`);
  }
  const image = await resolveImage(row.image, where);
  const target: GroundingTarget = {
    point: [coordinate(row, "x", where), coordinate(row, "y", where)],
    content: row.referring,
  };
  return {
    id: `${basename(file)}:${line}`,
    user,
    messages: [
      {
        role: "user",
        content: [
          { type: "image", image },
          { type: "text", text: groundingPrompt(row.command) },
        ],
      },
      { role: "assistant", content: [{ type: "text", text: groundingAnswer(target.content, target.point) }] },
    ],
    target,
    episode: row.episode,
  };
}

function coordinate(row: CsvRow, column: "x" | "y", where: string): number {
  const value = Number(row[column]);
  if (/^\s*\d+\s*$/.test(row[column]) && value <= 1000) return value;
  throw new UserError(
    `${where}: ${column} is ${JSON.stringify(row[column])}; expected a whole number from 0 to 1000 (of the screen's ${column === "x" ? "width" : "height"})`,
  );
}

function parseRows(file: string, text: string): { row: CsvRow; line: number }[] {
  if (text.trim() === "") throw new UserError(`${file}: empty file; expected the header ${COLUMNS.join(",")}`);
  try {
    const records: unknown = parse(text, {
      columns: (header: string[]) => checkedHeader(file, header),
      skip_empty_lines: true,
      info: true,
    });
    return (records as { record: CsvRow; info: { lines: number } }[]).map(({ record, info }) => ({
      row: record,
      line: info.lines,
    }));
  } catch (cause) {
    if (cause instanceof CsvError)
      throw new UserError(`${file}: not a well-formed CSV: ${messageOf(cause)}`, { cause });
    throw cause;
  }
}

function checkedHeader(file: string, header: string[]): string[] {
  const names = header.map((name) => name.trim());
  const missing = COLUMNS.filter((column) => !names.includes(column));
  if (missing.length > 0) {
    throw new UserError(
      `${file}, line 1: no column ${missing.map((name) => `"${name}"`).join(", ")}; expected the header ${COLUMNS.join(",")}, found ${names.join(",")}`,
    );
  }
  return names;
}
