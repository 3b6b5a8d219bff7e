/**
 * A command: one optional word, perhaps one that must be there, a table of settings and the combinations that cannot be; parsed whole or refused whole.
 * Flags go over a settings file, the file over a preset, that over the defaults.
 */
import { messageOf, UserError } from "./errors.ts";
import { HelpRequested, helpOf, readFlags, type Setting, type Settings, type Source, type Values } from "./flags.ts";
import { type Alternatives, layered } from "./layers.ts";
import { readSettingsFile, type SettingsFileRead } from "./settingsFile.ts";

/** A combination that is refused where `when` holds; `given` asks whether a setting was written. */
export interface Impossible<S extends Settings> {
  readonly when: (values: Values<S>, given: (name: keyof S) => boolean) => boolean;
  /** Says why, and what to do. */
  readonly message: string;
}

/** The word that may stand before the flags. */
export interface FirstWord<T> {
  readonly name: string;
  readonly about: string;
  readonly default: T;
  /** @throws UserError */
  readonly read: (word: string) => T;
}

/** A word that must stand before the flags, behind the first. */
export interface Operand {
  readonly name: string;
  readonly about: string;
}

/** Settings that every command has. */
export interface StartSettings extends Settings {
  readonly config: Setting<string | null>;
  readonly preset: Setting<string | null>;
}

export interface Command<S extends StartSettings, T> {
  readonly name: string;
  readonly about: string;
  readonly examples: readonly string[];
  readonly first: FirstWord<T>;
  readonly operand?: Operand;
  readonly settings: S;
  readonly impossible: readonly Impossible<S>[];
  readonly alternatives: Alternatives;
  /** What a preset sets, where the rest is as in `values`; settings that this command does not have are passed over. */
  readonly presetOf: (preset: string, values: Values<S>) => Readonly<Record<string, unknown>>;
}

export interface CommandRead<S extends Settings, T> {
  readonly values: Values<S>;
  readonly first: T;
  /** Empty where the command has none. */
  readonly operand: string;
  readonly sources: { readonly [K in keyof S]: Source };
  readonly firstSource: Source;
}

/** @throws UserError with one line for each fault, or HelpRequested */
export function parseCommand<S extends StartSettings, T>(
  command: Command<S, T>,
  argv: readonly string[],
): CommandRead<S, T> {
  if (argv.includes("--help") || argv.includes("-h")) throw new HelpRequested(commandHelp(command));
  const { name, settings, alternatives } = command;
  const flags = readFlags(settings, argv);
  const file = readFile(command, flags.given.config);
  const layers = [{ source: "file", given: file.given } as const, { source: "flag", given: flags.given } as const];
  const written = layered(settings, layers, alternatives).values;
  const preset = written.preset === null ? {} : command.presetOf(String(written.preset), written);
  const { values, sources } = layered(settings, [{ source: "preset", given: preset }, ...layers], alternatives);

  const { flagWord, operand, faults: wordFaults } = wordsOf(command, flags.positionals);
  const word = flagWord ?? file.first ?? undefined;
  const first = readFirst(command.first, word);
  const faults = [...file.faults, ...flags.faults, ...first.faults, ...wordFaults];
  for (const { when, message } of command.impossible)
    if (when(values, (key) => sources[key] !== "default")) faults.push(message);
  if (faults.length > 0) throw new UserError(faultText(name, faults));
  const firstSource = word === undefined ? "default" : flagWord === undefined ? "file" : "flag";
  return { values, first: first.value, operand, sources, firstSource };
}

/** The last word is the operand, where there must be one: the first may be left out. */
function wordsOf<S extends StartSettings, T>({ first, operand }: Command<S, T>, positionals: readonly string[]) {
  const last = operand ? positionals.at(-1) : undefined;
  const [flagWord, ...rest] = operand ? positionals.slice(0, -1) : positionals;
  const may = operand ? `the ${first.name} and the ${operand.name}` : `the ${first.name}`;
  const faults = rest.length > 0 ? [`"${rest.join(" ")}": belongs to no flag; only ${may} may stand alone`] : [];
  if (operand && last === undefined) faults.push(`${operand.name}: missing; it ${operand.about}`);
  return { flagWord, operand: last ?? "", faults };
}

const NO_FILE: SettingsFileRead = { given: {}, first: null, faults: [] };

const readFile = <S extends StartSettings, T>({ settings, first }: Command<S, T>, file: unknown): SettingsFileRead =>
  typeof file === "string" ? readSettingsFile(file, settings, first.name) : NO_FILE;

function readFirst<T>(first: FirstWord<T>, word: string | undefined): { value: T; faults: readonly string[] } {
  if (word === undefined) return { value: first.default, faults: [] };
  try {
    return { value: first.read(word), faults: [] };
  } catch (thrown) {
    if (!(thrown instanceof UserError)) throw thrown;
    return { value: first.default, faults: [`${first.name}: ${messageOf(thrown)}`] };
  }
}

function faultText(name: string, faults: readonly string[]): string {
  if (faults.length === 1) return `${name}: ${faults[0]}`;
  return `${name}: ${faults.length} faults\n${faults.map((fault) => `  ${fault}`).join("\n")}`;
}

export function commandHelp<S extends StartSettings, T>({
  name,
  about,
  first,
  operand,
  settings,
  examples,
}: Command<S, T>): string {
  const words = [`[${first.name.toUpperCase()}]`, ...(operand ? [operand.name.toUpperCase()] : []), "[flags]"];
  return [
    `Usage: npx tsx src/${name}.ts ${words.join(" ")}`,
    about,
    [first, ...(operand ? [operand] : [])].map((word) => `${word.name.toUpperCase()} ${word.about}`).join("\n"),
    helpOf(settings),
    `Examples\n${examples.map((line) => `  ${line}`).join("\n")}`,
  ].join("\n\n");
}
