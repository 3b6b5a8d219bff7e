/**
 * What a training run will take: steps from the plan that the run itself follows, arithmetic and memory from the graphs
 * that it will open, time from what the machine was seen to do. docs/planning.md compares it with measurements.
 */
import { DEFAULT_FEATURE_BYTES, MAX_PATCHES_A_RUN } from "../../engine/pictures.ts";
import { filledLengths } from "../../engine/rowPadding.ts";
import { type Cost, costOf, type Lengths, peakBytes, weightMemory } from "../../graph/cost.ts";
import type { Graph } from "../../graph/graph.ts";
import type { Checkpoint } from "../../model/checkpoint.ts";
import { decoderGraph, evalGraph, trainingGraph, visionGraph } from "../../model/graphs.ts";
import { trainableShapes, trainsVision } from "../../model/layers.ts";
import { type MemorySettings, memorySettings } from "../../model/memory.ts";
import { type TrainableSpec, trainablesOf } from "../../model/trainables.ts";
import type { OptimName } from "../../train/moments.ts";
import { planSteps, stepsPerEpoch } from "../../train/plan.ts";
import { required } from "../../utils/errors.ts";
import { elementCount } from "../../utils/safetensors.ts";
import { type PlanSettings, packedIndices, planOf } from "../trainingRun.ts";
import { fileRoom } from "../visionCache.ts";
import { type Machine, secondsOf } from "./machine.ts";
import type { SampleFacts } from "./survey.ts";

export interface ForecastSettings extends PlanSettings {
  readonly packing: boolean;
  readonly optim?: OptimName;
  readonly visionCacheGb?: number | null;
  readonly gradientCheckpointing: boolean;
  readonly evalSteps: number;
  readonly evalBatchSize: number;
}

export interface ForecastInput {
  readonly checkpoint: Checkpoint;
  readonly spec: TrainableSpec;
  /** Samples that the run takes, by split. */
  readonly train: readonly SampleFacts[];
  readonly validation: readonly SampleFacts[];
  readonly test: readonly SampleFacts[];
}

export interface Forecast {
  readonly rows: number;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
  /** Tokens of a micro-batch that are padding, as a share. */
  readonly paddingShare: number;
  readonly parameters: number;
  /** Of training with its pictures and validation losses; answering the test samples is left out. */
  readonly seconds: { readonly steps: number; readonly pictures: number; readonly validation: number };
  readonly flops: number;
  /** Bytes at the peak, by what holds them, answering the test samples included. */
  readonly memory: Readonly<Record<MemoryPart, number>>;
}

export type MemoryPart = "program" | "weights" | "training" | "values" | "pictures" | "features" | "data" | "answering";

const PROGRAM_BYTES = 200e6; // Node.js, the runtime, tokenizer and template
const ARENA_FACTOR = 1.35; // the runtime's memory pool grows in powers of two and has gaps; 1.25 to 1.5 were seen
/** Value, gradient in double, what the optimizer remembers, and copies of value and gradient on their way. */
const BYTES_A_VALUE: Readonly<Record<OptimName, number>> = { adamw_torch: 28, adamw_8bit: 22, adafactor: 20 };
const SECONDS_A_GRADIENT = 1.5e-9; // adding one to what is accumulated
const SECONDS_AN_UPDATE = 10e-9; // of one value by the optimizer

/** Rows of a micro-batch filled up to the longest. */
interface MicroBatch {
  readonly lengths: Lengths;
  readonly tokens: number;
}

interface Costed {
  readonly graph: Graph;
  readonly seconds: (lengths: Lengths) => number;
  readonly flops: (lengths: Lengths) => number;
}

export function forecastOf(input: ForecastInput, settings: ForecastSettings, machine: Machine): Forecast {
  const plan = plannedRun(input.train, settings);
  const validations = input.validation.length === 0 ? 0 : Math.floor(plan.totalSteps / settings.evalSteps);
  const seen = { ...input, train: plan.samples, validation: validations > 0 ? input.validation : [] };
  const saving = savingOf(input, settings);
  const work = workOf(seen, { ...settings, saving }, (graph) => costedOf(graph, machine, saving));
  const { training, pictures, evaluation, parameters } = work;
  const { batches, epochs, totalSteps } = plan;
  const aBatch = ({ lengths }: MicroBatch): number => training.seconds(lengths) + parameters * SECONDS_A_GRADIENT;
  const passes = pictures === null ? 0 : pictures.isKept ? 1 : Math.max(1, epochs);
  return {
    rows: plan.rows,
    totalSteps,
    stepsPerEpoch: plan.perEpoch,
    paddingShare: 1 - sum(batches, ({ tokens }) => tokens) / sum(batches, ({ lengths: { B = 0, T = 0 } }) => B * T),
    parameters,
    seconds: {
      steps: epochs * sum(batches, aBatch) + totalSteps * parameters * SECONDS_AN_UPDATE,
      pictures: passes * (pictures?.seconds ?? 0),
      validation: validations * (evaluation?.seconds ?? 0),
    },
    flops: epochs * sum(batches, ({ lengths }) => training.flops(lengths)) + passes * (pictures?.flops ?? 0),
    memory: memoryOf({ ...settings, ...seen }, batches, work),
  };
}

