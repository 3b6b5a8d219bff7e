/** The settings of a training run worked out from flags, model and data. */
import { createHash } from "node:crypto";
import type { Encoded } from "../collator.ts";
import type { RemoteEngine } from "../engine/start.ts";
import { trainableShapes, trainsVision } from "../model/layers.ts";
import { type MemorySettings, memorySettings } from "../model/memory.ts";
import { type TrainableSpec, trainablesOf } from "../model/trainables.ts";
import { BASE_DIGEST, weightsDigest } from "../train/adapterBase.ts";
import type { MetricName } from "../train/best.ts";
import type { ReportTo } from "../train/journal/journal.ts";
import type { LossNormalization } from "../train/loss.ts";
import { packRows } from "../train/packing.ts";
import { stepsPerEpoch } from "../train/plan.ts";
import { peakRates, type RateSettings } from "../train/rates.ts";
import type { NamedArrays } from "../train/replica.ts";
import type { RunOptions } from "../train/runOptions.ts";
import type { ScheduleKind } from "../train/schedule.ts";
import { required, UserError } from "../utils/errors.ts";
import { isJsonObject, type JsonObject } from "../utils/json.ts";
import type { Log } from "../utils/log.ts";
import { elementCount } from "../utils/safetensors.ts";
import type { Model } from "./model.ts";

export interface TrainingSettings extends RateSettings {
  readonly checkpointDir: string;
  readonly batchSize: number;
  readonly accumulation: number;
  readonly shuffle: boolean;
  readonly groupByLength: boolean;
  readonly seed: number;
  readonly lossNormalization: LossNormalization;
  readonly schedule: ScheduleKind;
  readonly warmupSteps: number;
  readonly epochs: number;
  /** null: as many as `epochs` makes. */
  readonly maxSteps: number | null;
  readonly saveSteps: number;
  readonly evalSteps: number;
  readonly keep: number;
  readonly metricForBestModel: MetricName;
  readonly loadBest: boolean;
  readonly earlyStoppingPatience: number | null;
  readonly earlyStoppingThreshold: number;
  readonly onNonFinite: "stop" | "skip";
  readonly reportTo: ReportTo;
}

export interface RunContext {
  readonly model: Model;
  readonly spec: TrainableSpec;
  readonly signal: AbortSignal;
  /** Training samples, by the row in which they stand. */
  readonly rows: readonly (readonly Encoded[])[];
  readonly log: Log;
}

/** Samples laid side by side in rows no longer than the longest of them, so that attention over a row stays cheap. */
export function packed(encoded: readonly Encoded[]): readonly (readonly Encoded[])[] {
  const rows = packedIndices(encoded.map(({ inputIds }) => inputIds.length));
  return rows.map((row) => row.map((index) => required(encoded[index], `sample ${index}`)));
}

/** @param lengths [n] tokens of each sample  @returns rows of sample indices */
export const packedIndices = (lengths: readonly number[]): number[][] =>
  packRows(
    lengths,
    lengths.reduce((longest, length) => Math.max(longest, length), 0),
  );

const rowLength = (row: readonly Encoded[]): number => row.reduce((sum, { inputIds }) => sum + inputIds.length, 0);

export type PlanSettings = Pick<
  TrainingSettings,
  "batchSize" | "accumulation" | "shuffle" | "groupByLength" | "seed" | "epochs" | "maxSteps"
>;

/** Which rows share a step, and how many steps there are. @param rowLengths tokens of each row */
export function planOf(settings: PlanSettings, rowLengths: readonly number[]) {
  const { batchSize, accumulation, shuffle, seed } = settings;
  const groupedLengths = settings.groupByLength ? rowLengths : null;
  const plan = { rows: rowLengths.length, batchSize, accumulation, shuffle, seed, groupedLengths };
  return { plan, totalSteps: settings.maxSteps ?? settings.epochs * stepsPerEpoch(plan) };
}

/** How the run's graphs save memory; what is only evaluated counts as what is trained on. */
export function memoryOf(
  { batchSize, gradientCheckpointing }: { readonly batchSize: number; readonly gradientCheckpointing: boolean },
  { model: { checkpoint }, spec }: Pick<RunContext, "model" | "spec">,
  rows: readonly (readonly Encoded[])[],
): MemorySettings {
  const most = (of: (row: readonly Encoded[]) => number): number =>
    rows.reduce((max, row) => Math.max(max, of(row)), 0);
  const patchesOf = (row: readonly Encoded[]): number =>
    row.flatMap(({ images }) => images).reduce((sum, { grid: [t, h, w] }) => sum + t * h * w, 0);
  const hasTower = trainsVision(trainablesOf(checkpoint, spec));
  const largest = {
    rows: batchSize,
    tokensPerRow: most(rowLength),
    patches: hasTower ? batchSize * most(patchesOf) : 0,
  };
  return memorySettings(checkpoint.architecture, largest, gradientCheckpointing);
}

