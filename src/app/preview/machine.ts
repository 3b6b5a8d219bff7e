/** How fast this machine computes what a model's graphs are made of: three short measurements, or one stated figure. */
import { type Builder, builderOf } from "../../graph/builder.ts";
import type { Cost } from "../../graph/cost.ts";
import { Graph, type Value } from "../../graph/graph.ts";
import { encodeOnnx } from "../../graph/onnx.ts";
import type { TextArchitecture } from "../../model/architecture.ts";
import { CPU } from "../../runtime/device.ts";
import { openSession } from "../../runtime/session.ts";
import { floats, type HostTensor } from "../../runtime/tensor.ts";

export interface Machine {
  /** Operations a second, in products of two matrices of the model's sizes. */
  readonly matrixFlops: number;
  /** The same in the products of attention. */
  readonly batchedFlops: number;
  /** Bytes read and written a second by element-wise operations. */
  readonly movedBytes: number;
  /** What the figures come from. */
  readonly source: "measured" | "stated";
}

/** Starting an operation costs about this much, however small it is. */
const SECONDS_A_NODE = 3e-6;

/** How much faster whole numbers multiply than float32: 3.3 to 3.8 were seen on two x86-64 cores with VNNI. */
const WHOLE_NUMBERS = 3.4;

export const secondsOf = (
  { matrixFlops, batchedFlops, wholeFlops, movedBytes }: Cost,
  nodes: number,
  machine: Machine,
): number =>
  (matrixFlops + wholeFlops / WHOLE_NUMBERS) / machine.matrixFlops +
  batchedFlops / machine.batchedFlops +
  movedBytes / machine.movedBytes +
  nodes * SECONDS_A_NODE;

/** A machine of so many GFLOP/s in matrix products; the rest in the proportions seen on two x86-64 cores. */
export const statedMachine = (gflops: number): Machine => ({
  ...{ matrixFlops: 1e9 * gflops, batchedFlops: 0.7e9 * gflops, movedBytes: 0.1e9 * gflops, source: "stated" },
});

const MOST_TOKENS = 768;
const MOST_SCORES = 2 ** 24; // 64 MB of them
const WORTH = 6e9; // work of one run: some 40 ms of products
const SECONDS_EACH = 0.1;
const LARGE = [4096, 1024] as const; // 16 MB: no cache holds the values of a training step

/** Measures for about a second, with the model's own sizes: narrow matrices are slower. @param tokens of a usual sample */
export async function measureMachine(text: TextArchitecture, tokens: number): Promise<Machine> {
  const T = Math.max(16, Math.min(MOST_TOKENS, Math.round(tokens)));
  const { hiddenSize: D, intermediateSize: F, headDim } = text;
  const heads = Math.max(1, Math.min(text.heads, Math.floor(MOST_SCORES / T ** 2)));
  const matrix = { work: 4 * T * D * F, shapes: { x: [T, D], up: [F, D], down: [D, F] }, once: passThrough };
  const batch = [heads, T, headDim] as const;
  const batched = { work: 4 * heads * T * T * headDim, shapes: { x: batch, keys: batch }, once: attend };
  const moved = { work: 4 * 10 * LARGE[0] * LARGE[1], shapes: { x: LARGE, y: LARGE }, once: move };
  return {
    matrixFlops: await measured(matrix),
    batchedFlops: await measured(batched),
    movedBytes: await measured(moved),
    source: "measured",
  };
}

interface Measurement {
  /** Operations or bytes of `once`, by the count of cost.ts. */
  readonly work: number;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** Appends the work; what it returns has x's shape. */
  readonly once: (ops: Builder, x: Value, others: Readonly<Record<string, Value>>) => Value;
}

const passThrough: Measurement["once"] = (ops, x, { up, down }) =>
  ops.matMul(ops.matMul(x, up as Value, { transB: true }), down as Value, { transB: true });

const attend: Measurement["once"] = (ops, x, { keys }) =>
  ops.matMul(ops.matMul(x, keys as Value, { transB: true, alpha: 1 / 16 }), keys as Value);

/** What is between the products of a step: sums, exponentials, transpositions. */
const move: Measurement["once"] = (ops, x, { y }) => {
  const weights = ops.softmax(ops.add(x, y as Value));
  return ops.mul(ops.reshape(ops.transpose(weights, [1, 0]), x.shape), y as Value);
};

async function measured({ work, shapes, once }: Measurement): Promise<number> {
  const repeats = Math.max(1, Math.min(16, Math.round(WORTH / work)));
  const graph = new Graph("calibration");
  const ops = builderOf(graph);
  const inputs = Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [name, graph.input(name, "float32", shape)]),
  );
  let value = inputs.x as Value;
  for (let i = 0; i < repeats; i++) value = once(ops, value, inputs);
  graph.output(
    "sum",
    ops.reduceSum(
      value,
      value.shape.map((_, axis) => axis),
    ),
  );
  const session = await openSession(encodeOnnx(graph), { device: CPU });
  try {
    const feeds = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, numbers(shape)]));
    const best = await bestSeconds(() => session.run(feeds));
    return (work * repeats) / best;
  } finally {
    await session.release();
  }
}

/** The fastest of as many runs as fit into the time, two at least: other programs only ever slow one down. */
async function bestSeconds(run: () => Promise<unknown>): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  const start = performance.now();
  for (let i = 0; i < 3 || performance.now() - start < 1000 * SECONDS_EACH; i++) {
    const before = performance.now();
    await run();
    best = Math.min(best, (performance.now() - before) / 1000);
    if (i >= 2 && performance.now() - start > 2000 * SECONDS_EACH) break;
  }
  return best;
}

/** Of both signs, and small enough that chains of products neither vanish nor grow without end. */
function numbers(shape: readonly number[]): HostTensor {
  const width = shape.at(-1) ?? 1;
  const size = shape.reduce((product, length) => product * length, 1);
  const scale = Math.sqrt(3 / width);
  return floats(
    Float32Array.from({ length: size }, (_, i) => scale * (((i * 0.618034) % 1) * 2 - 1)),
    shape,
  );
}
