/** The optimizers by the name of the setting `optim`: what they have in common, and AdamW behind it. */
import type { Graph } from "../graph/graph.ts";
import { encodeOnnx } from "../graph/onnx.ts";
import type { Device } from "../runtime/device.ts";
import { openSession, type Session } from "../runtime/session.ts";
import { Adafactor, adafactorGraphs } from "./adafactor.ts";
import { AdamW8Bit } from "./adamw8bit.ts";
import { type Layout, named } from "./layout.ts";
import type { Moments } from "./moments.ts";
import {
  type AdamWSettings,
  adamw,
  type Flats,
  type Optimizer,
  type OptimizerSettings,
  optimizerGraph,
  type UpdateOf,
} from "./optimizer.ts";

/** @param device of the replica; the update itself runs on the CPU, with all cores */
export function optimizerFor(layout: Layout, settings: OptimizerSettings, { sharesCores = false }: Device): Optimizer {
  const device: Device = { kind: "cpu", sharesCores };
  if (settings.optim === "adafactor") return new Adafactor(layout, device);
  if (settings.optim === "adamw_8bit") return new AdamW8Bit(layout, settings);
  return new AdamW(layout, settings, device);
}

/** What a step of the optimizer runs: optimizer_model, and what goes before it. With 8-bit moments the same update is made without the runtime. */
export const optimizerGraphs = (settings: OptimizerSettings): readonly Graph[] =>
  settings.optim === "adafactor" ? Object.values(adafactorGraphs()) : [optimizerGraph(settings)];

class AdamW implements Optimizer {
  readonly #layout: Layout;
  readonly #settings: AdamWSettings;
  readonly #device: Device;
  readonly #expAvg: Float32Array;
  readonly #expAvgSq: Float32Array;
  #session: Promise<Session> | null = null;

  constructor(layout: Layout, settings: AdamWSettings, device: Device) {
    this.#layout = layout;
    this.#settings = settings;
    this.#device = device;
    this.#expAvg = new Float32Array(layout.size);
    this.#expAvgSq = new Float32Array(layout.size);
  }

  moments(): Moments {
    return new Map([
      ["exp_avg", named(this.#layout, this.#expAvg)],
      ["exp_avg_sq", named(this.#layout, this.#expAvgSq)],
    ]);
  }

  async update(flats: Flats, updateOf: UpdateOf): Promise<void> {
    this.#session ??= openSession(encodeOnnx(optimizerGraph(this.#settings)), { device: this.#device });
    const session = await this.#session;
    const state = { ...flats, expAvg: this.#expAvg, expAvgSq: this.#expAvgSq };
    for (const range of this.#layout.ranges) {
      const { weightDecay, ...update } = updateOf(range);
      await adamw(session, state, { ...range, weightDecay }, this.#settings, update);
    }
  }

  async release(): Promise<void> {
    const session = await this.#session;
    this.#session = null;
    await session?.release();
  }
}
