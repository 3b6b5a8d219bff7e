/**
 * What a training run will take: steps from the plan that the run itself follows, arithmetic and memory from the graphs
 * that it will open, time from what the machine was seen to do. docs/planning.md compares it with measurements.
 */
import { DEFAULT_FEATURE_BYTES, MAX_PATCHES_A_RUN } from "../../engine/pictures.ts";
import { type Cost, costOf, type Lengths, peakBytes, weightMemory } from "../../graph/cost.ts";
import type { Graph } from "../../graph/graph.ts";
import type { Checkpoint } from "../../model/checkpoint.ts";
import { decoderGraph, evalGraph, trainingGraph, visionGraph } from "../../model/graphs.ts";
import { trainableShapes, trainsVision } from "../../model/layers.ts";
import { type TrainableSpec, trainablesOf } from "../../model/trainables.ts";
import { planSteps, stepsPerEpoch } from "../../train/plan.ts";
import { required } from "../../utils/errors.ts";
import { elementCount } from "../../utils/safetensors.ts";
import { ANSWERS_AT_ONCE } from "../answer.ts";
import { type PlanSettings, packedIndices, planOf } from "../trainingRun.ts";
import { type Machine, secondsOf } from "./machine.ts";
import type { SampleFacts } from "./survey.ts";

export interface ForecastSettings extends PlanSettings {
  readonly packing: boolean;
  readonly evalSteps: number;
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
const BYTES_A_VALUE = 6 * 4; // value, gradient, two moments, and copies of value and gradient on their way
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
  const { checkpoint, spec, train, validation } = input;
  const trainables = trainablesOf(checkpoint, spec);
  const isVisionTrained = trainsVision(trainables);
  const costed = (graph: Graph): Costed => costedOf(graph, machine);
  const training = costed(trainingGraph(checkpoint, trainables).graph);
  const rows = settings.packing ? packedIndices(train.map(({ length }) => length)) : train.map((_, i) => [i]);
  const rowsOfFacts = rows.map((row) => row.map((i) => required(train[i], `sample ${i}`)));
  const { plan, totalSteps } = planOf(settings, rowsOfFacts.map((row) => sum(row, ({ length }) => length))); // biome-ignore format: one line
  const perEpoch = stepsPerEpoch(plan);
  const planned = Math.min(perEpoch, totalSteps);
  const batches = [...planSteps(plan, 0, planned)].flatMap(({ microBatches }) =>
    microBatches.map((indices) => microBatchOf(indices.map((i) => required(rowsOfFacts[i], `row ${i}`)))),
  );
  const epochs = totalSteps / planned; // the first stands for the others
  const parameters = sum([...trainableShapes(checkpoint, trainables).values()], elementCount);
  const pictures = isVisionTrained
    ? null
    : picturesOf(input, costed(visionGraph(checkpoint, trainables).graph), epochs);
  const evaluation = validation.length === 0 ? null : costed(evalGraph(checkpoint, trainables).graph);
  const validations = Math.floor(totalSteps / settings.evalSteps);
  const validationBatches = chunked(validation, settings.batchSize).map((part) =>
    microBatchOf(part.map((one) => [one])),
  );
  const perBatch = parameters * SECONDS_A_GRADIENT;
  const flops = sum(batches, ({ lengths }) => training.flops(lengths));
  return {
    rows: rows.length,
    totalSteps,
    stepsPerEpoch: perEpoch,
    paddingShare: 1 - sum(batches, ({ tokens }) => tokens) / sum(batches, ({ lengths: { B = 0, T = 0 } }) => B * T),
    parameters,
    seconds: {
      steps: epochs * sum(batches, ({ lengths }) => training.seconds(lengths) + perBatch) + totalSteps * parameters * SECONDS_AN_UPDATE, // biome-ignore format: one line
      pictures: pictures?.seconds ?? 0,
      validation: evaluation ? validations * sum(validationBatches, ({ lengths }) => evaluation.seconds(lengths)) : 0,
    },
    flops: epochs * flops + (pictures?.flops ?? 0),
    memory: memoryOf(input, { training, batches, pictures, evaluation, validationBatches, parameters }),
  };
}

const sum = <T>(items: readonly T[], of: (item: T) => number): number => items.reduce((all, item) => all + of(item), 0);
const most = <T>(items: readonly T[], of: (item: T) => number): number =>
  items.reduce((max, item) => Math.max(max, of(item)), 0);

const chunked = <T>(items: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));

