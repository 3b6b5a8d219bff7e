/** A command of flags alone: no device before them, no settings file, no presets. Parsed whole or refused whole. */
import { UserError } from "./errors.ts";
import { flagOf, HelpRequested, helpOf, readFlags, type Settings, type Values } from "./flags.ts";

export interface FlagCommand<S extends Settings> {
  readonly name: string;
  readonly about: string;
  readonly examples: readonly string[];
  readonly settings: S;
  /** Said of a word that stands alone. */
  readonly noWords: string;
  /** Names of settings that must be given, and what they are. */
  readonly needed?: { readonly [name in keyof S]?: string };
}

/** @throws UserError naming all faults, or HelpRequested */
export function parseFlagCommand<S extends Settings>(command: FlagCommand<S>, argv: readonly string[]): Values<S> {
  if (argv.includes("--help") || argv.includes("-h")) throw new HelpRequested(helpText(command));
  const { name, settings, noWords, needed = {} } = command;
  const { given, positionals, faults } = readFlags(settings, argv);
  const words = positionals.map((word) => `"${word}": belongs to no flag; ${noWords}`);
  const missing = Object.entries(needed)
    .map(([key, what]) => ({ flag: flagOf(settings, key), what }))
    .filter(({ flag }) => !argv.some((word) => word === flag || word.startsWith(`${flag}=`)))
    .map(({ flag, what }) => `${flag}: missing; it is ${what}`);
  const all = [...faults, ...words, ...missing].map((fault) => `${name}: ${fault}`);
  if (all.length > 0) throw new UserError(all.join("\n"));
  const defaults = Object.fromEntries(Object.entries(settings).map(([key, setting]) => [key, setting.default]));
  return Object.freeze({ ...defaults, ...given } as Values<S>);
}

const helpText = <S extends Settings>({ name, about, settings, examples, needed = {} }: FlagCommand<S>): string => {
  const must = Object.keys(needed).map((key) => `${flagOf(settings, key)} ${settings[key]?.shown}`);
  return [
    `Usage: npx tsx src/${name}.ts ${[...must, "[flags]"].join(" ")}`,
    about,
    helpOf(settings),
    `Examples\n${examples.map((line) => `  ${line}`).join("\n")}`,
  ].join("\n\n");
};
