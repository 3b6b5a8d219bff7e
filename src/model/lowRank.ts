/** What an adapter adds to a linear layer, as graph. Source: PEFT 0.21, tuners/lora/layer.py, dora.py and variants.py. */
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../graph/graph.ts";

export interface LowRank {
  readonly a: Value; // [R, in]
  readonly b: Value; // [out, R]
  readonly scale: number;
}

/** base + s x A^T B^T for x [rows, in], base [rows, out] */
export function addLora(ops: Builder, x: Value, base: Value, { a, b, scale }: LowRank): Value {
  const low = ops.matMul(x, a, { transB: true }); // [rows, R]
  return ops.gemm(low, b, base, { transB: true, alpha: scale });
}

/**
 * x V^T, V being W + s B A with each row brought to the length that `magnitude` says. Where part of the adapter's inputs is
 * dropped (`seen`), PEFT adds what V has over W on those inputs: x W^T + seen (V - W)^T.
 */
export function dora(
  ops: Builder,
  { x, seen, weight }: { x: Value; seen: Value; weight: Value },
  { magnitude, ...adapter }: LowRank & { readonly magnitude: Value },
): Value {
  const lengths = ops.detach(rowLengths(ops, weight, adapter)); // PEFT and section 4.3 of the paper: a constant to the gradient
  const factor = ops.div(magnitude, lengths); // [out]
  const base = ops.matMul(seen, weight, { transB: true });
  const turned = ops.mul(addLora(ops, seen, base, adapter), factor); // [rows, out]
  return seen === x ? turned : ops.add(ops.matMul(x, weight, { transB: true }), ops.sub(turned, base));
}

/** |W + s B A| of each row, [out], without that matrix: |W|^2 + B (2s A W^T + s^2 A A^T B^T), row by row. */
function rowLengths(ops: Builder, weight: Value, { a, b, scale }: LowRank): Value {
  const own = ops.reduceSum(ops.mul(weight, weight), [1]); // [out]; of frozen weights, computed once
  const mixed = ops.matMul(weight, a, { transB: true, alpha: 2 * scale }); // [out, R]
  const inner = ops.matMul(a, a, { transB: true, alpha: scale ** 2 }); // [R, R]
  const added = ops.mul(b, ops.gemm(b, inner, mixed)); // [out, R]
  return ops.sqrt(ops.add(own, ops.reduceSum(added, [1])));
}
