/**
 * As Replica, on a device whose memory holds what changes: parameters, gradients and moments stay there from step to step
 * and cross to the host only when they are set, saved or asked for. The binding hands every run's outputs back as new
 * buffers, so a step holds two of each for a moment, and the old ones are freed when it is done.
 */
import type { Checkpoint } from "../model/checkpoint.ts";
import { evalGraph, gradientName, type ModelGraph, trainingGraph } from "../model/graphs.ts";
import { trainableShapes } from "../model/layers.ts";
import { openModelSession } from "../model/session.ts";
import { trainablesOf } from "../model/trainables.ts";
import { type Device, deviceName } from "../runtime/device.ts";
import type { Session } from "../runtime/session.ts";
import { type DeviceTensor, type Feeds, floats, free, type HostTensor } from "../runtime/tensor.ts";
import { InternalError, required, UserError } from "../utils/errors.ts";
import { elementCount, readFloat32 } from "../utils/safetensors.ts";
import { newName, type Part, partName, rangeName } from "./deviceGraphs.ts";
import { type DeviceSessions, openDeviceSessions } from "./deviceSessions.ts";
import { type Layout, layoutOf } from "./layout.ts";
import type { StepOutput } from "./loss.ts";
import { putMoments } from "./moments.ts";
import { adamwScalars, clipFactor } from "./optimizer.ts";
import {
  emaRate,
  type NamedArrays,
  type ReplicaOptions,
  type ReplicaState,
  type StepChange,
  stepOutput,
} from "./replica.ts";

/** By the name of the parameter. */
type Buffers = ReadonlyMap<string, DeviceTensor>;
type State = { readonly [P in Exclude<Part, "average">]: Buffers } & { readonly average: Buffers | null };

interface OpenModel extends Pick<ModelGraph, "trainable"> {
  readonly session: Session;
}

export class DeviceReplica {
  readonly layout: Layout;
  readonly #checkpoint: Checkpoint;
  readonly #options: ReplicaOptions;
  readonly #device: Device;
  #helpers: Promise<DeviceSessions> | null = null;
  #state: Promise<State> | null = null;
  #gradients: Buffers | null = null;
  #training: Promise<OpenModel> | null = null;
  #evaluation: Promise<OpenModel> | null = null;

  constructor(checkpoint: Checkpoint, options: ReplicaOptions, device: Device) {
    const { optim = "adamw_torch" } = options.optimizer;
    if (optim !== "adamw_torch")
      throw new UserError(
        `--optim ${optim}: runs on the CPU only so far, not on ${deviceName(device)}; leave it out, or train on cpu`,
      );
    this.#checkpoint = checkpoint;
    this.#options = options;
    this.#device = device;
    this.layout = layoutOf(trainableShapes(checkpoint, trainablesOf(checkpoint, options.trainable)));
  }

  async prepare(): Promise<void> {
    await this.#trainingModel();
    await this.#current();
  }

  /** An average begins anew, moments stay. */
  async setValues(values: NamedArrays | null): Promise<void> {
    const { expAvg, expAvgSq, ...old } = await this.#current();
    const given = required(values, "values: a device of this kind trains alone, so they");
    this.#replace({ expAvg, expAvgSq, ...(await this.#startingFrom(given)) }, [old.values, old.average]);
  }

