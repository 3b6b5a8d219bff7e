/** How operations are written in ONNX: what a lowering is given, and what it may say. */
import type { DType, NodeOf, Value } from "./graph.ts";
import type { Op } from "./ops.ts";

/**
 * Whose kernels the nodes are chosen for: `cpu` is standard ONNX and com.microsoft as the CPU runs it fastest; what
 * differs for `webgpu` and `cuda` stands in webgpu.ts and cuda.ts.
 */
export type Target = "cpu" | "webgpu" | "cuda" | "cuda-imitated";

/** A graph of its own inside a node, encoded; it sees the values around it. */
export interface Branch {
  readonly branch: Uint8Array;
}

export type Attribute = number | string | readonly number[] | { readonly float: number } | Branch;

/** What an operation may use while it is written down. Names are names of ONNX values. */
export interface Writer {
  readonly target: Target;
  node(
    opType: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes?: Readonly<Record<string, Attribute>>,
    domain?: string,
  ): void;
  /** A node with one output of a fresh name. */
  value(
    opType: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, Attribute>>,
    domain?: string,
  ): string;
  constant(data: readonly number[], shape: readonly number[], dtype: DType): string;
  /** The length of a symbolic dimension at run time, as int64 [1], read off an input that has it. */
  symbol(name: string): string;
  /** Whether the runtime changes nothing of the graph, nor should reckon with shapes beforehand (onnx.ts). */
  readonly runsAsWritten: boolean;
  /** Numbers as int64 that the runtime learns in a run. */
  late(data: readonly number[]): string;
  /** Computes once whatever `make` computes for this key. */
  once(key: string, make: () => string): string;
  /** A name that no value has. */
  freshName(base: string): string;
  /** The nodes that `write` writes, as a branch with one output of this name, like `of`. */
  branch(of: Value, output: string, write: () => void): Branch;
}

export const MICROSOFT = "com.microsoft";
export const ONNX_DTYPES: Readonly<Record<DType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  uint32: 12,
  bfloat16: 16,
};

export type Lowering<O extends Op> = (
  w: Writer,
  node: NodeOf<O>,
  inputs: readonly string[],
  outputs: readonly string[],
) => void;

export type Lowerings = { readonly [O in Op]: Lowering<O> };

export const int64s = (w: Writer, data: readonly number[]): string => w.constant(data, [data.length], "int64");

/** Numbers for a Reshape. */
export const lengths = (w: Writer, data: readonly number[]): string =>
  w.runsAsWritten ? w.late(data) : int64s(w, data);

/**
 * Numbers cut from a zero that only a run knows to their end: all of them. How many there are the runtime cannot tell
 * beforehand, as it could of a sum, so that it knows no more of a Reshape by them than that it is one.
 */
export const fromZero = (w: Writer, data: readonly number[], zero: string): string =>
  w.value("Slice", [int64s(w, data), zero, int64s(w, [data.length])]);

/**
 * The same whole numbers, known only when the others are: broadcast by none of the lengths of each. Of what comes out the
 * runtime cannot tell the rank beforehand, nor then of a Reshape by it.
 */
export const numbersAfter = (w: Writer, numbers: string, others: readonly string[]): string =>
  others.reduce(
    (known, other) =>
      w.once(`${known} after ${other}`, () => {
        const none = w.once(`no length of ${other}`, () => w.value("Shape", [other], { start: 0, end: 0 }));
        return w.value("Expand", [known, none]);
      }),
    numbers,
  );

/** int64 [2] of zeros that are known only when x is. */
export const zerosAfter = (w: Writer, x: string): string => numbersAfter(w, int64s(w, [0, 0]), [x]);

/** A weight that is a matrix, for the runtime known only when x is: a Reshape by zeros keeps the shape and copies nothing. */
export const knownAfter = (w: Writer, weight: string, x: string): string =>
  w.value("Reshape", [weight, zerosAfter(w, x)]);