/** As `memoryOf` decides it for the run. */
function savingOf(
  { checkpoint, spec, train, validation }: ForecastInput,
  { batchSize, gradientCheckpointing }: ForecastSettings,
): MemorySettings {
  const samples = [...train, ...validation];
  const hasTower = trainsVision(trainablesOf(checkpoint, spec));
  const patches = checkpoint.architecture.vision.mergeSize ** 2 * most(samples, ({ imageTokens }) => imageTokens);
  const largest = {
    rows: batchSize,
    tokensPerRow: most(samples, ({ length }) => length),
    patches: hasTower ? batchSize * patches : 0,
  };
  return memorySettings(checkpoint.architecture, largest, gradientCheckpointing);
}

/** The micro-batches of one pass; the first pass stands for all. */
function plannedRun(train: readonly SampleFacts[], settings: ForecastSettings) {
  const rows = settings.packing ? packedIndices(train.map(({ length }) => length)) : train.map((_, i) => [i]);
  const samples = rows.map((row) => row.map((i) => required(train[i], `sample ${i}`)));
  const lengths = samples.map((row) => sum(row, ({ length }) => length));
  const { plan, totalSteps } = planOf(settings, lengths);
  const perEpoch = stepsPerEpoch(plan);
  const planned = Math.min(perEpoch, totalSteps);
  const filled = [...planSteps(plan, 0, planned)].flatMap(({ microBatches }) =>
    microBatches.map((indices) => indices.map((i) => required(samples[i], `row ${i}`))),
  );
  return {
    ...{ rows: rows.length, totalSteps, perEpoch, epochs: totalSteps / planned },
    batches: filled.map(microBatchOf),
    /** Those that any step sees. */
    samples: filled.flat(2),
  };
}

/** The graphs of a run, and what they are given. */
interface Work {
  readonly training: Costed;
  /** null where the tower trains and so is part of training. */
  readonly pictures: Pictures | null;
  readonly evaluation: Validation | null;
  readonly decoder: Graph | null;
  readonly parameters: number;
  readonly tokenBlocks: number;
}

/** One validation loss. */
interface Validation {
  readonly graph: Graph;
  readonly batches: readonly MicroBatch[];
  readonly seconds: number;
}

interface WorkSettings extends ForecastSettings {
  readonly saving: MemorySettings;
}

function workOf(input: ForecastInput, settings: WorkSettings, costed: (graph: Graph) => Costed): Work {
  const { checkpoint, spec, validation, test } = input;
  const trainables = trainablesOf(checkpoint, spec);
  return {
    training: costed(trainingGraph(checkpoint, trainables, settings.saving).graph),
    pictures: trainsVision(trainables)
      ? null
      : picturesOf(input, settings, costed(visionGraph(checkpoint, trainables).graph)),
    evaluation:
      validation.length === 0
        ? null
        : validationOf(validation, settings, costed(evalGraph(checkpoint, trainables, settings.saving).graph)),
    decoder: test.length === 0 ? null : decoderGraph(checkpoint, trainables).graph,
    parameters: sum([...trainableShapes(checkpoint, trainables).values()], elementCount),
    tokenBlocks: settings.saving.tokenBlocks,
  };
}

function validationOf(
  samples: readonly SampleFacts[],
  { batchSize }: ForecastSettings,
  { graph, seconds }: Costed,
): Validation {
  const batches = chunked(samples, batchSize).map((part) => microBatchOf(part.map((one) => [one])));
  return { graph, batches, seconds: sum(batches, ({ lengths }) => seconds(lengths)) };
}

const sum = <T>(items: readonly T[], of: (item: T) => number): number => items.reduce((all, item) => all + of(item), 0);
const most = <T>(items: readonly T[], of: (item: T) => number): number =>
  items.reduce((max, item) => Math.max(max, of(item)), 0);

const chunked = <T>(items: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));

function costedOf(graph: Graph, machine: Machine, { tokenBlocks }: MemorySettings): Costed {
  const whole = costOf(graph);
  const cost = (lengths: Lengths): Cost => whole(filledLengths(lengths, tokenBlocks));
  const arithmetic = ({ matrixFlops, batchedFlops, wholeFlops }: Cost): number =>
    matrixFlops + batchedFlops + wholeFlops;
  return {
    graph,
    seconds: (lengths) => secondsOf(cost(lengths), graph.nodes.length, machine),
    flops: (lengths) => arithmetic(cost(lengths)),
  };
}

