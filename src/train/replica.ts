/**
 * One device's copy of what trains: parameters, gradients and moments, with the sessions that compute on them. It lives
 * in a worker thread, because a run blocks its thread.
 */
import type { Checkpoint } from "../model/checkpoint.ts";
import { evalGraph, gradientName, type ModelGraph, trainingGraph } from "../model/graphs.ts";
import { trainableShapes } from "../model/layers.ts";
import type { MemorySettings } from "../model/memory.ts";
import { openModelSession } from "../model/session.ts";
import { type TrainableSpec, trainablesOf } from "../model/trainables.ts";
import { ALONE, type Collective } from "../runtime/collective.ts";
import type { Device } from "../runtime/device.ts";
import type { Session } from "../runtime/session.ts";
import { type Feeds, floats, type HostTensor } from "../runtime/tensor.ts";
import { InternalError, required } from "../utils/errors.ts";
import { readFloat32 } from "../utils/safetensors.ts";
import { flatten, type Layout, layoutOf, named } from "./layout.ts";
import type { StepOutput } from "./loss.ts";
import { type Moment, type Moments, putMoments } from "./moments.ts";
import { clipFactor, norm, type Optimizer, type OptimizerSettings } from "./optimizer.ts";
import { optimizerFor } from "./optimizers.ts";
import type { Rates } from "./rates.ts";

/** Plain data: it crosses threads. */
export interface ReplicaOptions {
  readonly trainable: TrainableSpec;
  readonly optimizer: OptimizerSettings;
  readonly maxGradNorm: number;
  /** Keeps a moving average of what trains; null or absent: none. */
  readonly emaDecay?: number | null;
  /** How graphs save memory; absent: they keep all. */
  readonly memory?: MemorySettings;
}

/** One update. */
export interface StepChange {
  /** What the accumulated sum is divided by. */
  readonly total: number;
  readonly learningRate: number;
  /** Where they differ from `learningRate`. */
  readonly otherRates?: Rates;
  /** 1 for the first update. */
  readonly step: number;
}

/** Parameters by name, as files hold them. */
export type NamedArrays = ReadonlyMap<string, Float32Array>;

/** Everything that training changes on a device. */
export interface ReplicaState {
  readonly values: NamedArrays;
  /** Of the values, where one is kept: what is evaluated and saved in their place. */
  readonly average?: NamedArrays | null;
  /** What the optimizer remembers; none: it begins anew. */
  readonly moments: Moments;
}

interface OpenModel extends Pick<ModelGraph, "trainable"> {
  readonly session: Session;
}

export class Replica {
  readonly layout: Layout;
  /** Gradients are summed in double, so that it does not show in which order, and on which device, micro-batches were added. */
  readonly #state: { readonly values: Float32Array; readonly gradients: Float64Array };
  /** Side by side as the values. */
  readonly #average: Float32Array | null;
  readonly #slots: ReadonlyMap<string, Layout["slots"][number]>;
  readonly #checkpoint: Checkpoint;
  readonly #options: ReplicaOptions;
  readonly #device: Device;
  readonly #others: Collective;
  #training: Promise<OpenModel> | null = null;
  #evaluation: Promise<OpenModel> | null = null;
  readonly #optimizer: Optimizer;

  /** @param others the replicas of the same run: all start from rank 0's state and follow the same gradients */
  constructor(checkpoint: Checkpoint, options: ReplicaOptions, device: Device, others: Collective = ALONE) {
    this.#checkpoint = checkpoint;
    this.#options = options;
    this.#device = device;
    this.#others = others;
    const trainables = trainablesOf(checkpoint, options.trainable);
    this.layout = layoutOf(trainableShapes(checkpoint, trainables));
    const { size } = this.layout;
    this.#state = { values: new Float32Array(size), gradients: new Float64Array(size) };
    this.#optimizer = optimizerFor(this.layout, options.optimizer, device);
    this.#slots = new Map(this.layout.slots.map((slot) => [slot.name, slot]));
    for (const name of trainables.full) this.#readWeight(name);
    this.#average = options.emaDecay ? this.#state.values.slice() : null;
  }

  /** Opens the training session ahead of the first step, which would otherwise wait for it. */
  async prepare(): Promise<void> {
    await this.#trainingModel();
  }

  /** An average begins anew. @param values null where they come from rank 0 */
  async setValues(values: NamedArrays | null): Promise<void> {
    if (values) this.#state.values.set(flatten(this.layout, values));
    await this.#others.broadcast(this.#state.values);
    this.#average?.set(this.#state.values);
  }

