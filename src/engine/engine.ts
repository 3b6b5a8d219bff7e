/** What one device does for a run: features of pictures, gradients and updates, answers. It lives in a worker thread (worker.ts). */
import type { DecoderPrompt } from "../eval/decoding.ts";
import { type GenerationSettings, Generator } from "../eval/generator.ts";
import type { RotaryDtype } from "../model/architecture.ts";
import { type Checkpoint, openCheckpoint, withQuantised } from "../model/checkpoint.ts";
import {
  featureFeeds,
  type PictureFeatures,
  type PicturePixels,
  patchFeeds,
  pictureFeeds,
  type TokenArrays,
  tokenFeeds,
} from "../model/feeds.ts";
import { deepstackName, visionGraph } from "../model/graphs.ts";
import { initialValues } from "../model/initialValues.ts";
import { type Trainables, trainableShapes, trainsVision } from "../model/layers.ts";
import type { QuantisedFiles } from "../model/quantised/store.ts";
import { openModelSession } from "../model/session.ts";
import { type TrainableSpec, trainablesOf } from "../model/trainables.ts";
import type { Collective } from "../runtime/collective.ts";
import { type Device, deviceName } from "../runtime/device.ts";
import type { Session } from "../runtime/session.ts";
import { type Feeds, floats, type HostTensor } from "../runtime/tensor.ts";
import { DeviceReplica } from "../train/deviceReplica.ts";
import { lossFeeds, type StepOutput } from "../train/loss.ts";
import {
  type NamedArrays,
  Replica,
  type ReplicaOptions,
  type ReplicaState,
  type StepChange,
} from "../train/replica.ts";
import { InternalError, required, UserError } from "../utils/errors.ts";
import { filledUp } from "./rowPadding.ts";

/** Plain data: it crosses threads. */
export interface EngineOptions {
  readonly modelDir: string;
  readonly device: Device;
  /** What trains, or what adapters look like that are only used. */
  readonly trainable: TrainableSpec;
  /** Files of the linear layers in few bits; null: as the checkpoint stores them. */
  readonly quantised?: QuantisedFiles | null;
  /** float32 unless told otherwise. */
  readonly rotaryDtype?: RotaryDtype;
  /** Absent where nothing is trained. */
  readonly training?: Omit<ReplicaOptions, "trainable">;
}

/** A batch as the collator makes it, with what the vision tower needs or has made. */
export interface EngineBatch extends TokenArrays {
  readonly labels: Int32Array; // [B*T]
  /** Pixels where the vision tower trains, features where it is frozen. */
  readonly pictures: readonly PicturePixels[] | readonly PictureFeatures[];
}

export class Engine {
  readonly #checkpoint: Checkpoint;
  readonly #options: EngineOptions;
  readonly #trainables: Trainables;
  readonly #replica: Replica | DeviceReplica | null;
  /** Adapters (or whole sets of parameters) to answer with, by the caller's name. */
  readonly #parameterSets = new Map<string, NamedArrays>();
  #untrainedValues: NamedArrays | null = null;
  #vision: Promise<{ session: Session; trainable: readonly string[] }> | null = null;
  #generator: Promise<Generator> | null = null;

