/** What an adapter adds to a linear layer, as graph. Source: PEFT 0.21, tuners/lora/layer.py, dora.py and variants.py. */
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../graph/graph.ts";

export interface LowRank {
  readonly a: Value; // [R, in]
  readonly b: Value; // [out, R]
  readonly scale: number;
  /** Part of the scale that the first product takes, a power of two; 1 unless told otherwise. */
  readonly early?: number;
  /** Factors of what lies between the two products, [rows, R]: 0 for adapters of other rows. */
  readonly share?: Value | null;
}

/**
 * For answers of few bits, where the last digit of a sum may turn a rounding: a row alone must be summed as it would be among
 * others. The CPU's kernel for single rows adds up in another order, and takes no factors: so both products get one.
 */
export const earlyScale = (scale: number): number => (scale === 0.5 ? 0.25 : 0.5);

/** base + s x A^T B^T for x [rows, in], base [rows, out] */
export function addLora(ops: Builder, x: Value, base: Value, { a, b, scale, early = 1, share }: LowRank): Value {
  const low = ops.matMul(x, a, { transB: true, alpha: early }); // [rows, R]
  return ops.gemm(share ? ops.mul(low, share) : low, b, base, { transB: true, alpha: scale / early });
}

/** W, of which only products are to be had: it may be stored in few bits. */
export interface Base {
  /** x [rows, in] -> x W^T [rows, out] */
  readonly product: (x: Value) => Value;
  readonly squares: Value; // [out] squared length of each row
}

/**
 * x V^T, V being W + s B A with each row brought to the length that `magnitude` says. Where part of the adapter's inputs is
 * dropped (`seen`), PEFT adds what V has over W on those inputs: x W^T + seen (V - W)^T.
 */
export function dora(
  ops: Builder,
  { x, seen }: { readonly x: Value; readonly seen: Value },
  base: Base,
  { magnitude, ...adapter }: LowRank & { readonly magnitude: Value },
): Value {
  const lengths = ops.detach(rowLengths(ops, base, adapter)); // PEFT and section 4.3 of the paper: a constant to the gradient
  const factor = ops.div(magnitude, lengths); // [out]
  const plain = base.product(seen);
  const turned = ops.mul(addLora(ops, seen, plain, adapter), factor); // [rows, out]
  return seen === x ? turned : ops.add(base.product(x), ops.sub(turned, plain));
}

/** |W + s B A| of each row, [out], without that matrix: |W|^2 + B (2s A W^T + s^2 A A^T B^T), row by row. */
function rowLengths(ops: Builder, { product, squares }: Base, { a, b, scale }: LowRank): Value {
  const mixed = ops.scale(ops.transpose(product(a), [1, 0]), 2 * scale); // [out, R]
  const inner = ops.matMul(a, a, { transB: true, alpha: scale ** 2 }); // [R, R]
  const added = ops.mul(b, ops.gemm(b, inner, mixed)); // [out, R]
  return ops.sqrt(ops.add(squares, ops.reduceSum(added, [1])));
}
