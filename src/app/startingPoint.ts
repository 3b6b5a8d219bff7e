/** What a training run changes, and the values that it starts from. */
import type { Checkpoint } from "../model/checkpoint.ts";
import { groupModules, type ParameterGroup, parametersInside } from "../model/groups.ts";
import { initialValues } from "../model/initialValues.ts";
import type { LoraSettings } from "../model/lora.ts";
import { FULL, FULL_TEXT, type TrainableSpec, trainablesOf } from "../model/trainables.ts";
import { refuseOtherBase } from "../train/adapterBase.ts";
import { readAdapter } from "../train/adapterFiles.ts";
import type { NamedArrays } from "../train/replica.ts";
import { UserError } from "../utils/errors.ts";

/** What an adapter that is trained on has settled. */
type Fixed = "loraR" | "loraAlpha" | "loraTargets" | "useRslora" | "useDora";

export interface StartOptions {
  readonly lora: boolean;
  readonly loraR: number;
  readonly loraAlpha: number;
  readonly loraDropout: number;
  readonly loraTargets: LoraSettings["targetModules"];
  /** Folder of an adapter to train on, or null for a new one. */
  readonly adapter: string | null;
  readonly useRslora: boolean;
  readonly useDora: boolean;
  /** Parts whose own weights train; null: all of a model without an adapter, none beside one. */
  readonly train?: readonly ParameterGroup[] | null;
  /** Where `train` is null: whether the tower and its mergers are among all. */
  readonly trainVision: boolean;
  readonly seed: number;
  /** Which of these the user gave: all but "default". */
  readonly sources: { readonly [name in "loraDropout" | Fixed]: string };
}

export interface StartingPoint {
  readonly spec: TrainableSpec;
  /** null: the checkpoint's own. */
  readonly values: NamedArrays | null;
}

/** @throws UserError when targets match nothing, or an adapter does not fit the model or the flags */
export function startingPoint(options: StartOptions, checkpoint: Checkpoint): StartingPoint {
  if (!options.lora) return { spec: fullSpec(options), values: null };
  if (options.adapter !== null) return fromAdapter(options.adapter, options, checkpoint);
  const spec: TrainableSpec = { kind: "lora", settings: newSettings(options, checkpoint) };
  return { spec, values: initialValues(checkpoint, trainablesOf(checkpoint, spec), options.seed) };
}

/** What would train, without values to start from. @throws as startingPoint */
export function plannedSpec(options: StartOptions, checkpoint: Checkpoint): TrainableSpec {
  if (!options.lora || options.adapter !== null) return startingPoint(options, checkpoint).spec;
  const spec: TrainableSpec = { kind: "lora", settings: newSettings(options, checkpoint) };
  trainablesOf(checkpoint, spec); // refuses targets that match nothing
  return spec;
}

const fullSpec = ({ train = null, trainVision }: StartOptions): TrainableSpec =>
  train ? { kind: "full", groups: train } : trainVision ? FULL : FULL_TEXT;

function newSettings(options: StartOptions, { architecture }: Checkpoint): LoraSettings {
  const { loraR, loraAlpha, loraDropout, loraTargets, useRslora, useDora, train = null } = options;
  return {
    ...{ r: loraR, alpha: loraAlpha, dropout: loraDropout, targetModules: loraTargets },
    ...(useRslora ? { useRslora } : {}),
    ...(useDora ? { useDora } : {}),
    ...(train ? { modulesToSave: groupModules(architecture, train) } : {}),
  };
}

const sorted = (value: unknown): string => JSON.stringify(Array.isArray(value) ? [...value].sort() : value);

/** Rank, scale, kind and targets are the adapter's own; what is dropped while it trains on is this run's affair. */
function fromAdapter(dir: string, options: StartOptions, checkpoint: Checkpoint): StartingPoint {
  refuseOtherBase(dir, checkpoint);
  const read = readAdapter(dir, checkpoint);
  const own = read.settings;
  const owned: { readonly [name in Fixed]: unknown } = {
    ...{ loraR: own.r, loraAlpha: own.alpha, loraTargets: own.targetModules },
    ...{ useRslora: own.useRslora ?? false, useDora: own.useDora ?? false },
  };
  for (const [name, value] of Object.entries(owned)) {
    const asked = options[name as Fixed];
    if (options.sources[name as Fixed] !== "default" && sorted(asked) !== sorted(value))
      throw new UserError(
        `--adapter ${dir}: has ${name} ${JSON.stringify(value)}, the settings ask for ${JSON.stringify(asked)}; leave it out to train this adapter on`,
      );
  }
  const dropout = options.sources.loraDropout !== "default" ? options.loraDropout : own.dropout;
  const settings: LoraSettings = { ...own, dropout, ...trainedBeside(dir, own, options, checkpoint) };
  const spec: TrainableSpec = { kind: "lora", settings };
  if (settings.modulesToSave === own.modulesToSave) return { spec, values: read.values };
  const trainables = trainablesOf(checkpoint, spec);
  const fresh = checkpoint.isPlanned ? [] : initialValues(checkpoint, trainables, null);
  return { spec, values: new Map([...fresh, ...read.values]) };
}

/** What `--train` asks for beside an adapter that brings nothing of the kind; the adapter's own where it does. */
function trainedBeside(
  dir: string,
  { modulesToSave }: LoraSettings,
  { train = null }: StartOptions,
  { architecture }: Checkpoint,
): Pick<LoraSettings, "modulesToSave"> {
  if (train === null) return {};
  const wanted = groupModules(architecture, train);
  const inside = (modules: readonly string[]): string => sorted(parametersInside(architecture, modules));
  if (modulesToSave && inside(modulesToSave) !== inside(wanted))
    throw new UserError(
      `--adapter ${dir}: holds ${modulesToSave.join(", ")} whole, --train asks for ${wanted.join(", ")}; leave --train out to train this adapter on`,
    );
  return { modulesToSave: modulesToSave ?? wanted };
}
