/** AdamW as a graph over one flat vector, and the global norm for clipping. Source: torch.optim.AdamW (2.13), clip_grad_norm_. */
import { type Builder, builderOf } from "../graph/builder.ts";
import { Graph, type Value } from "../graph/graph.ts";
import type { Session } from "../runtime/session.ts";
import { floats, type HostTensor } from "../runtime/tensor.ts";
import type { Range } from "./layout.ts";
import type { Moments, OptimName } from "./moments.ts";

export interface AdamWSettings {
  readonly betas: readonly [number, number];
  readonly epsilon: number;
  readonly weightDecay: number;
}

/** Plain data: it crosses threads. */
export interface OptimizerSettings extends AdamWSettings {
  /** adamw_torch where it is absent. */
  readonly optim?: OptimName;
}

export const ADAMW_DEFAULTS = { betas: [0.9, 0.999], epsilon: 1e-8 } as const;

/** Scalars of one update; computed in double on the host, because 1 - 0.999^1 would lose four digits in float32. */
const SCALARS = ["gradient_scale", "decay_factor", "step_size", "root_bias_correction2"] as const;

/** What AdamW reads and writes for one parameter. */
export interface AdamWValues {
  readonly parameter: Value;
  readonly expAvg: Value;
  readonly expAvgSq: Value;
}

export type AdamWScalars<T> = Readonly<Record<(typeof SCALARS)[number], T>>;

/** The new values, of any shape. */
export function adamwStep(
  ops: Builder,
  { parameter, expAvg, expAvgSq, gradient }: AdamWValues & { readonly gradient: Value },
  scalars: AdamWScalars<Value>,
  { betas: [beta1, beta2], epsilon }: Pick<AdamWSettings, "betas" | "epsilon">,
): AdamWValues {
  const g = ops.mul(gradient, scalars.gradient_scale);
  const average = ops.add(expAvg, ops.scale(ops.sub(g, expAvg), 1 - beta1)); // torch's lerp
  const square = ops.add(ops.scale(expAvgSq, beta2), ops.mul(ops.scale(g, 1 - beta2), g));
  const denominator = ops.add(ops.div(ops.sqrt(square), scalars.root_bias_correction2), ops.scalar(epsilon));
  const moved = ops.sub(
    ops.mul(parameter, scalars.decay_factor),
    ops.mul(scalars.step_size, ops.div(average, denominator)),
  );
  return { parameter: moved, expAvg: average, expAvgSq: square };
}

/**
 * optimizer_model: parameter, gradient, exp_avg, exp_avg_sq, each [n], and four scalars
 * -> parameter_out, exp_avg_out, exp_avg_sq_out.
 */
export function optimizerGraph(settings: Pick<AdamWSettings, "betas" | "epsilon">): Graph {
  const graph = new Graph("optimizer_model");
  const vector = (name: string): Value => graph.input(name, "float32", ["n"]);
  const [parameter, gradient] = [vector("parameter"), vector("gradient")];
  const [expAvg, expAvgSq] = [vector("exp_avg"), vector("exp_avg_sq")];
  const scalars = Object.fromEntries(SCALARS.map((name) => [name, graph.input(name, "float32", [])]));
  const changed = adamwStep(
    builderOf(graph),
    { parameter, gradient, expAvg, expAvgSq },
    scalars as AdamWScalars<Value>,
    settings,
  );
  graph.output("parameter_out", changed.parameter);
  graph.output("exp_avg_out", changed.expAvg);
  graph.output("exp_avg_sq_out", changed.expAvgSq);
  return graph;
}

/** Values and gradients of the trainable parameters, side by side in the same order. */
export interface Flats {
  readonly values: Float32Array;
  readonly gradients: Float32Array | Float64Array;
}

export interface FlatState extends Flats {
  readonly expAvg: Float32Array;
  readonly expAvgSq: Float32Array;
}

export interface Update {
  readonly learningRate: number;
  /** 1 for the first update. */
  readonly step: number;
  /** Turns the accumulated gradient into the one to follow: normalisation times clipping. */
  readonly gradientScale: number;
}

/** How a range of elements is updated. */
export type UpdateOf = (range: Range) => Update & { readonly weightDecay: number };

/** What follows gradients, and remembers. Whoever made one releases it. */
export interface Optimizer {
  /** Changes the values, in place. */
  update(flats: Flats, updateOf: UpdateOf): Promise<void>;
  /** All that it remembers: views, to be read and to be written to. */
  moments(): Moments;
  /** Gives back what sessions hold; moments stay. */
  release(): Promise<void>;
}

export function adamwScalars(
  { gradientScale, learningRate, step }: Update,
  weightDecay: number,
  { betas: [beta1, beta2] }: Pick<AdamWSettings, "betas">,
): AdamWScalars<number> {
  return {
    gradient_scale: gradientScale,
    decay_factor: 1 - learningRate * weightDecay,
    step_size: learningRate / (1 - beta1 ** step),
    root_bias_correction2: Math.sqrt(1 - beta2 ** step),
  };
}

/** Elements a run: what a run works with stays in the processor's cache, and is still enough for all cores. */
const CHUNK = 1 << 17;

/** Updates elements [start, end) in place. */
export async function adamw(
  session: Session,
  state: FlatState,
  range: { start: number; end: number; weightDecay: number },
  settings: AdamWSettings,
  update: Update,
): Promise<void> {
  const scalars = adamwScalars(update, range.weightDecay, settings);
  const feeds: Record<string, HostTensor> = {};
  for (const name of SCALARS) feeds[name] = floats(Float32Array.of(scalars[name]), []);
  for (let start = range.start; start < range.end; start += CHUNK) {
    const end = Math.min(start + CHUNK, range.end);
    const part = (values: Float32Array): HostTensor => floats(values, [end - start]);
    const [parameter, expAvg, expAvgSq] = [state.values, state.expAvg, state.expAvgSq].map((flat) =>
      part(flat.subarray(start, end)),
    ) as [HostTensor, HostTensor, HostTensor];
    const gradient = part(new Float32Array(state.gradients.subarray(start, end)));
    await session.runInto(
      { ...feeds, parameter, gradient, exp_avg: expAvg, exp_avg_sq: expAvgSq },
      { parameter_out: parameter, exp_avg_out: expAvg, exp_avg_sq_out: expAvgSq }, // in place: element by element
    );
  }
}

/** Euclidean norm, summed in double. */
export function norm(values: Float32Array | Float64Array): number {
  const whole = values.length - (values.length % 4);
  let a = 0; // four sums at a time: one would wait for itself
  let b = 0;
  let c = 0;
  let d = 0;
  for (let i = 0; i < whole; i += 4) {
    const w = values[i] as number;
    const x = values[i + 1] as number;
    const y = values[i + 2] as number;
    const z = values[i + 3] as number;
    a += w * w;
    b += x * x;
    c += y * y;
    d += z * z;
  }
  for (let i = whole; i < values.length; i++) a += (values[i] as number) ** 2;
  return Math.sqrt(a + b + c + d);
}

/** At most 1. Source: torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm. `maxNorm` 0 means no clipping. */
export const clipFactor = (gradNorm: number, maxNorm: number): number =>
  maxNorm > 0 ? Math.min(1, maxNorm / (gradNorm + 1e-6)) : 1;
