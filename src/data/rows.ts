/** Rows that hold a conversation, from whatever kind of file, to examples. */
import { basename } from "node:path";
import { readGroundingAnswer } from "../text/groundingPrompt.ts";
import { ranges } from "../utils/count.ts";
import { messageOf, UserError } from "../utils/errors.ts";
import { isJsonObject, type JsonObject, kindOf } from "../utils/json.ts";
import { turnsOfConversation } from "./conversations.ts";
import type { Example, GroundingTarget, Message } from "./example.ts";
import type { Format } from "./format.ts";
import type { ImageResolver } from "./imageReference.ts";
import { turnsOfMessages } from "./messages.ts";
import { checkRowSize, type ValueBudget } from "./rowLimits.ts";
import { isAbsent, type RawMessage, resolveTurns } from "./turns.ts";

export interface Row {
  readonly value: unknown;
  /** File and row, for messages. */
  readonly where: string;
  /** From 1. */
  readonly number: number;
}

export interface RowReading {
  readonly file: string;
  /** Which of the two row formats; null: each row says by its columns. */
  readonly format: Format | null;
  /** The user whose file it is, for rows that name none. */
  readonly user: number | null;
  /** Only these users. */
  readonly users?: readonly number[] | undefined;
  readonly limit: number;
  readonly resolveImage: ImageResolver;
  readonly budget?: ValueBudget;
}

const ROWS_AT_ONCE = 32; // so that pictures from the network come several at a time

/**
 * One example a row; a row is `{"messages": [...]}` or `{"conversations": [...]}` with, where it has them, `images`, `tools`,
 * `user` and `episode`.
 * @throws UserError naming file and row
 */
export async function readRows(rows: AsyncIterable<Row>, reading: RowReading): Promise<Example[]> {
  const examples: Example[] = [];
  const underWay: Promise<Example>[] = [];
  let count = 0;
  for await (const row of rows) {
    count++;
    if (underWay.length >= ROWS_AT_ONCE) await takeFirst(underWay, examples);
    const start = startOf(row, reading);
    if (start !== null) underWay.push(start);
    if (examples.length + underWay.length >= reading.limit) break; // before another row is read
  }
  while (underWay.length > 0) await takeFirst(underWay, examples);
  if (count === 0) throw new UserError(`${reading.file}: empty file; expected rows with "messages" or "conversations"`);
  return examples;
}

async function takeFirst(underWay: Promise<Example>[], examples: Example[]): Promise<void> {
  const first = await underWay.shift();
  if (first !== undefined) examples.push(first);
}

/** null where the row belongs to a user who is not wanted. */
function startOf(row: Row, reading: RowReading): Promise<Example> | null {
  const example = exampleOf(row, reading);
  example?.catch(() => undefined); // it is awaited in its turn: until then, its failure is not an unhandled one
  return example;
}

function exampleOf({ value, where, number }: Row, reading: RowReading): Promise<Example> | null {
  try {
    checkRowSize(value, where, reading.budget);
    if (!isJsonObject(value))
      throw new UserError(`${where}: expected ${expectedOf(reading.format)}, found ${kindOf(value)}`);
    const turns = turnsOf(value, where, reading.format);
    const user = userOf(value, where) ?? (reading.user === null ? null : String(reading.user));
    if (!isWanted(user, reading.users, where)) return null;
    const rest = {
      id: `${basename(reading.file)}:${number}`,
      user,
      ...toolsOf(value, where),
      ...episodeOf(value, where),
    };
    return resolveTurns(turns, { where, resolveImage: reading.resolveImage }).then((messages) => ({
      ...rest,
      messages,
      ...targetOf(messages),
    }));
  } catch (thrown) {
    return Promise.reject(thrown);
  }
}

function turnsOf(row: JsonObject, where: string, format: Format | null): readonly RawMessage[] {
  const names = (["messages", "conversations"] as const).filter((name) => !isAbsent(row[name]));
  const wanted = names.filter(
    (name) => format === null || format === "parquet" || format === "pickle" || format === name,
  );
  if (wanted.length > 1)
    throw new UserError(`${where}: has "messages" and "conversations"; say with --format which of them to read`);
  if (wanted[0] === "messages") return turnsOfMessages(row, where);
  if (wanted[0] === "conversations") return turnsOfConversation(row, where);
  throw new UserError(`${where}: expected ${expectedOf(format)}, found ${describe(row)}`);
}

const expectedOf = (format: Format | null): string =>
  format === "messages" || format === "conversations"
    ? `an object with "${format}"`
    : 'an object with "messages" or "conversations"';

const describe = (row: JsonObject): string => `an object with ${Object.keys(row).slice(0, 8).join(", ") || "nothing"}`;

function userOf({ user }: JsonObject, where: string): string | null {
  if (isAbsent(user)) return null;
  if (typeof user === "string" || typeof user === "number") return String(user);
  throw new UserError(`${where}: user is ${kindOf(user)}; expected a number or a name`);
}

function isWanted(user: string | null, users: readonly number[] | undefined, where: string): boolean {
  if (!users) return true;
  if (user === null)
    throw new UserError(`${where}: users ${ranges(users)} are selected, but this row has no "user"; leave --u out`);
  return users.map(String).includes(user);
}

/** Function descriptions, as a list or as its JSON text (columns of tables often hold that). */
function toolsOf({ tools }: JsonObject, where: string): Pick<Example, "tools"> {
  if (isAbsent(tools)) return {};
  const list = typeof tools === "string" ? parsedTools(tools, where) : tools;
  if (Array.isArray(list) && list.every(isJsonObject)) return { tools: list };
  throw new UserError(`${where}: tools is ${kindOf(tools)}; expected a list of function descriptions`);
}

function parsedTools(tools: string, where: string): unknown {
  try {
    return JSON.parse(tools);
  } catch (cause) {
    throw new UserError(
      `${where}: tools is text but not JSON (${messageOf(cause)}); expected a list of function descriptions`,
      {
        cause,
      },
    );
  }
}

function episodeOf({ episode }: JsonObject, where: string): Pick<Example, "episode"> {
  if (isAbsent(episode)) return {};
  if (typeof episode === "string" || typeof episode === "number") return { episode: String(episode) };
  throw new UserError(`${where}: episode is ${kindOf(episode)}; expected a name or a number`);
}

/** The last answer's click point, where it is a grounding answer: so conversations of the task can be scored. */
function targetOf(messages: readonly Message[]): { readonly target?: GroundingTarget } {
  const content = messages.at(-1)?.role === "assistant" ? (messages.at(-1)?.content ?? "") : "";
  const text =
    typeof content === "string" ? content : content.map((part) => (part.type === "text" ? part.text : "")).join("");
  const target = readGroundingAnswer(text);
  return target === null ? {} : { target };
}
