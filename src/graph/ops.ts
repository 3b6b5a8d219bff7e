/** Every operation that a graph may hold: its inputs and attributes. Shape rules, gradient rules and the ONNX form are tables over this one. */
import type { Shape } from "./dim.ts";
import type { DType, Value } from "./value.ts";

type Unary = { inputs: readonly [x: Value]; attrs: object };
type Binary = { inputs: readonly [a: Value, b: Value]; attrs: object };

/**
 * How a matrix [out, in] is kept in few bits.
 * rows: values int8 [in, out], scales [out], of the matrix times R (rotation.ts) in blocks along `in`. The other factor is
 * rounded to `inputBits` bits, row by row. `isPacked`: the session holds a copy of the values as the kernel of x W^T likes best.
 * `isTurned`: values [out, in], for products x W alone.
 * blocks: values uint8 [out, in/block, block*bits/8], two of 4 bits in a byte, low half first; scales [out, in/block]; zero
 * points [out, in/block*bits/8], packed alike: what means 0 in each block. The other factor is rounded to 8 bits, block by
 * block, where `roundsInput` says so.
 */
export type InputBits = 7 | 8;
export type QuantForm =
  | {
      readonly kind: "rows";
      readonly rotation: number;
      readonly inputBits: InputBits;
      readonly isPacked: boolean;
      readonly isTurned: boolean;
    }
  | { readonly kind: "blocks"; readonly bits: 4 | 8; readonly block: number; readonly roundsInput: boolean };

/** A matrix in few bits. */
export interface QuantMatrix {
  readonly values: Value;
  readonly scales: Value;
  /** Of blocks alone. */
  readonly zeroPoints: Value | null;
  readonly form: QuantForm;
}

