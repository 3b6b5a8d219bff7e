/** The settings of a training run worked out from flags, model and data. */
import { createHash } from "node:crypto";
import type { RemoteEngine } from "../engine/start.ts";
import type { TrainableSpec } from "../model/trainables.ts";
import type { LossNormalization } from "../train/loss.ts";
import { stepsPerEpoch } from "../train/plan.ts";
import type { RunOptions } from "../train/run.ts";
import type { ScheduleKind } from "../train/schedule.ts";
import type { Log } from "../utils/log.ts";
import { elementCount } from "../utils/safetensors.ts";
import type { Model } from "./model.ts";

export interface TrainingSettings {
  readonly checkpointDir: string;
  readonly batchSize: number;
  readonly accumulation: number;
  readonly shuffle: boolean;
  readonly seed: number;
  readonly lossNormalization: LossNormalization;
  readonly schedule: ScheduleKind;
  readonly lr: number;
  readonly warmupSteps: number;
  readonly epochs: number;
  /** null: as many as `epochs` makes. */
  readonly maxSteps: number | null;
  readonly saveSteps: number;
  readonly evalSteps: number;
  readonly keep: number;
}

export interface RunContext {
  readonly model: Model;
  readonly spec: TrainableSpec;
  readonly signal: AbortSignal;
  /** Training samples. */
  readonly examples: number;
  readonly log: Log;
}

export function runOptions(settings: TrainingSettings, { model, spec, signal, examples, log }: RunContext): RunOptions {
  const { checkpointDir, batchSize, accumulation, shuffle, seed, lossNormalization, saveSteps, evalSteps, keep } =
    settings;
  const plan = { examples, batchSize, accumulation, shuffle, seed };
  const totalSteps = settings.maxSteps ?? settings.epochs * stepsPerEpoch(plan);
  const { minPixels, maxPixels } = model.processor.vision;
  const schedule = { kind: settings.schedule, peak: settings.lr, warmupSteps: settings.warmupSteps, totalSteps };
  return {
    runDir: checkpointDir,
    saveSteps,
    evalSteps,
    keep,
    trainer: { ...plan, lossNormalization, signal, schedule },
    lora: spec.kind === "lora" ? spec.settings : null,
    source: { checkpoint: model.checkpoint, baseModel: model.name, pixelBudget: { minPixels, maxPixels } },
    runConfig: { ...settings, minPixels, maxPixels, examples, totalSteps },
    log,
  };
}

/** One line about what is about to happen. */
export async function describeRun(engine: RemoteEngine, { trainer }: RunOptions): Promise<string> {
  const parameters = [...(await engine.trainableShapes()).values()].reduce(
    (sum, shape) => sum + elementCount(shape),
    0,
  );
  const { examples, batchSize, accumulation, schedule } = trainer;
  return `training ${parameters.toLocaleString("en-US")} parameters on ${examples} samples: ${schedule.totalSteps} steps of ${accumulation} micro-batches of ${batchSize}`;
}

/** What tells the trained weights from others, wherever they lie. */
export async function fingerprint(engine: RemoteEngine): Promise<string> {
  const hash = createHash("sha256");
  for (const [name, array] of (await engine.state()).values) hash.update(name).update(array);
  return hash.digest("hex");
}
