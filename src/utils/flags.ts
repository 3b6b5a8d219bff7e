/**
 * Command-line flags from a table of settings: each row gives type, default, bounds and one line of why, and from the
 * rows come the reader, the faults and the help text. All faults of a command line are found together.
 */
import yargs from "yargs";
import { messageOf, UserError } from "./errors.ts";
import { nearestName } from "./nearest.ts";

/** Thrown for `--help`: entries print its message on stdout and end with exit code 0. */
export class HelpRequested extends Error {
  override readonly name = "HelpRequested";
}

/** One row of a table of settings. Its flag is the row's name in kebab case unless `flag` says otherwise. */
export interface Setting<T> {
  readonly group: string;
  readonly why: string;
  readonly default: T;
  /** What the default stands for, where its value does not say it. */
  readonly defaultText?: string;
  /** What stands after the flag in the help text; empty for a switch. */
  readonly shown: string;
  readonly flag?: string;
  /** How many words belong to the flag: none, one, one or none, any number. */
  readonly takes: "none" | "one" | "optional" | "many";
  /** What the words are where a file tells numbers from texts; either, where this is left out. */
  readonly words?: "numbers" | "texts";
  /** What must be written, as messages say it. */
  readonly expected?: string;
  /** Says how a run is begun, not what it is: stands in no saved settings. */
  readonly isUnsaved?: boolean;
  /** @throws UserError saying what was expected and what came; the flag's name is put before it */
  readonly read: (words: readonly string[]) => T;
}

export type Settings = Readonly<Record<string, Setting<unknown>>>;
export type Values<S extends Settings> = { readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never };
/** Where a value came from, the weakest first. */
export type Source = "default" | "embedded-model default" | "preset" | "file" | "flag";

interface Told<T> {
  readonly group: string;
  readonly why: string;
  readonly default: T;
  readonly defaultText?: string;
  readonly shown?: string;
  readonly flag?: string;
  readonly isUnsaved?: boolean;
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

export interface Bounds {
  readonly min?: number;
  readonly max?: number;
  /** Leaves out `min` itself, or `max` itself. */
  readonly above?: number;
  readonly below?: number;
}

/** @throws UserError unless `word` is a number within the bounds */
export function readNumber(word: string, bounds: Bounds, isWhole: boolean): number {
  const value = Number(word);
  const { min = -Infinity, max = Infinity, above = -Infinity, below = Infinity } = bounds;
  const isInside = value >= min && value <= max && value > above && value < below;
  if (NUMBER.test(word) && isInside && (!isWhole || Number.isSafeInteger(value))) return value;
  throw new UserError(`expected ${boundsText(bounds, isWhole)}, got "${word}"`);
}

function boundsText(bounds: Bounds, isWhole: boolean): string {
  const parts = [
    bounds.min === undefined ? null : `at least ${bounds.min}`,
    bounds.above === undefined ? null : `above ${bounds.above}`,
    bounds.max === undefined ? null : `at most ${bounds.max}`,
    bounds.below === undefined ? null : `below ${bounds.below}`,
  ].filter((part) => part !== null);
  return [isWhole ? "a whole number" : "a number", parts.join(" and ")].join(" ").trim();
}

const only = (words: readonly string[]): string => words[0] ?? "";

export function number<D extends number | null>(told: Told<D> & Bounds): Setting<D | number> {
  return numeric({ shown: "X", ...told }, false);
}

export function whole<D extends number | null>(told: Told<D> & Bounds): Setting<D | number> {
  return numeric({ shown: "N", ...told }, true);
}

function numeric<D extends number | null>(
  told: Told<D> & Bounds & { readonly shown: string },
  isWhole: boolean,
): Setting<D | number> {
  const expected = boundsText(told, isWhole);
  return { ...told, takes: "one", words: "numbers", expected, read: (words) => readNumber(only(words), told, isWhole) };
}

/** Any text that is not empty: a path, a name. */
export function text<D extends string | null>(told: Told<D>): Setting<D | string> {
  return { shown: "TEXT", ...told, takes: "one", words: "texts", expected: "a text", read: only };
}

export function choice<const C extends string, const D extends C | null = C>(
  told: Told<D> & { readonly of: readonly C[] },
): Setting<D | C> {
  const expected = `one of ${told.of.join(", ")}`;
  const read = (words: readonly string[]): C => {
    const found = told.of.find((name) => name === only(words));
    if (found !== undefined) return found;
    throw new UserError(`expected ${expected}, got "${only(words)}"`);
  };
  return { shown: told.of.join("|"), ...told, takes: "one", words: "texts", expected, read };
}

/** On or off: `--name` and `--no-name`. */
export function toggle<D extends boolean | null>(told: Told<D>): Setting<D | boolean> {
  const read = (words: readonly string[]): boolean => {
    if (only(words) === "true" || only(words) === "false") return only(words) === "true";
    throw new UserError(`is a switch and takes no value, got "${only(words)}"`);
  };
  return { shown: "", ...told, takes: "none", expected: "true or false", read };
}

export const kebabOf = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
export const flagOf = (settings: Settings, name: string): string => `--${settings[name]?.flag ?? kebabOf(name)}`;

export interface FlagsRead {
  /** Value of each setting that was written without a fault. */
  readonly given: Readonly<Record<string, unknown>>;
  /** Words that belong to no flag, in order. */
  readonly positionals: readonly string[];
  /** One line each. */
  readonly faults: readonly string[];
}

/** Reads a command line by a table. Never throws for what the user wrote: the faults come back with the values. */
export function readFlags(settings: Settings, argv: readonly string[]): FlagsRead {
  const parsed = splitWords(settings, argv);
  const faults = [...unknownFlags(settings, argv, Object.keys(parsed.words))];
  const given: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(settings)) {
    const flag = flagOf(settings, name);
    const words = parsed.words[flag.slice(2)];
    if (words === undefined) continue;
    try {
      given[name] = readSetting(setting, words);
    } catch (thrown) {
      if (!(thrown instanceof UserError)) throw thrown;
      faults.push(`${flag}: ${messageOf(thrown)}`);
    }
  }
  return { given, positionals: parsed.positionals, faults };
}