export function runOptions(settings: TrainingSettings, { model, spec, signal, rows, log }: RunContext): RunOptions {
  const { checkpointDir, lossNormalization, saveSteps, evalSteps, keep, metricForBestModel, loadBest } = settings;
  const { earlyStoppingPatience: patience, earlyStoppingThreshold: threshold, onNonFinite, reportTo } = settings;
  const { plan, totalSteps } = planOf(settings, rows.map(rowLength));
  const { vision, video } = model.processor;
  const pixelBudget = {
    ...{ minPixels: vision.minPixels, maxPixels: vision.maxPixels },
    ...{ minVideoPixels: video.minPixels, maxVideoPixels: video.maxPixels },
  };
  const names = trainableShapes(model.checkpoint, trainablesOf(model.checkpoint, spec)).keys();
  const { peak, otherPeaks } = peakRates(settings, names);
  const schedule = { kind: settings.schedule, peak, warmupSteps: settings.warmupSteps, totalSteps };
  return {
    runDir: checkpointDir,
    saveSteps,
    evalSteps,
    keep,
    reportTo,
    metricForBestModel,
    loadBest,
    earlyStopping: patience === null ? null : { patience, threshold },
    trainer: { ...plan, lossNormalization, onNonFinite, signal, schedule, otherPeaks },
    lora: spec.kind === "lora" ? spec.settings : null,
    source: { checkpoint: model.checkpoint, baseModel: model.name, pixelBudget },
    runConfig: {
      ...savedSettings(settings),
      ...pixelBudget,
      [BASE_DIGEST]: weightsDigest(model.checkpoint),
      examples: rows.flat().length,
      rows: rows.length,
      totalSteps,
    },
    log,
  };
}

/** Settings as run_config.json keeps them: a run that was resumed leaves the same bytes as one that was not. */
function savedSettings(settings: object): JsonObject {
  const { resume: _, resumeAnyway: __, ...kept }: JsonObject = { ...settings };
  const { sources } = kept;
  return isJsonObject(sources) ? { ...kept, sources: savedSettings(sources) } : kept;
}

/** @throws UserError where the run is to be judged by what will not be measured */
export function refuseUnmeasured(
  { metricForBestModel: metric, earlyStoppingPatience: patience }: TrainingSettings,
  validationExamples: number,
  measured: readonly string[],
): void {
  if (patience !== null && validationExamples === 0)
    throw new UserError(
      "--early-stopping-patience: there are no validation samples to tell when to stop; name some with --val-users, --val-data or --val-fraction, or leave it out",
    );
  if (!measured.includes(metric))
    throw new UserError(
      `--metric-for-best-model ${metric}: is not measured in this run, which measures ${measured.join(", ")}; choose one of these`,
    );
}

/** One line about what is about to happen. */
export async function describeRun(
  engine: RemoteEngine,
  { rows }: Pick<RunContext, "rows">,
  { trainer }: RunOptions,
): Promise<string> {
  const parameters = [...(await engine.trainableShapes()).values()].reduce(
    (sum, shape) => sum + elementCount(shape),
    0,
  );
  const { batchSize, accumulation, schedule } = trainer;
  const samples = rows.flat().length;
  const inRows = samples === rows.length ? "" : ` in ${rows.length} rows`;
  return `training ${parameters.toLocaleString("en-US")} parameters on ${samples} samples${inRows}: ${schedule.totalSteps} steps of ${accumulation} micro-batches of ${batchSize}${dealtTo(await engine.lanes(), accumulation)}`;
}

function dealtTo(devices: number, microBatches: number): string {
  if (devices === 1) return "";
  const idle = devices - microBatches;
  return `, dealt to ${devices} devices${idle > 0 ? `, ${idle} of which will have nothing to do (raise --accumulation)` : ""}`;
}

/** What tells the trained weights, as they are saved, from others, wherever they lie. */
export async function fingerprint(engine: RemoteEngine): Promise<string> {
  const { values, average } = await engine.state();
  return digestOf(average ?? values);
}

export function digestOf(values: NamedArrays): string {
  const hash = createHash("sha256");
  for (const [name, array] of values) hash.update(name).update(array);
  return hash.digest("hex");
}
