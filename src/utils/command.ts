/** A command: one optional word, a table of settings and the combinations that cannot be; parsed whole or refused whole. */
import { messageOf, UserError } from "./errors.ts";
import { HelpRequested, helpOf, readFlags, type Settings, type Source, type Values } from "./flags.ts";

/** A combination that is refused where `when` holds; `given` asks whether a flag was written. */
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

export interface Command<S extends Settings, T> {
  readonly name: string;
  readonly about: string;
  readonly examples: readonly string[];
  readonly first: FirstWord<T>;
  readonly settings: S;
  readonly impossible: readonly Impossible<S>[];
}

export interface CommandRead<S extends Settings, T> {
  readonly values: Values<S>;
  readonly first: T;
  readonly sources: { readonly [K in keyof S]: Source };
  readonly firstSource: Source;
}

/** @throws UserError with one line for each fault, or HelpRequested */
export function parseCommand<S extends Settings, T>(
  command: Command<S, T>,
  argv: readonly string[],
): CommandRead<S, T> {
  if (argv.includes("--help") || argv.includes("-h")) throw new HelpRequested(commandHelp(command));
  const { values, sources, positionals, faults: flagFaults } = readFlags(command.settings, argv);
  const [word, ...rest] = positionals;
  const { value: first, faults: firstFaults } = readFirst(command.first, word);
  const faults = [...flagFaults, ...firstFaults];
  if (rest.length > 0)
    faults.push(`"${rest.join(" ")}": belongs to no flag; only the ${command.first.name} may stand alone`);
  for (const { when, message } of command.impossible) {
    if (when(values, (name) => sources[name] === "flag")) faults.push(message);
  }
  if (faults.length > 0) throw new UserError(faultText(command.name, faults));
  return { values, first, sources, firstSource: word === undefined ? "default" : "flag" };
}

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

export function commandHelp<S extends Settings, T>({ name, about, first, settings, examples }: Command<S, T>): string {
  return [
    `Usage: npx tsx src/${name}.ts [${first.name.toUpperCase()}] [flags]`,
    about,
    `${first.name.toUpperCase()} ${first.about}`,
    helpOf(settings),
    `Examples\n${examples.map((line) => `  ${line}`).join("\n")}`,
  ].join("\n\n");
}