  async state(): Promise<ReplicaState> {
    const { values, average, expAvg, expAvgSq } = await this.#current();
    return {
      values: await this.#download(values),
      average: average && (await this.#download(average)),
      moments: new Map([
        ["exp_avg", await this.#download(expAvg)],
        ["exp_avg_sq", await this.#download(expAvgSq)],
      ]),
    };
  }

  async setState(state: ReplicaState | null): Promise<void> {
    const { values, average, moments } = required(state, "state: a device of this kind trains alone, so it");
    const [expAvg, expAvgSq] = [this.#zeros(), this.#zeros()];
    putMoments(new Map([["exp_avg", expAvg], ["exp_avg_sq", expAvgSq]]), moments); // biome-ignore format: one line
    const old = await this.#current();
    const fresh = {
      ...(await this.#startingFrom(values, average)),
      expAvg: await this.#upload(expAvg),
      expAvgSq: await this.#upload(expAvgSq),
    };
    this.#replace(fresh, Object.values(old));
  }

  async parameterFeeds(names: Iterable<string>): Promise<Feeds> {
    const { average, values } = await this.#current();
    return named(average ?? values, names);
  }

  async accumulate(feeds: Feeds, weight: number): Promise<StepOutput> {
    const { session, trainable } = await this.#trainingModel();
    const { values } = await this.#current();
    const { outputs, kept } = await session.runKeeping({ ...feeds, ...named(values, trainable) });
    const earlier = this.#gradients;
    const { scale, sum } = await this.#openHelpers();
    const added = await (earlier ? sum : scale).runKeeping({
      weight: scalar(weight),
      ...this.#fed("gradients", (name) => required(kept[gradientName(name)], `gradient of ${name}`)),
      ...(earlier ? this.#fed("earlier", (name) => required(earlier.get(name), name)) : {}),
    });
    this.#gradients = this.#taken("gradients", added.kept);
    free([...Object.values(kept), ...(earlier?.values() ?? [])]);
    return stepOutput(outputs);
  }

  async evaluate(feeds: Feeds): Promise<StepOutput> {
    this.#evaluation ??= this.#open(evalGraph);
    const { session, trainable } = await this.#evaluation;
    return stepOutput(await session.run({ ...feeds, ...(await this.parameterFeeds(trainable)) }));
  }

  async update({ total, learningRate, otherRates = {}, step }: StepChange): Promise<number> {
    const { optimizer, maxGradNorm, emaDecay } = this.#options;
    const { norm, update } = await this.#openHelpers();
    const gradients = this.#gradients ?? (await this.#upload(this.#zeros()));
    const summed = this.#fed("gradients", (name) => required(gradients.get(name), name));
    const gradNorm = Math.sqrt(required((await norm.run(summed)).squares?.data[0], "squares")) / total;
    if (Number.isFinite(gradNorm)) {
      const gradientScale = clipFactor(gradNorm, maxGradNorm) / total;
      const old = await this.#current();
      const { kept } = await update.runKeeping({
        ...summed,
        ...this.#stateFeeds(old),
        ...(emaDecay ? { ema_rate: scalar(emaRate(emaDecay, step)) } : {}),
        ...Object.assign(
          {},
          ...this.layout.ranges.map(({ isDecayed, rate }, k) => {
            const change = { learningRate: otherRates[rate] ?? learningRate, step, gradientScale };
            return scalarFeeds(adamwScalars(change, isDecayed ? optimizer.weightDecay : 0, optimizer), k);
          }),
        ),
      });
      const part = (of: Part): Buffers => this.#taken(of, kept);
      const [values, expAvg, expAvgSq] = [part("values"), part("expAvg"), part("expAvgSq")];
      this.#replace({ values, expAvg, expAvgSq, average: old.average && part("average") }, Object.values(old));
    }
    free(gradients.values());
    this.#gradients = null;
    return gradNorm;
  }

  clearGradients(): void {
    free(this.#gradients?.values() ?? []);
    this.#gradients = null;
  }

  async gradients(total: number): Promise<NamedArrays> {
    const sums = this.#gradients ? await this.#download(this.#gradients) : this.#zeros();
    return new Map([...sums].map(([name, values]) => [name, values.map((value) => value / total)]));
  }

  /** Sessions on the model are opened anew where they are needed again; the state stays on the device, as long as the thread lives. */
  async release(): Promise<void> {
    const models = await Promise.all([this.#training, this.#evaluation]);
    [this.#training, this.#evaluation] = [null, null];
    for (const model of models) await model?.session.release();
  }

  #trainingModel(): Promise<OpenModel> {
    this.#training ??= this.#open(trainingGraph);
    return this.#training;
  }

  async #open(build: typeof trainingGraph): Promise<OpenModel> {
    const { trainable: spec, memory } = this.#options;
    const { graph, trainable } = build(this.#checkpoint, trainablesOf(this.#checkpoint, spec), memory);
    const kept = build === trainingGraph ? trainable.map(gradientName) : [];
    return { session: await openModelSession(graph, this.#checkpoint, this.#device, kept), trainable };
  }

  #openHelpers(): Promise<DeviceSessions> {
    const { optimizer: settings, emaDecay } = this.#options;
    this.#helpers ??= openDeviceSessions(this.layout, this.#device, { settings, hasAverage: Boolean(emaDecay) });
    return this.#helpers;
  }

  /** Zeros at first, and where whole parameters train the checkpoint's. */
  #current(): Promise<State> {
    const start = async (): Promise<State> => {
      const { tensors } = this.#checkpoint;
      const { full } = trainablesOf(this.#checkpoint, this.#options.trainable);
      const values = this.#zeros();
      for (const name of full) values.set(name, readFloat32(required(tensors.get(name), name)));
      const [expAvg, expAvgSq] = [await this.#upload(this.#zeros()), await this.#upload(this.#zeros())];
      return { ...(await this.#startingFrom(values)), expAvg, expAvgSq };
    };
    this.#state ??= start();
    return this.#state;
  }

  async #startingFrom(
    values: NamedArrays,
    average: NamedArrays | null = null,
  ): Promise<Pick<State, "values" | "average">> {
    return {
      values: await this.#upload(values),
      average: this.#options.emaDecay ? await this.#upload(average ?? values) : null,
    };
  }

  #replace(state: State, old: readonly (Buffers | null)[]): void {
    this.#state = Promise.resolve(state);
    for (const buffers of old) free(buffers?.values() ?? []);
  }

  async #upload(arrays: NamedArrays): Promise<Buffers> {
    const { upload } = await this.#openHelpers();
    const { kept } = await upload.runKeeping(
      this.#fed("values", (name, shape) => {
        const values = arrays.get(name);
        if (values?.length !== elementCount(shape))
          throw new InternalError(`parameter ${name} has ${values?.length} elements, expected ${elementCount(shape)}`);
        return floats(values, shape);
      }),
    );
    return this.#taken("values", kept);
  }

  async #download(buffers: Buffers): Promise<NamedArrays> {
    const { download } = await this.#openHelpers();
    const outputs = await download.run(this.#fed("values", (name) => required(buffers.get(name), name)));
    return new Map(
      this.layout.slots.map(({ name }) => [
        name,
        required(outputs[newName("values", name)], name).data as Float32Array,
      ]),
    );
  }

  #stateFeeds({ values, expAvg, expAvgSq, average }: State): Feeds {
    const of = (part: Part, buffers: Buffers): Feeds => this.#fed(part, (name) => required(buffers.get(name), name));
    const moments = { ...of("expAvg", expAvg), ...of("expAvgSq", expAvgSq) };
    return { ...of("values", values), ...moments, ...(average ? of("average", average) : {}) };
  }

  #fed(part: Parameters<typeof partName>[0], of: (name: string, shape: readonly number[]) => Feeds[string]): Feeds {
    return Object.fromEntries(this.layout.slots.map(({ name, shape }) => [partName(part, name), of(name, shape)]));
  }

  #taken(part: Parameters<typeof newName>[0], kept: Readonly<Record<string, DeviceTensor>>): Buffers {
    return new Map(this.layout.slots.map(({ name }) => [name, required(kept[newName(part, name)], name)]));
  }

  #zeros(): Map<string, Float32Array> {
    return new Map(this.layout.slots.map(({ name, shape }) => [name, new Float32Array(elementCount(shape))]));
  }
}

const scalar = (value: number): HostTensor => floats(Float32Array.of(value), []);

const named = (buffers: Buffers, names: Iterable<string>): Feeds =>
  Object.fromEntries([...names].map((name) => [name, required(buffers.get(name), `parameter ${name}`)]));

/** The scalars of range k under the names of the update graph; those that all ranges share come out the same each time. */
function scalarFeeds(scalars: ReturnType<typeof adamwScalars>, k: number): Feeds {
  return {
    gradient_scale: scalar(scalars.gradient_scale),
    root_bias_correction2: scalar(scalars.root_bias_correction2),
    [rangeName("decay_factor", k)]: scalar(scalars.decay_factor),
    [rangeName("step_size", k)]: scalar(scalars.step_size),
  };
}
