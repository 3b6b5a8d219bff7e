/** JSONL and JSON files whose rows hold `messages`. */
import { basename, extname } from "node:path";
import { messageOf, UserError } from "../utils/errors.ts";
import { isJsonObject, type JsonObject, kindOf } from "../utils/json.ts";
import type { Example } from "./example.ts";
import type { ImageResolver } from "./imageReference.ts";
import { messagesOfRow } from "./messages.ts";
import { linesOf, readUtf8 } from "./textFile.ts";

interface ReadOptions {
  readonly users?: readonly number[] | undefined;
  readonly limit: number;
  readonly resolveImage: ImageResolver;
}

interface Row {
  readonly value: unknown;
  /** File and row, for messages. */
  readonly where: string;
  readonly number: number;
}

/**
 * Reads one example a row; a row is `{"messages": [...], "images"?: [...], "tools"?: [...], "user"?: 7}`.
 * @throws UserError naming file and row
 */
export async function readMessagesFile(file: string, { users, limit, resolveImage }: ReadOptions): Promise<Example[]> {
  const examples: Example[] = [];
  let rows = 0;
  for await (const row of extname(file) === ".json" ? jsonRows(file) : jsonlRows(file)) {
    if (examples.length >= limit) return examples;
    rows++;
    const example = exampleOf(row, file, resolveImage);
    if (isWanted(example, users, row.where)) examples.push(example);
  }
  if (rows === 0) throw new UserError(`${file}: empty file; expected rows with "messages"`);
  return examples;
}

function exampleOf({ value, where, number }: Row, file: string, resolveImage: ImageResolver): Example {
  if (!isJsonObject(value) || value.messages === undefined) {
    throw new UserError(`${where}: expected an object with "messages", found ${describe(value)}`);
  }
  const tools = toolsOf(value, where);
  return {
    id: `${basename(file)}:${number}`,
    user: userOf(value, where),
    messages: messagesOfRow(value, { where, resolveImage }),
    ...(tools ? { tools } : {}),
  };
}

const describe = (value: unknown): string =>
  isJsonObject(value) ? `an object with ${Object.keys(value).slice(0, 8).join(", ") || "nothing"}` : kindOf(value);

function userOf({ user }: JsonObject, where: string): string | null {
  if (user === undefined || user === null) return null;
  if (typeof user === "string" || typeof user === "number") return String(user);
  throw new UserError(`${where}: user is ${kindOf(user)}; expected a number or a name`);
}

function toolsOf({ tools }: JsonObject, where: string): readonly object[] | undefined {
  if (tools === undefined || tools === null) return undefined;
  if (Array.isArray(tools) && tools.every(isJsonObject)) return tools;
  throw new UserError(`${where}: tools is ${kindOf(tools)}; expected a list of function descriptions`);
}

function isWanted({ user }: Example, users: readonly number[] | undefined, where: string): boolean {
  if (!users) return true;
  if (user === null) {
    throw new UserError(`${where}: users ${users.join(", ")} are selected, but this row has no "user"; leave --u out`);
  }
  return users.map(String).includes(user);
}

async function* jsonlRows(file: string): AsyncGenerator<Row> {
  for await (const { text, line } of linesOf(file)) {
    const where = `${file}, line ${line}`;
    if (text.trim() !== "") yield { value: parseJson(text, where), where, number: line };
  }
}

async function* jsonRows(file: string): AsyncGenerator<Row> {
  const text = await readUtf8(file);
  if (text.trim() === "") return;
  const parsed = parseJson(text, file);
  const values: readonly unknown[] = Array.isArray(parsed) ? parsed : [parsed];
  for (const [i, value] of values.entries()) yield { value, where: `${file}, row ${i + 1}`, number: i + 1 };
}

function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${where}: not JSON (${messageOf(cause)})`, { cause });
  }
}