export interface Ops {
  // element by element, with numpy's broadcasting
  Add: Binary;
  Sub: Binary;
  Mul: Binary;
  Div: Binary;
  Neg: Unary;
  Exp: Unary;
  Sqrt: Unary;
  Sin: Unary;
  Cos: Unary;
  Erf: Unary;
  Tanh: Unary;
  Sigmoid: Unary;
  /** x * sigmoid(x) */
  Silu: Unary;
  Gelu: { inputs: readonly [x: Value]; attrs: { readonly approximate: "none" | "tanh" } };
  Cast: { inputs: readonly [x: Value]; attrs: { readonly to: DType } };
  /** x, taken for a constant by the gradient. */
  Detach: Unary;
  /** x, known only when the others are: what is computed from it is computed then, and apart from what is computed from x itself. */
  After: { inputs: readonly [x: Value, ...others: Value[]]; attrs: object };
  // masks
  Equal: Binary;
  LessOrEqual: Binary;
  And: Binary;
  Where: { inputs: readonly [condition: Value, yes: Value, no: Value]; attrs: object };
  // products and reductions
  /** alpha * op(a) op(b) over the last two axes; equal leading axes. */
  MatMul: {
    inputs: readonly [a: Value, b: Value];
    attrs: { readonly transA: boolean; readonly transB: boolean; readonly alpha: number };
  };
  /** alpha * op(a) op(b) + c, matrices; c broadcasts. One pass less than a product and a sum. */
  Gemm: {
    inputs: readonly [a: Value, b: Value, c: Value];
    attrs: { readonly transA: boolean; readonly transB: boolean; readonly alpha: number };
  };
  /**
   * x W^T (+ bias) for a frozen W [out, in], or x W (transposed: false), x being a matrix. W stays as it is stored: where
   * that is less than float32, a float32 copy of it, or of a part at a time, lives only while this product is computed.
   */
  StoredMatMul: {
    inputs: readonly [x: Value, weight: Value] | readonly [x: Value, weight: Value, bias: Value];
    attrs: { readonly transposed: boolean };
  };
  /**
   * x W^T for a frozen W [out, in] kept in few bits, x being a matrix; or, where it is kept by rows, x W (transposed: false).
   * `backward` is W^T with scales of its own, for the gradient, if there is one.
   */
  QuantMatMul: {
    inputs:
      | readonly [x: Value, values: Value, scales: Value]
      | readonly [x: Value, values: Value, scales: Value, zeroPoints: Value];
    attrs: {
      readonly form: QuantForm;
      readonly out: number;
      readonly transposed: boolean;
      readonly backward: QuantMatrix | null;
    };
  };
  ReduceSum: { inputs: readonly [x: Value]; attrs: { readonly axes: readonly number[]; readonly keepdims: boolean } };
  ReduceMean: { inputs: readonly [x: Value]; attrs: { readonly axes: readonly number[]; readonly keepdims: boolean } };
  /** Over the last axis. */
  Softmax: Unary;
  /** Over the last axis; also gives the inverse deviation that its gradient needs. */
  RmsNorm: { inputs: readonly [x: Value, scale: Value]; attrs: { readonly epsilon: number } };
  /** Over the last axis; also gives mean and inverse deviation. */
  LayerNorm: { inputs: readonly [x: Value, scale: Value, bias: Value]; attrs: { readonly epsilon: number } };
  /** Rotates the halves of each head of x [B, T, H*Dh] by the angles of its row of cos and sin [rows, Dh/2]; positions [B, T] name the row. */
  Rotary: { inputs: readonly [x: Value, positions: Value, cos: Value, sin: Value]; attrs: object };
  /** softmax(q k^T / sqrt(Dh)) v for q, k, v [B, T, H*Dh], every key seen, no score kept: for graphs that are not differentiated. */
  FusedAttention: {
    inputs: readonly [q: Value, k: Value, v: Value];
    attrs: { readonly heads: number };
  };
  /**
   * Attention of T new tokens to themselves, each to those up to it, and to S cached ones: softmax(q [pastKey; k]^T / sqrt(Dh) +
   * [pastBias; causal]) [pastValue; v], H/K query heads to each of K key heads. q [B, T, H*Dh], k and v [B, T, K*Dh]; the cache
   * [B, K, S, Dh] is read where it lies; pastBias [B, S]. For graphs that are not differentiated.
   */
  CachedAttention: {
    inputs: readonly [q: Value, k: Value, v: Value, pastKey: Value, pastValue: Value, pastBias: Value];
    attrs: object;
  };
  /** Sum over rows of -log softmax(logits [N, V])[label], N at least 1; also gives the log-probabilities [N, V]. */
  CrossEntropy: { inputs: readonly [logits: Value, labels: Value]; attrs: object };
  /** x [N, V] minus one at column index[n] of each row n. */
  SubtractOneHot: { inputs: readonly [x: Value, index: Value]; attrs: object };
  // moving numbers
  Gather: { inputs: readonly [table: Value, indices: Value]; attrs: { readonly axis: number } };
  /** x [R, ...] with rows replaced by, or increased by, updates [M, ...]. Only `add` lets rows repeat, and takes longer for it. */
  ScatterRows: {
    inputs: readonly [x: Value, rows: Value, updates: Value];
    attrs: { readonly reduction: "none" | "add" | "addDistinct" };
  };
  Reshape: { inputs: readonly [x: Value]; attrs: { readonly shape: Shape } };
  Transpose: { inputs: readonly [x: Value]; attrs: { readonly perm: readonly number[] } };
  Concat: { inputs: readonly Value[]; attrs: { readonly axis: number } };
  Slice: {
    inputs: readonly [x: Value];
    attrs: { readonly axis: number; readonly start: number; readonly end: number };
  };
  /** Two parts of known lengths along an axis; the second is the output `.rest`. */
  SplitAt: {
    inputs: readonly [x: Value];
    attrs: { readonly axis: number; readonly sizes: readonly [Shape[number], Shape[number]] };
  };
  Expand: { inputs: readonly [x: Value]; attrs: { readonly shape: Shape } };
  Fill: { inputs: readonly []; attrs: { readonly shape: Shape; readonly value: number; readonly dtype: DType } };
  /** 0, 1, 2, ... as int64 [size]. */
  Iota: { inputs: readonly []; attrs: { readonly size: Shape[number] } };
  /**
   * 0 with probability `rate`, else 1 / (1 - rate), for each element of `shape` [rows, columns]: a hash of the fed seed,
   * of `salt` and of the place, so that the same seed gives the same mask whenever it is computed.
   */
  DropoutMask: {
    inputs: readonly [seed: Value];
    attrs: { readonly shape: readonly [Shape[number], number]; readonly rate: number; readonly salt: number };
  };
}

export type Op = keyof Ops;
export type InputsOf<O extends Op> = Ops[O]["inputs"];
export type AttrsOf<O extends Op> = Ops[O]["attrs"];