function microBatchOf(rows: readonly (readonly SampleFacts[])[]): MicroBatch {
  const lengths = rows.map((row) => sum(row, ({ length }) => length));
  const facts = rows.flat();
  return {
    lengths: {
      B: rows.length,
      T: most(lengths, (length) => length),
      N: sum(facts, ({ trained }) => trained),
      M: sum(facts, ({ imageTokens }) => imageTokens),
    },
    tokens: sum(lengths, (length) => length),
  };
}

/** One pass of a frozen vision tower over all pictures that differ. */
interface Pictures {
  readonly graph: Graph;
  readonly seconds: number;
  readonly flops: number;
  /** Of the features in memory. */
  readonly featureBytes: number;
  /** Whether all of them fit, so that there is only one pass. */
  readonly isKept: boolean;
  /** Of the largest run. */
  readonly lengths: Lengths;
}

function picturesOf(
  { checkpoint, train, validation }: ForecastInput,
  { visionCacheGb = 0 }: ForecastSettings,
  tower: Costed,
): Pictures {
  const samples = [...train, ...validation];
  const distinct = new Map(samples.flatMap(({ pictures }) => pictures.map(({ key, tokens }) => [key, tokens])));
  const tokens = [...distinct.values()];
  const { text, vision } = checkpoint.architecture;
  const bytes = 4 * text.hiddenSize * (1 + vision.deepstackIndexes.length) * sum(tokens, (count) => count);
  const largest = most(tokens, (count) => count);
  const together = Math.max(1, Math.floor(MAX_PATCHES_A_RUN / (vision.mergeSize ** 2 * Math.max(1, largest))));
  const inOneSample = most(samples, ({ pictures }) => pictures.length);
  return {
    graph: tower.graph,
    seconds: sum(tokens, (M) => tower.seconds({ I: 1, M })),
    flops: sum(tokens, (M) => tower.flops({ I: 1, M })),
    featureBytes: Math.min(bytes, DEFAULT_FEATURE_BYTES),
    isKept: bytes <= Math.max(DEFAULT_FEATURE_BYTES, fileRoom(checkpoint, visionCacheGb)),
    lengths: { I: Math.max(1, Math.min(together, inOneSample)), M: largest },
  };
}

/** Sessions stay open, and a memory pool keeps what it once held: the peaks add up. */
function memoryOf(
  {
    train,
    validation,
    test,
    evalBatchSize,
    optim = "adamw_torch",
  }: ForecastInput & Pick<ForecastSettings, "evalBatchSize" | "optim">,
  batches: readonly MicroBatch[],
  { training, pictures, evaluation, decoder, parameters, tokenBlocks }: Work,
): Forecast["memory"] {
  const graphs = [training.graph, pictures?.graph, evaluation?.graph, decoder].filter((graph) => graph != null);
  const held = graphs.map(weightMemory);
  const mapped = new Map(held.flatMap((one) => [...one.mapped]));
  const validating = evaluation ? largestPeak(evaluation.graph, evaluation.batches, tokenBlocks) : 0;
  const prompts = chunked(test, evalBatchSize).map(promptsOf);
  return {
    program: PROGRAM_BYTES,
    weights: sum([...mapped.values()], (bytes) => bytes) + sum(held, ({ copiedBytes }) => copiedBytes),
    training: ARENA_FACTOR * (largestPeak(training.graph, batches, tokenBlocks) + validating),
    values: parameters * BYTES_A_VALUE[optim],
    pictures: pictures ? ARENA_FACTOR * peakBytes(pictures.graph, pictures.lengths) : 0,
    features: pictures?.featureBytes ?? 0,
    data: sum([...train, ...validation, ...test], ({ heldBytes, length }) => heldBytes + 8 * length),
    answering: decoder ? ARENA_FACTOR * largestPeak(decoder, prompts) : 0,
  };
}

/** Questions answered together: what is trained of their last turn is not there yet. */
function promptsOf(samples: readonly SampleFacts[]): MicroBatch {
  const { lengths, tokens } = microBatchOf(samples.map((one) => [one]));
  return { lengths: { ...lengths, S: 0, N: samples.length }, tokens };
}

/** Only the batches that are largest in one way or another are looked at closely. */
function largestPeak(graph: Graph, batches: readonly MicroBatch[], blocks = 1): number {
  const sizes: ((lengths: Lengths) => number)[] = [
    ({ B = 0, T = 0 }) => B * T,
    ({ B = 0, T = 0 }) => B * T * T,
    ({ N = 0 }) => N,
    ({ M = 0 }) => M,
  ];
  const candidates = new Set(sizes.map((size) => batches.toSorted((a, b) => size(b.lengths) - size(a.lengths))[0]));
  return most([...candidates], (batch) => (batch ? peakBytes(graph, filledLengths(batch.lengths, blocks)) : 0));
}
