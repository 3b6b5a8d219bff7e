/** What a training run changes, and the values that it starts from. */
import type { Checkpoint } from "../model/checkpoint.ts";
import { initialValues } from "../model/initialValues.ts";
import type { LoraSettings } from "../model/lora.ts";
import { type TrainableSpec, trainablesOf } from "../model/trainables.ts";
import { refuseOtherBase } from "../train/adapterBase.ts";
import { readAdapter } from "../train/adapterFiles.ts";
import type { NamedArrays } from "../train/replica.ts";
import { UserError } from "../utils/errors.ts";

export interface StartOptions {
  readonly lora: boolean;
  readonly loraR: number;
  readonly loraAlpha: number;
  readonly loraDropout: number;
  readonly loraTargets: LoraSettings["targetModules"];
  /** Folder of an adapter to train on, or null for a new one. */
  readonly adapter: string | null;
  readonly trainVision: boolean;
  readonly seed: number;
  /** Which of these the user gave: all but "default". */
  readonly sources: { readonly [name in "loraR" | "loraAlpha" | "loraDropout" | "loraTargets"]: string };
}

export interface StartingPoint {
  readonly spec: TrainableSpec;
  /** null: the checkpoint's own. */
  readonly values: NamedArrays | null;
}

/** @throws UserError when targets match nothing, or an adapter does not fit the model or the flags */
export function startingPoint(options: StartOptions, checkpoint: Checkpoint): StartingPoint {
  if (!options.lora) return { spec: { kind: "full", vision: options.trainVision }, values: null };
  if (options.adapter !== null) return fromAdapter(options.adapter, options, checkpoint);
  const spec: TrainableSpec = { kind: "lora", settings: newSettings(options) };
  return { spec, values: initialValues(checkpoint, trainablesOf(checkpoint, spec), options.seed) };
}

/** What would train, without values to start from. @throws as startingPoint */
export function plannedSpec(options: StartOptions, checkpoint: Checkpoint): TrainableSpec {
  if (!options.lora || options.adapter !== null) return startingPoint(options, checkpoint).spec;
  const spec: TrainableSpec = { kind: "lora", settings: newSettings(options) };
  trainablesOf(checkpoint, spec); // refuses targets that match nothing
  return spec;
}

const newSettings = ({ loraR, loraAlpha, loraDropout, loraTargets }: StartOptions): LoraSettings => ({
  ...{ r: loraR, alpha: loraAlpha, dropout: loraDropout, targetModules: loraTargets },
});

/** Rank, scale and targets are the adapter's own; what is dropped while it trains on is this run's affair. */
function fromAdapter(dir: string, options: StartOptions, checkpoint: Checkpoint): StartingPoint {
  refuseOtherBase(dir, checkpoint);
  const { settings, values } = readAdapter(dir, checkpoint);
  const { sources, loraR, loraAlpha, loraTargets, loraDropout } = options;
  const asked = {
    loraR: [loraR, settings.r],
    loraAlpha: [loraAlpha, settings.alpha],
    loraTargets: [loraTargets, settings.targetModules],
  } as const;
  const sorted = (value: unknown): string => JSON.stringify(Array.isArray(value) ? [...value].sort() : value);
  for (const [name, [flag, own]] of Object.entries(asked)) {
    if (sources[name as keyof typeof asked] !== "default" && sorted(flag) !== sorted(own))
      throw new UserError(
        `--adapter ${dir}: has ${name} ${JSON.stringify(own)}, the settings ask for ${JSON.stringify(flag)}; leave it out to train this adapter on`,
      );
  }
  const dropout = sources.loraDropout !== "default" ? loraDropout : settings.dropout;
  return { spec: { kind: "lora", settings: { ...settings, dropout } }, values };
}
