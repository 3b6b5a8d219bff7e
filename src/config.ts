/**
 * Every setting of the entries, parsed once, whole and frozen. The tables stand in `config/`: type, default, bounds, flag and
 * one line of why; help text, defaults and bounds come from them alone. Only entries know these types: lower parts receive values.
 */
import {
  EVAL_COMMAND,
  type EVALUATION,
  type PERSON,
  PERSON_COMMAND,
  type PREVIEW,
  PREVIEW_COMMAND,
  type SAVED,
  SAVED_COMMAND,
  TRAIN_COMMAND,
  type TRAINING,
} from "./config/commands.ts";
import { type Device, deviceName } from "./config/devices.ts";
import { BY_MODEL } from "./config/optimizer.ts";
import { PERSON_BY_MODEL } from "./config/person.ts";
import { type CommandRead, parseCommand } from "./utils/command.ts";
import type { Settings, Source, Values } from "./utils/flags.ts";
import { settingsText } from "./utils/settingsText.ts";

export { PIXEL_CAP } from "./config/data.ts";
export { type Device, deviceName, readDevices } from "./config/devices.ts";
export { type MergeConfig, parseMergeConfig } from "./config/merge.ts";
export { parseReportConfig, type ReportConfig } from "./config/report.ts";
export { USER_SPLIT } from "./config/splits.ts";
export { readTargets, readUsers } from "./config/words.ts";

interface Parsed<S extends Settings> {
  readonly devices: readonly Device[];
  /** Where each value came from. */
  readonly sources: { readonly [K in keyof S | "devices"]: Source };
}

/** Settings of `vanillaEval`. `users` is null for "the test users". */
export type EvalConfig = Values<typeof EVALUATION> & Parsed<typeof EVALUATION>;

/**
 * Settings of `finetuneGlobal`, those that depend on others worked out. `resume` is true for "the newest";
 * `loraTargets` is a list of names or one regex, as PEFT's target_modules. Plain data: JSON keeps it whole.
 */
export type TrainConfig = Omit<Values<typeof TRAINING>, ByModel | "checkpointDir" | "trainVision"> & {
  readonly [name in ByModel]: number;
} & {
  readonly checkpointDir: string;
  readonly trainVision: boolean;
} & Parsed<typeof TRAINING>;

/** Settings of `evalCheckpoint`. `model` is the base of an adapter, null for what the adapter says. */
export type SavedConfig = Values<typeof SAVED> & {
  /** What is evaluated. */
  readonly path: string;
} & Omit<Parsed<typeof SAVED>, "sources"> & { readonly sources: Parsed<typeof SAVED>["sources"] & { path: Source } };

type ByModel = keyof typeof PERSON_BY_MODEL.embedded;

/** Settings of `finetunePerson`, those that depend on others worked out. `base` is null for the global run's own folder. */
export type PersonConfig = Omit<Values<typeof PERSON>, ByModel | "checkpointDir"> & {
  readonly [name in ByModel]: number;
} & { readonly checkpointDir: string } & Parsed<typeof PERSON>;

/** Settings of `preview`: those of training, and what to show. `show` is a number of samples or their ids. */
export type PreviewConfig = Omit<TrainConfig, "sources"> &
  Pick<Values<typeof PREVIEW>, "show" | "json" | "html" | "htmlSamples" | "gflops"> & {
    readonly sources: Parsed<typeof PREVIEW>["sources"];
  };

/** @throws UserError naming all faults, or HelpRequested */
export function parseTrainConfig(argv: readonly string[]): TrainConfig {
  const { values, ...read } = parseCommand(TRAIN_COMMAND, argv);
  return deepFrozen({
    devices: read.first,
    ...values,
    ...workedOut(values),
    sources: sourcesOf(values, read, BY_MODEL.embedded.lora),
  });
}

/** @throws UserError naming all faults, or HelpRequested */
export function parsePreviewConfig(argv: readonly string[]): PreviewConfig {
  const { values, ...read } = parseCommand(PREVIEW_COMMAND, argv);
  return deepFrozen({
    devices: read.first,
    ...values,
    ...workedOut(values),
    sources: sourcesOf(values, read, BY_MODEL.embedded.lora),
  });
}

/** Defaults of training that depend on other settings. */
function workedOut(values: Values<typeof TRAINING>) {
  const learning = BY_MODEL[values.model === null ? "embedded" : "other"][values.lora ? "lora" : "full"];
  return {
    lr: values.lr ?? learning.lr,
    warmupSteps: values.warmupSteps ?? learning.warmupSteps,
    epochs: values.epochs ?? learning.epochs,
    batchSize: values.batchSize ?? learning.batchSize,
    accumulation: values.accumulation ?? learning.accumulation,
    checkpointDir: values.checkpointDir ?? `checkpoints/global_agent_${values.lora ? "lora" : "full"}`,
    trainVision: values.trainVision ?? (values.train ? values.train.includes("vision") : !values.lora),
  };
}