  /** Views, not copies. */
  state(): ReplicaState {
    const view = (flat: Float32Array): NamedArrays => named(this.layout, flat);
    return {
      values: view(this.#state.values),
      average: this.#average && view(this.#average),
      moments: this.#optimizer.moments(),
    };
  }

  /** @param state null where it comes from rank 0 */
  async setState(state: ReplicaState | null): Promise<void> {
    await this.setValues(state?.values ?? null);
    if (state?.average) this.#average?.set(flatten(this.layout, state.average));
    if (state) putMoments(this.#optimizer.moments(), state.moments);
    if (this.#average) await this.#others.broadcast(this.#average);
    for (const group of this.#optimizer.moments().values())
      for (const values of group.values()) await this.#spread(values);
  }

  async #spread(values: Moment): Promise<void> {
    const floats = values instanceof Float32Array ? values : Float32Array.from(values);
    await this.#others.broadcast(floats);
    if (floats !== values) values.set(floats);
  }

  /** What the run would save now, as graph inputs: the average where one is kept. */
  parameterFeeds(names: Iterable<string>): Feeds {
    return this.#feeds(this.#average ?? this.#state.values, names);
  }

  #feeds(flat: Float32Array, names: Iterable<string>): Feeds {
    const feeds: Record<string, HostTensor> = {};
    for (const name of names) {
      const { start, end, shape } = required(this.#slots.get(name), `parameter ${name}`);
      feeds[name] = floats(flat.subarray(start, end), shape);
    }
    return feeds;
  }

  /** Forward and backward; adds `weight` times the gradient of the loss sum to what has been accumulated. */
  async accumulate(feeds: Feeds, weight: number): Promise<StepOutput> {
    const { session, trainable } = await this.#trainingModel();
    const outputs = await session.run({ ...feeds, ...this.#feeds(this.#state.values, trainable) });
    for (const name of trainable) {
      const { start } = required(this.#slots.get(name), `parameter ${name}`);
      addTo(
        this.#state.gradients,
        start,
        required(outputs[gradientName(name)], `gradient of ${name}`).data as Float32Array,
        weight,
      );
    }
    return stepOutput(outputs);
  }

  /** The loss alone, without dropout. */
  async evaluate(feeds: Feeds): Promise<StepOutput> {
    this.#evaluation ??= this.#open(evalGraph);
    const { session, trainable } = await this.#evaluation;
    return stepOutput(await session.run({ ...feeds, ...this.parameterFeeds(trainable) }));
  }

  /**
   * Follows the gradient that all replicas have accumulated together, and forgets it.
   * @returns the gradient's norm before clipping
   */
  async update({ total, learningRate, otherRates = {}, step }: StepChange): Promise<number> {
    const { optimizer, maxGradNorm, emaDecay } = this.#options;
    await this.#others.sum(this.#state.gradients);
    const gradNorm = norm(this.#state.gradients) / total;
    if (Number.isFinite(gradNorm)) {
      const gradientScale = clipFactor(gradNorm, maxGradNorm) / total;
      await this.#optimizer.update(this.#state, ({ isDecayed, rate }) => ({
        ...{ learningRate: otherRates[rate] ?? learningRate, step, gradientScale },
        weightDecay: isDecayed ? optimizer.weightDecay : 0,
      }));
      if (this.#average && emaDecay) follow(this.#average, this.#state.values, emaRate(emaDecay, step));
    }
    this.#state.gradients.fill(0);
    return gradNorm;
  }

  /** Forgets what has been accumulated: a step that was broken off starts anew. */
  clearGradients(): void {
    this.#state.gradients.fill(0);
  }

  /** What this replica has accumulated by name, divided by `total`. */
  gradients(total: number): NamedArrays {
    return named(
      this.layout,
      Float32Array.from(this.#state.gradients, (value) => value / total),
    );
  }

  /** Gives back what sessions hold; the state stays, and a session is opened anew where it is needed again. */
  async release(): Promise<void> {
    const models = await Promise.all([this.#training, this.#evaluation]);
    [this.#training, this.#evaluation] = [null, null];
    for (const model of models) await model?.session.release();
    await this.#optimizer.release();
  }

  #trainingModel(): Promise<OpenModel> {
    this.#training ??= this.#open(trainingGraph);
    return this.#training;
  }

  async #open(build: typeof trainingGraph): Promise<OpenModel> {
    const { trainable: spec, memory } = this.#options;
    const { graph, trainable } = build(this.#checkpoint, trainablesOf(this.#checkpoint, spec), memory);
    if (build === trainingGraph && trainable.length !== this.layout.slots.length) {
      const idle = this.layout.slots.filter(({ name }) => !trainable.includes(name));
      throw new InternalError(`the training graph leaves out ${idle.map(({ name }) => name).join(", ")}`);
    }
    return {
      session: await openModelSession(graph, this.#checkpoint, this.#device),
      trainable,
    };
  }

  #readWeight(name: string): void {
    const { start } = required(this.#slots.get(name), `parameter ${name}`);
    this.#state.values.set(readFloat32(required(this.#checkpoint.tensors.get(name), name)), start);
  }
}

/** average += rate (values - average) */
function follow(average: Float32Array, values: Float32Array, rate: number): void {
  for (let i = 0; i < average.length; i++) {
    const old = average[i] as number;
    average[i] = old + rate * ((values[i] as number) - old);
  }
}

/**
 * How far the average moves at the n-th update: 1 - decay, and more at first, when it has seen little.
 * Source: TensorFlow's ExponentialMovingAverage with num_updates, min(decay, (1 + n) / (10 + n)).
 */
export const emaRate = (decay: number, n: number): number => 1 - Math.min(decay, (1 + n) / (10 + n));

function addTo(flat: Float64Array, start: number, part: Float32Array, weight: number): void {
  for (let i = 0; i < part.length; i++) flat[start + i] = (flat[start + i] as number) + weight * (part[i] as number);
}

export function stepOutput(outputs: Readonly<Record<string, HostTensor>>): StepOutput {
  const scalar = (name: string): number => required(outputs[name]?.data[0], name);
  return { lossSum: scalar("loss_sum"), tokenCount: scalar("token_count") };
}