function costedOf(graph: Graph, machine: Machine): Costed {
  const cost = costOf(graph);
  const arithmetic = ({ matrixFlops, batchedFlops }: Cost): number => matrixFlops + batchedFlops;
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

/** Passes of a frozen vision tower. */
interface Pictures {
  readonly graph: Graph;
  readonly seconds: number;
  readonly flops: number;
  /** The features that are kept. */
  readonly featureBytes: number;
  /** Of the largest pass. */
  readonly lengths: Lengths;
}

/** Features are computed once, or in every epoch where they do not all fit into memory. */
function picturesOf({ checkpoint, train, validation }: ForecastInput, tower: Costed, epochs: number): Pictures {
  const distinct = new Map(
    [...train, ...validation].flatMap(({ pictures }) => pictures.map(({ key, tokens }) => [key, tokens])),
  );
  const tokens = [...distinct.values()];
  const { text, vision } = checkpoint.architecture;
  const bytesAToken = 4 * text.hiddenSize * (1 + vision.deepstackIndexes.length);
  const allBytes = bytesAToken * sum(tokens, (count) => count);
  const passes = allBytes <= DEFAULT_FEATURE_BYTES ? 1 : Math.max(1, epochs);
  const largest = most(tokens, (count) => count);
  const together = Math.max(1, Math.floor(MAX_PATCHES_A_RUN / (vision.mergeSize ** 2 * Math.max(1, largest))));
  const inOneBatch = most(train, ({ pictures }) => pictures.length);
  return {
    graph: tower.graph,
    seconds: passes * sum(tokens, (M) => tower.seconds({ I: 1, M })),
    flops: passes * sum(tokens, (M) => tower.flops({ I: 1, M })),
    featureBytes: Math.min(allBytes, DEFAULT_FEATURE_BYTES),
    lengths: { I: Math.max(1, Math.min(together, inOneBatch)), M: largest },
  };
}

interface MemoryInput {
  readonly training: Costed;
  readonly batches: readonly MicroBatch[];
  readonly pictures: Pictures | null;
  readonly evaluation: Costed | null;
  readonly validationBatches: readonly MicroBatch[];
  readonly parameters: number;
}

/** Sessions stay open, and a memory pool keeps what it once held: the peaks add up. */
function memoryOf(
  { checkpoint, spec, train, validation, test }: ForecastInput,
  parts: MemoryInput,
): Forecast["memory"] {
  const { training, batches, pictures, evaluation, validationBatches, parameters } = parts;
  const decoder = test.length === 0 ? null : decoderGraph(checkpoint, trainablesOf(checkpoint, spec)).graph;
  const graphs = [training.graph, pictures?.graph, evaluation?.graph, decoder].filter((graph) => graph != null);
  const held = graphs.map(weightMemory);
  const mapped = new Map(held.flatMap((one) => [...one.mapped]));
  return {
    program: PROGRAM_BYTES,
    weights: sum([...mapped.values()], (bytes) => bytes) + sum(held, ({ copiedBytes }) => copiedBytes),
    training:
      ARENA_FACTOR *
      (largestPeak(training.graph, batches) + (evaluation ? largestPeak(evaluation.graph, validationBatches) : 0)),
    values: parameters * BYTES_A_VALUE,
    pictures: pictures ? ARENA_FACTOR * peakBytes(pictures.graph, pictures.lengths) : 0,
    features: pictures?.featureBytes ?? 0,
    data: sum([...train, ...validation, ...test], ({ heldBytes, length }) => heldBytes + 8 * length),
    answering: decoder ? ARENA_FACTOR * largestPeak(decoder, chunked(test, ANSWERS_AT_ONCE).map(promptsOf)) : 0,
  };
}

/** Questions answered together: what is trained of their last turn is not there yet. */
function promptsOf(samples: readonly SampleFacts[]): MicroBatch {
  const { lengths, tokens } = microBatchOf(samples.map((one) => [one]));
  return { lengths: { ...lengths, S: 0, N: samples.length }, tokens };
}

/** Only the batches that are largest in one way or another are looked at closely. */
function largestPeak(graph: Graph, batches: readonly MicroBatch[]): number {
  const sizes: ((lengths: Lengths) => number)[] = [
    ({ B = 0, T = 0 }) => B * T,
    ({ B = 0, T = 0 }) => B * T * T,
    ({ N = 0 }) => N,
    ({ M = 0 }) => M,
  ];
  const candidates = new Set(sizes.map((size) => batches.toSorted((a, b) => size(b.lengths) - size(a.lengths))[0]));
  return most([...candidates], (batch) => (batch ? peakBytes(graph, batch.lengths) : 0));
}
