/** The model that learns: all its parameters in float32, the lesson graph's session and AdamW. */
import { encodeOnnx } from "../../src/graph/onnx.ts";
import type { Checkpoint } from "../../src/model/checkpoint.ts";
import { gradientName } from "../../src/model/graphs.ts";
import { trainableShapes } from "../../src/model/layers.ts";
import { FULL, trainablesOf } from "../../src/model/trainables.ts";
import { openSession, type Session } from "../../src/runtime/session.ts";
import { floats } from "../../src/runtime/tensor.ts";
import { type Layout, layoutOf, named } from "../../src/train/layout.ts";
import { adamw, clipFactor, type FlatState, norm, optimizerGraph } from "../../src/train/optimizer.ts";
import { InternalError, required } from "../../src/utils/errors.ts";
import { readFloat32 } from "../../src/utils/safetensors.ts";
import type { LessonBatch } from "./lessonBatch.ts";
import { lessonGraph } from "./lessonGraph.ts";

const ADAMW = { betas: [0.9, 0.98], epsilon: 1e-8, weightDecay: 0.02 } as const;
const MAX_GRAD_NORM = 1;
const CPU = { kind: "cpu" } as const;

/** Means of one step. */
export interface Lessons {
  readonly loss: number;
  readonly digitLoss: number;
  readonly pointingLoss: number;
  readonly namingLoss: number;
  readonly gradNorm: number;
}

export class Pupil {
  readonly layout: Layout;
  readonly #state: FlatState;
  readonly #session: Session;
  readonly #optimizer: Session;
  #steps = 0;

  private constructor(layout: Layout, state: FlatState, sessions: readonly [Session, Session]) {
    this.layout = layout;
    this.#state = state;
    [this.#session, this.#optimizer] = sessions;
  }

  /** All parameters of the checkpoint train, the vision tower's too. */
  static async open(checkpoint: Checkpoint): Promise<Pupil> {
    const trainables = trainablesOf(checkpoint, FULL);
    const layout = layoutOf(trainableShapes(checkpoint, trainables));
    const { graph, trainable } = lessonGraph(checkpoint, trainables);
    if (trainable.length !== layout.slots.length) throw new InternalError("the lesson graph leaves out parameters");
    const empty = (): Float32Array => new Float32Array(layout.size);
    const state = { values: empty(), gradients: empty(), expAvg: empty(), expAvgSq: empty() };
    for (const { name, start } of layout.slots)
      state.values.set(readFloat32(required(checkpoint.tensors.get(name), name)), start);
    return new Pupil(layout, state, [
      await openSession(encodeOnnx(graph), { device: CPU, weightsDir: checkpoint.dir }),
      await openSession(encodeOnnx(optimizerGraph(ADAMW)), { device: CPU }),
    ]);
  }

  /** Views, not copies. */
  get values(): ReadonlyMap<string, Float32Array> {
    return named(this.layout, this.#state.values);
  }

  async learn({ feeds, digits, pointing, naming }: LessonBatch, learningRate: number): Promise<Lessons> {
    const { values, gradients } = this.#state;
    const parameters = Object.fromEntries(
      this.layout.slots.map(({ name, start, end, shape }) => [name, floats(values.subarray(start, end), shape)]),
    );
    const outputs = await this.#session.run({ ...feeds, ...parameters });
    const read = (name: string): number => required(outputs[name]?.data[0], name);
    for (const { name, start } of this.layout.slots)
      gradients.set(required(outputs[gradientName(name)], name).data as Float32Array, start);
    const gradNorm = await this.#update(read("token_count"), learningRate);
    return {
      loss: read("loss_sum") / read("token_count"),
      digitLoss: read("digit_loss") / digits,
      pointingLoss: read("pointing_loss") / pointing,
      namingLoss: read("naming_loss") / naming,
      gradNorm,
    };
  }

  async #update(total: number, learningRate: number): Promise<number> {
    const gradNorm = norm(this.#state.gradients) / total;
    if (!Number.isFinite(gradNorm)) throw new InternalError(`step ${this.#steps + 1}: the gradient is not finite`);
    const update = {
      learningRate,
      step: ++this.#steps,
      gradientScale: clipFactor(gradNorm, MAX_GRAD_NORM) / total,
    };
    for (const { start, end, isDecayed } of this.layout.ranges) {
      const range = { start, end, weightDecay: isDecayed ? ADAMW.weightDecay : 0 };
      await adamw(this.#optimizer, this.#state, range, ADAMW, update);
    }
    return gradNorm;
  }

  async release(): Promise<void> {
    await this.#session.release();
    await this.#optimizer.release();
  }
}
