/** The frozen linear layers of a run's model in few bits, where the run wants them so. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Checkpoint, withQuantised } from "../model/checkpoint.ts";
import { trainsVision } from "../model/layers.ts";
import { cacheRoots } from "../model/quantised/keptFile.ts";
import { KINDS, type QuantKind } from "../model/quantised/matrix.ts";
import { partsFor, type QuantPart } from "../model/quantised/parts.ts";
import { type QuantisedFiles, quantisedFiles } from "../model/quantised/store.ts";
import { type TrainableSpec, trainablesOf } from "../model/trainables.ts";
import { type Device, deviceName } from "../runtime/device.ts";
import { RUN_CONFIG } from "../train/checkpointReader.ts";
import { UserError } from "../utils/errors.ts";
import { readJsonObject } from "../utils/json.ts";
import type { Log } from "../utils/log.ts";
import { type Progress, startProgress } from "../utils/progress.ts";
import type { Model } from "./model.ts";

export interface QuantUse {
  /** null: weights as stored. */
  readonly kind: QuantKind | null;
  /** What trains, or the kind of adapter that is used. */
  readonly spec: TrainableSpec;
  /** null where nothing trains. */
  readonly training: { readonly gradientCheckpointing: boolean } | null;
  readonly answers: boolean;
  readonly devices: readonly Device[];
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** Plain data for the engine, and the model whose graphs take the files. */
export interface QuantisedModel {
  readonly model: Model;
  readonly quantised: QuantisedFiles | null;
}

/**
 * Finds the weights in few bits, or makes them, which for a large model takes minutes once.
 * @throws UserError where a device has no kernels for them, or they cannot be kept anywhere; Interrupted
 */
export async function inFewBits(model: Model, { kind, log, signal, ...use }: QuantUse): Promise<QuantisedModel> {
  if (kind === null) return { model, quantised: null };
  const other = use.devices.find((device) => device.kind !== "cpu");
  if (other)
    throw new UserError(
      `--base-quant ${kind}: products of few bits are computed on the CPU alone, and device ${deviceName(other)} was named; name cpu, or leave the flag out (--base-quant none where a run was trained with it)`,
    );
  const { checkpoint } = model;
  const parts = partsOfRun(checkpoint, use);
  const shown = showing(kind, log);
  try {
    const onNote = (message: string): void => log.warn(message);
    const roots = model.name === null ? cacheRoots(model.dir).slice(1) : cacheRoots(model.dir); // a package is not written into
    const making = { kind, parts, roots, onProgress: shown.update, onNote, signal };
    const quantised = await quantisedFiles(checkpoint, making);
    return { model: { ...model, checkpoint: withQuantised(checkpoint, quantised) }, quantised };
  } finally {
    shown.stop();
  }
}

/** @param checkpoint as it is stored */
export function partsOfRun(
  checkpoint: Checkpoint,
  { spec, training, answers }: Pick<QuantUse, "spec" | "training" | "answers">,
): readonly QuantPart[] {
  const differentiated = trainsVision(trainablesOf(checkpoint, spec)) ? "tower" : "text";
  const savesMemory = training?.gradientCheckpointing ?? false;
  return partsFor(checkpoint.architecture, { trains: training ? differentiated : "nothing", answers, savesMemory });
}

const WHAT: { readonly [part in QuantPart]: string } = {
  text: "language layers",
  "text.transposed": "language layers for gradients",
  "text.turned": "language layers for fast gradients",
  vision: "vision tower",
  "vision.transposed": "vision tower for gradients",
  head: "head",
};

/** A bar, or lines, for each part that has to be made, in millions of weights. */
function showing(kind: QuantKind, log: Log) {
  let current: { readonly part: QuantPart; readonly progress: Progress } | null = null;
  return {
    update({ part, done, total }: { readonly part: QuantPart; readonly done: number; readonly total: number }): void {
      if (current?.part !== part) {
        current?.progress.stop();
        const title = `${kind} weights, ${WHAT[part]} (millions)`;
        current = { part, progress: startProgress({ log, title, total: inMillions(total) }) };
      }
      current.progress.update(inMillions(done));
    },
    stop: (): void => current?.progress.stop(),
  };
}

const inMillions = (count: number): number => Math.ceil(count / 1e6);

/**
 * How the weights are held under what a run has saved.
 * @param dir folder of the run; null where there is none
 * @param asked none: as stored, whatever the run did; null: as the run did
 */
export function quantOfRun(dir: string | null, asked: QuantKind | "none" | null): QuantKind | null {
  if (asked !== null) return asked === "none" ? null : asked;
  const file = dir === null ? null : join(dir, RUN_CONFIG);
  if (file === null || !existsSync(file)) return null;
  const { baseQuant } = readJsonObject(file, "it holds the settings of the run");
  return KINDS.find((kind) => kind === baseQuant) ?? null;
}