/** @throws UserError naming all faults, or HelpRequested */
export function parseEvalConfig(argv: readonly string[]): EvalConfig {
  const { values, ...read } = parseCommand(EVAL_COMMAND, argv);
  return deepFrozen({ devices: read.first, ...values, sources: sourcesOf(values, read, {}) });
}

/** @throws UserError naming all faults, or HelpRequested */
export function parseSavedConfig(argv: readonly string[]): SavedConfig {
  const { values, ...read } = parseCommand(SAVED_COMMAND, argv);
  const sources = { path: "flag" as const, ...sourcesOf(values, read, {}) };
  return deepFrozen({ devices: read.first, path: read.operand, ...values, sources });
}

/** @throws UserError naming all faults, or HelpRequested */
export function parsePersonConfig(argv: readonly string[]): PersonConfig {
  const { values, ...read } = parseCommand(PERSON_COMMAND, argv);
  const learning = PERSON_BY_MODEL[values.model === null ? "embedded" : "other"];
  return deepFrozen({
    devices: read.first,
    ...values,
    lr: values.lr ?? learning.lr,
    warmupSteps: values.warmupSteps ?? learning.warmupSteps,
    epochs: values.epochs ?? learning.epochs,
    batchSize: values.batchSize ?? learning.batchSize,
    accumulation: values.accumulation ?? learning.accumulation,
    checkpointDir: values.checkpointDir ?? "checkpoints/personal",
    sources: sourcesOf(values, read, learning),
  });
}

/** Where values came from. @param ownDefaults named as the settings whose default is the embedded model's own where that trains */
function sourcesOf<S extends Settings>(
  values: Values<S> & { readonly model: string | null },
  { sources, firstSource }: Pick<CommandRead<S, unknown>, "sources" | "firstSource">,
  ownDefaults: object,
): Parsed<S>["sources"] {
  const isOwn = (name: string): boolean =>
    values.model === null && sources[name] === "default" && Object.hasOwn(ownDefaults, name);
  const own = Object.keys(sources).filter(isOwn);
  return { devices: firstSource, ...sources, ...Object.fromEntries(own.map((name) => [name, EMBEDDED_DEFAULT])) };
}

const EMBEDDED_DEFAULT = "embedded-model default" satisfies Source;

type AnyConfig = TrainConfig | EvalConfig | PersonConfig | SavedConfig;

const devicesText = ({ devices }: AnyConfig): string => devices.map(deviceName).join(",");

/** One line a setting: `name = value (default)`, `(preset debug)`, `(file run.toml)` or `(flag)`. */
export function describeConfig(config: AnyConfig): string[] {
  const { sources, ...values } = config;
  const names = { preset: `preset ${config.preset}`, file: `file ${config.config}` };
  const from: Readonly<Record<string, Source>> = { ...sources };
  return Object.entries(values).map(([name, value]) => {
    const shown = name === "devices" ? devicesText(config) : JSON.stringify(value);
    const source = from[name] ?? "default";
    return `${name} = ${shown} (${source === "preset" || source === "file" ? names[source] : source})`;
  });
}

/** The settings as a file for `--config`, which gives the same run again. */
export const trainSettingsText = (config: TrainConfig): string => savedText(TRAIN_COMMAND, config);
export const evalSettingsText = (config: EvalConfig): string => savedText(EVAL_COMMAND, config);
export const savedEvalSettingsText = (config: SavedConfig): string =>
  savedText(SAVED_COMMAND, config, `${JSON.stringify(config.path)} `);
export const personSettingsText = (config: PersonConfig): string => savedText(PERSON_COMMAND, config);

function savedText(
  {
    name,
    settings,
    first,
    alternatives,
  }: Pick<typeof TRAIN_COMMAND, "name" | "alternatives" | "first"> & { settings: Settings },
  config: AnyConfig,
  words = "",
): string {
  return settingsText({
    settings,
    values: { ...config },
    sources: config.sources,
    alternatives,
    first: { key: first.name, word: devicesText(config) },
    about: [
      "All settings of a run. To do it again:",
      `npx tsx src/${name}.ts ${words}--config THIS_FILE`,
      "A flag beside --config counts more than a line here: --checkpoint-dir and --out keep the first run's files.",
    ],
  });
}

function deepFrozen<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === "object" && inner !== null) deepFrozen(inner);
  return Object.freeze(value);
}
