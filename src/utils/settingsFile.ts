/** Settings in a TOML file, read by the same table as flags: a key is a flag's name, a section the heading of its group. */
import { readFileSync } from "node:fs";
import { parse, TomlDate, TomlError, type TomlTable, type TomlValue } from "smol-toml";
import { messageOf, UserError } from "./errors.ts";
import { flagOf, readSetting, type Setting, type Settings } from "./flags.ts";
import { nearestName } from "./nearest.ts";

export interface SettingsFileRead {
  /** Value of each setting that was written without a fault. */
  readonly given: Readonly<Record<string, unknown>>;
  /** The word that stands before the flags on a command line, where the file has it. */
  readonly first: string | null;
  /** One line each, with file and line. */
  readonly faults: readonly string[];
}

/** `Model and files` -> `model-and-files`. */
export const sectionOf = (group: string): string => group.toLowerCase().replace(/\W+/g, "-");

interface Place {
  readonly section: string | null;
  readonly key: string;
  readonly value: TomlValue;
}

/**
 * Reads a file by a table. Never throws for what the user wrote: the faults come back with the values.
 * @param firstName key of the word that stands before the flags, as "device"
 */
export function readSettingsFile(file: string, settings: Settings, firstName: string): SettingsFileRead {
  const given: Record<string, unknown> = {};
  const faults: string[] = [];
  let first: string | null = null;
  const text = textOf(file, faults);
  const table = text === null ? null : tableOf(file, text, faults);
  const names = new Map(Object.keys(settings).map((name) => [flagOf(settings, name).slice(2), name]));
  for (const place of table ? placesIn(table, settings) : []) {
    const { section, key, value } = place;
    const name = names.get(key);
    const setting = name === undefined ? undefined : settings[name];
    try {
      if (key === firstName && section === null) first = wordsOf(FIRST, value)[0] ?? "";
      else if (name === undefined || !setting || name === "config")
        throw new UserError(unknownText(place, settings, firstName));
      else if (section !== null && section !== sectionOf(setting.group))
        throw new UserError(`is a setting of [${sectionOf(setting.group)}], not of [${section}]; move it`);
      else
        given[name] = isSwitchedOff(setting, value) ? setting.default : readSetting(setting, wordsOf(setting, value));
    } catch (thrown) {
      if (!(thrown instanceof UserError)) throw thrown;
      const line = lineOf(text ?? "", section === null ? [key] : [section, key]);
      faults.push(`${file}:${line}: ${key}: ${messageOf(thrown)}`);
    }
  }
  return { given, first, faults };
}

const FIRST = { takes: "one", expected: "a text, or a GPU's number" } as const;

function textOf(file: string, faults: string[]): string | null {
  try {
    return readFileSync(file, "utf8")
      .replace(/^\uFEFF/, "")
      .replaceAll("\r\n", "\n");
  } catch (cause) {
    faults.push(`--config: ${file} cannot be read: ${messageOf(cause)}`);
    return null;
  }
}

function tableOf(file: string, text: string, faults: string[]): TomlTable | null {
  try {
    return parse(text, { integersAsBigInt: "asNeeded" });
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const why = cause.message.split("\n")[0]?.replace(/^Invalid TOML document: /, "");
    const line = text.split("\n")[cause.line - 1] ?? "";
    const hint = /^\s*\[/.test(line) && /redefine|already/.test(cause.message) ? `; ${SAME_NAME}` : "";
    faults.push(`${file}:${cause.line}: cannot be read as TOML: ${why}${hint}`);
    return null;
  }
}

const SAME_NAME = "a section stands once, and holds the setting of the same name: write that below it";

const isTable = (value: TomlValue | undefined): value is TomlTable =>
  typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);

/** Every key with the section it stands in. */
function placesIn(table: TomlTable, settings: Settings): Place[] {
  const sections = sectionsOf(settings);
  return Object.entries(table).flatMap(([key, value]): Place[] =>
    isTable(value) && sections.has(key)
      ? Object.entries(value).map(([inner, innerValue]) => ({ section: key, key: inner, value: innerValue }))
      : [{ section: null, key, value }],
  );
}

const sectionsOf = (settings: Settings): Set<string> =>
  new Set(Object.values(settings).map(({ group }) => sectionOf(group)));

function unknownText({ section, key, value }: Place, settings: Settings, firstName: string): string {
  if (key === "config") return "a settings file names no other; give --config on the command line";
  if (key === firstName) return `stands above the first section, not in [${section}]`;
  const isSection = isTable(value);
  const on = Object.entries(settings).find(
    ([name, { takes }]) => takes === "none" && key === `no-${flagOf(settings, name).slice(2)}`,
  );
  if (on) return `write ${key.slice("no-".length)} = false`;
  const flags = Object.keys(settings).map((name) => flagOf(settings, name).slice(2));
  const nearest = nearestName(key, isSection ? sectionsOf(settings) : [firstName, ...flags]);
  const hint = nearest === null ? "see --help" : `did you mean ${isSection ? `[${nearest}]` : nearest}?`;
  return `unknown ${isSection ? "section" : "setting"}; ${hint}`;
}

/** `resume = false`: as if it were not there. */
const isSwitchedOff = (setting: Setting<unknown>, value: TomlValue): boolean =>
  setting.takes === "optional" && value === false;

/** The words that would stand after the flag. @throws UserError for values of another type */
function wordsOf(setting: Pick<Setting<unknown>, "takes" | "words" | "expected">, value: TomlValue): string[] {
  if (setting.takes === "optional" && value === true) return [];
  const values = setting.takes === "many" && Array.isArray(value) ? value : [value];
  const wrong = values.find((one) => !isWord(setting, one));
  if (wrong === undefined) return values.map(String);
  throw new UserError(`expected ${setting.expected ?? defaultExpected(setting)}, got ${typeText(wrong)}`);
}

function isWord({ takes, words }: Pick<Setting<unknown>, "takes" | "words">, value: TomlValue): boolean {
  if (takes === "none") return typeof value === "boolean";
  if (typeof value === "string") return words !== "numbers";
  return (typeof value === "number" || typeof value === "bigint") && words !== "texts";
}

function defaultExpected({ takes, words }: Pick<Setting<unknown>, "takes" | "words">): string {
  const one = words === undefined ? "text or number" : words.slice(0, -1);
  if (takes === "many") return `a ${one} or a list of them`;
  return takes === "optional" ? `true, or a ${one}` : `a ${one}`;
}

function typeText(value: TomlValue): string {
  if (typeof value === "string") return `the text ${JSON.stringify(value.slice(0, 80))}`;
  if (typeof value === "number" || typeof value === "bigint") return `the number ${value}`;
  if (Array.isArray(value)) return "a list";
  if (value instanceof TomlDate) return "a date";
  return isTable(value) ? "a table" : String(value);
}

/** The line on which a key is written: the first line after the longest whole beginning of the text without it. */
function lineOf(text: string, path: readonly string[]): number {
  const lines = text.split("\n");
  let start = 1;
  for (let end = 1; end < lines.length; end++) {
    const table = wholeOrNull(lines.slice(0, end).join("\n"));
    if (table && holds(table, path)) break;
    if (table) start = end + 1;
  }
  return start;
}

function wholeOrNull(text: string): TomlTable | null {
  try {
    return parse(text, { integersAsBigInt: "asNeeded" });
  } catch {
    return null;
  }
}

function holds(table: TomlTable, [key = "", ...rest]: readonly string[]): boolean {
  const inner = Object.hasOwn(table, key) ? table[key] : undefined;
  if (inner === undefined) return false;
  return rest.length === 0 || (isTable(inner) && holds(inner, rest));
}