/** @throws UserError saying what was expected and what came */
export function readSetting(setting: Setting<unknown>, words: readonly string[]): unknown {
  const given = words.filter((word) => word !== "");
  if (setting.takes !== "many" && words.length > 1) throw new UserError(`given ${words.length} times; give it once`);
  if (given.length === 0 && setting.takes !== "optional") throw new UserError(`needs a value (${setting.shown})`);
  return setting.read(given);
}

/** Flag name without dashes -> its words as text, and the words that belong to no flag. Knows no types and no faults. */
function splitWords(settings: Settings, argv: readonly string[]) {
  const names = (takes: readonly string[]): string[] =>
    Object.keys(settings)
      .filter((name) => takes.includes(settings[name]?.takes ?? ""))
      .map((name) => flagOf(settings, name).slice(2));
  const switches = names(["none"]);
  // yargs' own strict mode stops at the first fault and turns text into numbers; here it only cuts the line into words
  const { _: positionals, ...rest } = yargs([...argv])
    .help(false)
    .version(false)
    .parserConfiguration({
      "boolean-negation": false,
      "camel-case-expansion": false,
      "dot-notation": false,
      "parse-numbers": false,
      "parse-positional-numbers": false,
      "short-option-groups": false,
    })
    .boolean(["help", ...switches, ...switches.map((name) => `no-${name}`)])
    .string(names(["one", "optional", "many"]))
    .array(names(["many"]))
    .parseSync();
  const words: Record<string, readonly string[]> = {};
  for (const [name, value] of Object.entries(rest)) {
    if (name !== "$0") words[name] = Array.isArray(value) ? value.map(String) : [String(value)];
  }
  for (const name of switches) {
    const written = switchWords(name, argv);
    if (written.length > 0) words[name] = written;
    delete words[`no-${name}`];
  }
  return { words, positionals: positionals.map(String) };
}

/** "true" for each `--name`, "false" for `--no-name` and `--name false`; of `--name=word` the word, which yargs would read as false. */
function switchWords(name: string, argv: readonly string[]): string[] {
  return argv.flatMap((word, i) => {
    if (word === `--${name}`) return [argv[i + 1] === "false" ? "false" : "true"];
    if (word === `--no-${name}`) return ["false"];
    return new RegExp(`^--(no-)?${name}=`).test(word) ? [word.slice(word.indexOf("=") + 1)] : [];
  });
}

function* unknownFlags(settings: Settings, argv: readonly string[], names: readonly string[]): Generator<string> {
  const known = new Set(["help", ...Object.keys(settings).map((name) => flagOf(settings, name).slice(2))]);
  const switches = Object.keys(settings).filter((name) => settings[name]?.takes === "none");
  const spellings = [...known, ...switches.map((name) => `no-${flagOf(settings, name).slice(2)}`)];
  const oneDash = argv.filter((word) => /^-[a-z]/i.test(word)).map((word) => word.replace(/=.*/s, ""));
  const unknown = names.filter((name) => !known.has(name) && !oneDash.includes(`-${name}`));
  for (const word of [...unknown.map((name) => `--${name}`), ...oneDash]) {
    const nearest = nearestName(word.replace(/^-+/, ""), spellings);
    const hint = nearest ? `did you mean --${nearest}?` : "see --help";
    yield `${word}: ${word.startsWith("--") ? "unknown flag" : "flags start with two dashes"}; ${hint}`;
  }
}

/** The table as help text, by groups in the order of first appearance, wrapped to `width` columns. */
export function helpOf(settings: Settings, width = 110): string {
  const groups = new Map<string, string[]>();
  for (const [name, setting] of Object.entries(settings)) {
    const lines = groups.get(setting.group) ?? [];
    groups.set(setting.group, [...lines, helpLine(flagOf(settings, name), setting, width)]);
  }
  return [...groups].map(([group, lines]) => `${group}\n${lines.join("\n")}`).join("\n\n");
}

const FLAG_COLUMN = 36;

function helpLine(flag: string, setting: Setting<unknown>, width: number): string {
  const isOnByDefault = setting.takes === "none" && setting.default === true;
  const name = isOnByDefault ? flag.replace("--", "--no-") : flag;
  const head = `  ${name} ${setting.shown}`.trimEnd();
  const isPlainSwitch = setting.takes === "none" && setting.defaultText === undefined;
  const about = isPlainSwitch ? setting.why : `${setting.why} (default: ${defaultTextOf(setting)})`;
  const indent = " ".repeat(FLAG_COLUMN);
  const body = wrapped(about, width - FLAG_COLUMN).join(`\n${indent}`);
  return head.length < FLAG_COLUMN ? head.padEnd(FLAG_COLUMN) + body : `${head}\n${indent}${body}`;
}

const defaultTextOf = ({ defaultText, default: value }: Setting<unknown>): string =>
  defaultText ?? (Array.isArray(value) ? value.join(" ") : String(value ?? "none"));

/** Breaks text into lines of at most `width` characters, between words. */
export function wrapped(line: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of line.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
