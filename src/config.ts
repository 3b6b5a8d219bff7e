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
  TRAIN_COMMAND,
  type TRAINING,
} from "./config/commands.ts";
import { type Device, deviceName } from "./config/devices.ts";
import { BY_MODEL } from "./config/optimizer.ts";
import { PERSON_BY_MODEL } from "./config/person.ts";
import { parseCommand } from "./utils/command.ts";
import type { Settings, Source, Values } from "./utils/flags.ts";

export { PIXEL_CAP } from "./config/data.ts";
export { type Device, deviceName, readDevices } from "./config/devices.ts";
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
export type TrainConfig = Omit<Values<typeof TRAINING>, "lr" | "warmupSteps" | "checkpointDir" | "trainVision"> & {
  readonly lr: number;
  readonly warmupSteps: number;
  readonly checkpointDir: string;
  readonly trainVision: boolean;
} & Parsed<typeof TRAINING>;

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
  const { values, first: devices, sources, firstSource } = parseCommand(TRAIN_COMMAND, argv);
  return deepFrozen({ devices, ...values, ...workedOut(values), sources: { devices: firstSource, ...sources } });
}

/** @throws UserError naming all faults, or HelpRequested */
export function parsePreviewConfig(argv: readonly string[]): PreviewConfig {
  const { values, first: devices, sources, firstSource } = parseCommand(PREVIEW_COMMAND, argv);
  return deepFrozen({ devices, ...values, ...workedOut(values), sources: { devices: firstSource, ...sources } });
}

/** Defaults of training that depend on other settings. */
function workedOut(values: Values<typeof TRAINING>) {
  const learning = BY_MODEL[values.model === null ? "embedded" : "other"][values.lora ? "lora" : "full"];
  return {
    lr: values.lr ?? learning.lr,
    warmupSteps: values.warmupSteps ?? learning.warmupSteps,
    checkpointDir: values.checkpointDir ?? `checkpoints/global_agent_${values.lora ? "lora" : "full"}`,
    trainVision: values.trainVision ?? !values.lora,
  };
}

/** @throws UserError naming all faults, or HelpRequested */
export function parseEvalConfig(argv: readonly string[]): EvalConfig {
  const { values, first: devices, sources, firstSource } = parseCommand(EVAL_COMMAND, argv);
  return deepFrozen({ devices, ...values, sources: { devices: firstSource, ...sources } });
}

/** @throws UserError naming all faults, or HelpRequested */
export function parsePersonConfig(argv: readonly string[]): PersonConfig {
  const { values, first: devices, sources, firstSource } = parseCommand(PERSON_COMMAND, argv);
  const learning = PERSON_BY_MODEL[values.model === null ? "embedded" : "other"];
  return deepFrozen({
    devices,
    ...values,
    lr: values.lr ?? learning.lr,
    warmupSteps: values.warmupSteps ?? learning.warmupSteps,
    epochs: values.epochs ?? learning.epochs,
    batchSize: values.batchSize ?? learning.batchSize,
    accumulation: values.accumulation ?? learning.accumulation,
    checkpointDir: values.checkpointDir ?? "checkpoints/personal",
    sources: { devices: firstSource, ...sources },
  });
}

/** One line a setting: `name = value (default)` or `(flag)`. */
export function describeConfig(config: TrainConfig | EvalConfig | PersonConfig): string[] {
  const { sources, ...values } = config;
  const from: Readonly<Record<string, Source>> = sources;
  return Object.entries(values).map(([name, value]) => {
    const shown = name === "devices" ? config.devices.map(deviceName).join(",") : JSON.stringify(value);
    return `${name} = ${shown} (${from[name]})`;
  });
}

function deepFrozen<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === "object" && inner !== null) deepFrozen(inner);
  return Object.freeze(value);
}