  /** @param others the engines that train the same model on other devices */
  constructor(options: EngineOptions, others?: Collective) {
    this.#options = options;
    if (options.quantised && options.device.kind !== "cpu")
      throw new UserError(
        `--base-quant: its products are made for the CPU; leave it out on device ${deviceName(options.device)}, or use cpu`,
      );
    const opened = openCheckpoint(options.modelDir);
    const { architecture, ...checkpoint } = options.quantised ? withQuantised(opened, options.quantised) : opened;
    this.#checkpoint = {
      ...checkpoint,
      architecture: { ...architecture, rotaryDtype: options.rotaryDtype ?? "float32" },
    };
    this.#trainables = trainablesOf(this.#checkpoint, options.trainable);
    this.#replica = options.training ? this.#replicaOf(options.training, others) : null;
  }

  /** WebGPU's buffers can stay with the device; what CUDA computes the binding hands back to the host. */
  #replicaOf(training: Omit<ReplicaOptions, "trainable">, others?: Collective): Replica | DeviceReplica {
    const { trainable, device } = this.#options;
    if (device.kind === "webgpu") return new DeviceReplica(this.#checkpoint, { ...training, trainable }, device);
    return new Replica(this.#checkpoint, { ...training, trainable }, device, others);
  }

  /** Opens the sessions that training needs. */
  async prepareTraining(): Promise<void> {
    await this.#training().prepare();
  }

  /** Names, shapes and number of what trains. */
  trainableShapes(): ReadonlyMap<string, readonly number[]> {
    return trainableShapes(this.#checkpoint, this.#trainables);
  }

  /** @param values null in all but the first of several engines: what the first is given goes to all */
  setValues(values: NamedArrays | null): Promise<void> {
    return this.#training().setValues(values);
  }

  state(): ReplicaState | Promise<ReplicaState> {
    return this.#training().state();
  }

  /** @param state as in `setValues` */
  setState(state: ReplicaState | null): Promise<void> {
    return this.#training().setState(state);
  }

  /** How many calls are worked on at once: one for each device. */
  lanes(): number {
    return 1;
  }

  /** Forward and backward of one micro-batch; see Replica. */
  accumulate(
    batch: EngineBatch,
    { weight, dropoutSeed }: { weight: number; dropoutSeed: number },
  ): Promise<StepOutput> {
    const seed: HostTensor = { dtype: "int64", dims: [], data: Int32Array.of(dropoutSeed) };
    return this.#training().accumulate({ ...this.#batchFeeds(batch), dropout_seed: seed }, weight);
  }

  evaluateLoss(batch: EngineBatch): Promise<StepOutput> {
    return this.#training().evaluate(this.#batchFeeds(batch));
  }

  update(change: StepChange): Promise<number> {
    return this.#training().update(change);
  }

  clearGradients(): void {
    this.#training().clearGradients();
  }

  /** Gives back the memory of training sessions, as before answering; see Replica. */
  async releaseTraining(): Promise<void> {
    await this.#replica?.release();
  }

  /** Accumulated gradients divided by `total`. */
  gradients(total: number): NamedArrays | Promise<NamedArrays> {
    return this.#training().gradients(total);
  }

  /**
   * Features of pictures that all have one grid, computed together.
   * @param parameters as in `generate`: an adapter may change the tower
   */
  async encodePictures(
    pictures: readonly PicturePixels[],
    parameters: string | null = null,
  ): Promise<PictureFeatures[]> {
    const { architecture } = this.#checkpoint;
    this.#vision ??= this.#openVision();
    const { session, trainable } = await this.#vision;
    const outputs = await session.run({
      ...pictureFeeds(architecture, pictures),
      ...(await this.#parameters(parameters, trainable)),
    });
    const share = (name: string, i: number): Float32Array => {
      const data = required(outputs[name], name).data as Float32Array;
      const size = data.length / pictures.length;
      return data.slice(i * size, (i + 1) * size);
    };
    return pictures.map((_, i) => ({
      imageEmbeds: share("image_embeds", i),
      deepstack: architecture.vision.deepstackIndexes.map((__, d) => share(deepstackName(d), i)),
    }));
  }

  /** Keeps parameters to answer with under a name; `null` values forget them. */
  setParameters(name: string, values: NamedArrays | null): void {
    if (values) this.#parameterSets.set(name, values);
    else this.#parameterSets.delete(name);
  }

  /**
   * @param parameters name of a kept set; null: what is being trained, or the base alone where nothing is. One for all prompts,
   * or one for each: adapters of several users answer side by side
   */
  async generate(
    prompts: readonly DecoderPrompt[],
    settings: GenerationSettings,
    parameters: string | null | readonly (string | null)[],
  ): Promise<number[][]> {
    const generator = await this.#openGenerator();
    const isOne = parameters === null || typeof parameters === "string";
    const names = isOne ? prompts.map(() => parameters) : parameters;
    const sets = new Map<string | null, Feeds>();
    for (const name of new Set(names)) sets.set(name, await this.#parameters(name, generator.parameters));
    const ofPrompts = names.map((name) => required(sets.get(name), `parameter set ${name}`));
    return generator.generate(prompts, ofPrompts, settings);
  }

  /** Logits of every token of a prompt, [T, V]. */
  async logits(prompt: DecoderPrompt, parameters: string | null): Promise<Float32Array> {
    const generator = await this.#openGenerator();
    return generator.logits(prompt, await this.#parameters(parameters, generator.parameters));
  }

  /** Peak resident memory of the process, in bytes. */
  peakMemory(): number {
    return process.resourceUsage().maxRSS * 1024;
  }

  async release(): Promise<void> {
    await this.#replica?.release();
    await (await this.#vision)?.session.release();
    await (await this.#generator)?.release();
  }

  #training(): Replica | DeviceReplica {
    if (!this.#replica) throw new InternalError("this engine was opened without training");
    return this.#replica;
  }

  #batchFeeds(batch: EngineBatch): Feeds {
    const { architecture } = this.#checkpoint;
    const { labels, pictures, ...tokens } = filledUp(batch, this.#options.training?.memory?.tokenBlocks ?? 1);
    const visual = trainsVision(this.#trainables)
      ? patchFeeds(architecture, pictures as readonly PicturePixels[])
      : featureFeeds(architecture, pictures as readonly PictureFeatures[]);
    return { ...tokenFeeds(tokens), ...lossFeeds(labels, tokens.length), ...visual };
  }

  #parameters(set: string | null, names: readonly string[]): Feeds | Promise<Feeds> {
    if (set === null && this.#replica) return this.#replica.parameterFeeds(names);
    const values = set === null ? this.#untrained() : required(this.#parameterSets.get(set), `parameter set ${set}`);
    const shapes = this.trainableShapes();
    return Object.fromEntries(
      names.map((name) => [name, floats(required(values.get(name), name), required(shapes.get(name), name))]),
    );
  }

  /** An adapter that does nothing: the base itself (with DoRA up to rounding). */
  #untrained(): NamedArrays {
    if (this.#options.trainable.kind === "full")
      throw new InternalError("full parameters are opened as a checkpoint of their own");
    this.#untrainedValues ??= initialValues(this.#checkpoint, this.#trainables, null);
    return this.#untrainedValues;
  }

  #openGenerator(): Promise<Generator> {
    this.#generator ??= Generator.open(this.#checkpoint, this.#trainables, this.#options.device);
    return this.#generator;
  }

  async #openVision(): Promise<{ session: Session; trainable: readonly string[] }> {
    const { graph, trainable } = visionGraph(this.#checkpoint, this.#trainables);
    return {
      session: await openModelSession(graph, this.#checkpoint, this.#options.device),
      trainable,
    };
  }
}
