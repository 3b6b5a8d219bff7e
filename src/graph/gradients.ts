/**
 * Gradient rules: for each operation, the gradients of its inputs from that of its first output. Rules use the ordinary
 * builder, so a gradient is an ordinary, shape-checked, printable graph. Broadcasting is undone by the walk, not here.
 */
import { InternalError, required } from "../utils/errors.ts";
import type { Builder } from "./builder.ts";
import { divDims, sizeOf } from "./dim.ts";
import type { NodeOf, Value } from "./graph.ts";
import type { AttrsOf, Op } from "./ops.ts";

/** null: this input needs none (an index, a mask). `needs[i]` says whether input i leads to a trainable value. */
export type GradientRule<O extends Op> = (
  ops: Builder,
  grad: Value,
  node: NodeOf<O>,
  needs: readonly boolean[],
) => readonly (Value | null)[];

const outputOf = (node: { readonly op: Op; readonly outputs: readonly Value[] }, index: number): Value =>
  required(node.outputs[index], `output ${index} of ${node.op}`);

/** Written where a gradient cannot exist; reached only when a graph differentiates through it by mistake. */
const none =
  (reason: string) =>
  (_: Builder, __: Value, node: { readonly op: Op }): never => {
    throw new InternalError(`gradient of ${node.op}: ${reason}`);
  };

/** y = silu(x): dy/dx = s + y (1 - s), s = sigmoid(x) */
const silu: GradientRule<"Silu"> = (ops, grad, node) => {
  const s = ops.sigmoid(node.inputs[0]);
  const slope = ops.add(s, ops.mul(outputOf(node, 0), ops.sub(ops.scalar(1), s)));
  return [ops.mul(grad, slope)];
};

/** Exact: Phi(x) + x phi(x). Tanh form: 0.5 (1 + t) + 0.5 x (1 - t^2) u', t = tanh(u), u = sqrt(2/pi) (x + 0.044715 x^3). */
const gelu: GradientRule<"Gelu"> = (ops, grad, node) => {
  const [x] = node.inputs;
  const square = ops.mul(x, x);
  if (node.attrs.approximate === "none") {
    const cdf = ops.scale(ops.add(ops.erf(ops.scale(x, Math.SQRT1_2)), ops.scalar(1)), 0.5);
    const pdf = ops.scale(ops.exp(ops.scale(square, -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return [ops.mul(grad, ops.add(cdf, ops.mul(x, pdf)))];
  }
  const c = Math.sqrt(2 / Math.PI);
  const t = ops.tanh(ops.mul(x, ops.add(ops.scale(square, c * 0.044715), ops.scalar(c))));
  const du = ops.add(ops.scale(square, 3 * c * 0.044715), ops.scalar(c));
  const bend = ops.mul(ops.scale(ops.mul(x, ops.sub(ops.scalar(1), ops.mul(t, t))), 0.5), du);
  return [ops.mul(grad, ops.add(ops.scale(ops.add(t, ops.scalar(1)), 0.5), bend))];
};

/** C = alpha op(A) op(B) */
const productGradients = (
  ops: Builder,
  grad: Value,
  [a, b]: readonly [Value, Value, ...Value[]],
  { transA, transB, alpha }: AttrsOf<"MatMul">,
  needs: readonly boolean[],
): readonly [Value | null, Value | null] => [
  needs[0]
    ? transA
      ? ops.matMul(b, grad, { transA: transB, transB: true, alpha })
      : ops.matMul(grad, b, { transB: !transB, alpha })
    : null,
  needs[1]
    ? transB
      ? ops.matMul(grad, a, { transA: true, transB: transA, alpha })
      : ops.matMul(a, grad, { transA: !transA, alpha })
    : null,
];

/** dx = y (dy - sum(dy y)) */
const softmax: GradientRule<"Softmax"> = (ops, grad, node) => {
  const y = outputOf(node, 0);
  const last = y.shape.length - 1;
  return [ops.mul(y, ops.sub(grad, ops.reduceSum(ops.mul(grad, y), [last], true)))];
};

const leadingAxes = (x: Value): number[] => x.shape.slice(0, -1).map((_, axis) => axis);

/** y = x r w, r = 1 / sqrt(mean(x^2) + eps): with g = dy w, dx = r g - x r^3 mean(g x) */
const rmsNorm: GradientRule<"RmsNorm"> = (ops, grad, node, needs) => {
  const [x, scale] = node.inputs;
  const r = outputOf(node, 1);
  const g = ops.mul(grad, scale);
  const inner = ops.reduceMean(ops.mul(g, x), [x.shape.length - 1], true);
  const cube = ops.mul(ops.mul(r, ops.mul(r, r)), inner);
  return [
    needs[0] ? ops.sub(ops.mul(g, r), ops.mul(x, cube)) : null,
    needs[1] ? ops.reduceSum(ops.mul(grad, ops.mul(x, r)), leadingAxes(x)) : null,
  ];
};

/** With n = (x - mean) r and g = dy w: dx = r (g - mean(g) - n mean(g n)) */
const layerNorm: GradientRule<"LayerNorm"> = (ops, grad, node, needs) => {
  const [x, scale] = node.inputs;
  const n = ops.mul(ops.sub(x, outputOf(node, 1)), outputOf(node, 2));
  const last = [x.shape.length - 1];
  const g = ops.mul(grad, scale);
  const centred = ops.sub(
    ops.sub(g, ops.reduceMean(g, last, true)),
    ops.mul(n, ops.reduceMean(ops.mul(g, n), last, true)),
  );
  return [
    needs[0] ? ops.mul(centred, outputOf(node, 2)) : null,
    needs[1] ? ops.reduceSum(ops.mul(grad, n), leadingAxes(x)) : null,
    needs[2] ? ops.reduceSum(grad, leadingAxes(x)) : null,
  ];
};

/** Rows that were gathered several times collect the sum of their gradients. */
const gather: GradientRule<"Gather"> = (ops, grad, { inputs: [table, indices], attrs: { axis } }) => {
  if (axis !== 0)
    throw new InternalError("gradient of Gather: only along axis 0, nothing trainable is gathered along another");
  const count = sizeOf(indices.shape);
  const rows = ops.reshape(indices, [count]);
  const updates = ops.reshape(grad, [count, ...table.shape.slice(1)]);
  return [ops.scatterRows(ops.fill(table.shape, 0), rows, updates, "add"), null];
};

const scatterRows: GradientRule<"ScatterRows"> = (
  ops,
  grad,
  { inputs: [, rows, updates], attrs: { reduction } },
  needs,
) => [
  needs[0] ? (reduction === "none" ? ops.scatterRows(grad, rows, ops.fill(updates.shape, 0), "none") : grad) : null,
  null,
  needs[2] ? ops.gather(grad, rows) : null,
];

const concat: GradientRule<"Concat"> = (ops, grad, { inputs, attrs: { axis } }) => {
  let start = 0;
  return inputs.map((input) => {
    const size = input.shape[axis];
    if (typeof size !== "number")
      throw new InternalError(`gradient of Concat: axis ${axis} of ${input.name} is not known before a run`);
    start += size;
    return ops.slice(grad, axis, start - size, start);
  });
};

const slice: GradientRule<"Slice"> = (ops, grad, { inputs: [x], attrs: { axis, start, end } }) => {
  const size = x.shape[axis] as number; // the shape rule of Slice demands a known one
  const zeros = (length: number): Value[] =>
    length === 0
      ? []
      : [
          ops.fill(
            x.shape.map((dim, i) => (i === axis ? length : dim)),
            0,
          ),
        ];
  const parts = [...zeros(start), grad, ...zeros(size - end)];
  return [parts.length === 1 ? grad : ops.concat(parts, axis)];
};

function inverse(perm: readonly number[]): number[] {
  return perm.map((_, axis) => perm.indexOf(axis));
}

/** Gives back the axes that a reduction took away, as ones. */
function withKeptAxes(ops: Builder, grad: Value, x: Value, axes: readonly number[]): Value {
  return ops.reshape(
    grad,
    x.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim)),
  );
}

export const gradientRules: { readonly [O in Op]: GradientRule<O> } = {
  Add: (_, grad) => [grad, grad],
  Sub: (ops, grad, _, needs) => [grad, needs[1] ? ops.neg(grad) : null],
  Mul: (ops, grad, { inputs: [a, b] }, needs) => [
    needs[0] ? ops.mul(grad, b) : null,
    needs[1] ? ops.mul(grad, a) : null,
  ],
  Div: (ops, grad, node, needs) => {
    const [, b] = node.inputs;
    const share = ops.div(grad, b);
    return [needs[0] ? share : null, needs[1] ? ops.neg(ops.mul(share, outputOf(node, 0))) : null];
  },
  Neg: (ops, grad) => [ops.neg(grad)],
  Exp: (ops, grad, node) => [ops.mul(grad, outputOf(node, 0))],
  Sqrt: (ops, grad, node) => [ops.div(ops.scale(grad, 0.5), outputOf(node, 0))],
  Sin: (ops, grad, { inputs: [x] }) => [ops.mul(grad, ops.cos(x))],
  Cos: (ops, grad, { inputs: [x] }) => [ops.neg(ops.mul(grad, ops.sin(x)))],
  Erf: (ops, grad, { inputs: [x] }) => [
    ops.mul(grad, ops.scale(ops.exp(ops.neg(ops.mul(x, x))), 2 / Math.sqrt(Math.PI))),
  ],
  Tanh: (ops, grad, node) => [ops.mul(grad, ops.sub(ops.scalar(1), ops.mul(outputOf(node, 0), outputOf(node, 0))))],
  Sigmoid: (ops, grad, node) => [ops.mul(grad, ops.mul(outputOf(node, 0), ops.sub(ops.scalar(1), outputOf(node, 0))))],
  Silu: silu,
  Gelu: gelu,
  Cast: (ops, grad, { inputs: [x] }) => [ops.cast(grad, x.dtype)],
  Detach: () => [null],
  After: (_, grad) => [grad],
  Equal: none("a comparison is flat"),
  LessOrEqual: none("a comparison is flat"),
  And: none("a mask is flat"),
  Where: (ops, grad, { inputs: [condition] }, needs) => [
    null,
    needs[1] ? ops.where(condition, grad, ops.scalar(0)) : null,
    needs[2] ? ops.where(condition, ops.scalar(0), grad) : null,
  ],
  MatMul: (ops, grad, { inputs, attrs }, needs) => productGradients(ops, grad, inputs, attrs, needs),
  Gemm: (ops, grad, { inputs, attrs }, needs) => [...productGradients(ops, grad, inputs, attrs, needs), grad],
  StoredMatMul: (ops, grad, { inputs: [, weight], attrs: { transposed } }, needs) => {
    if (needs[1]) throw new InternalError(`gradient of StoredMatMul: ${weight.name} is not frozen`);
    return [needs[0] ? ops.storedMatMul(grad, weight, { transposed: !transposed }) : null, null, grad];
  },
  QuantMatMul: (ops, grad, { inputs: [x, values, scales], attrs: { form, transposed, backward } }, needs) => {
    if (needs[1] || needs[2] || !transposed || (!backward && form.kind === "blocks"))
      throw new InternalError(
        `gradient of QuantMatMul: ${values.name} is not frozen, or is in blocks without a transpose`,
      );
    if (!needs[0]) return [null, null, null, null];
    const inner = Number(x.shape[1]);
    const matrix = backward ?? { values, scales, zeroPoints: null, form };
    const dx = ops.quantMatMul(grad, matrix, inner, { transposed: form.kind === "blocks" });
    return [dx, null, null, null];
  },
  ReduceSum: (ops, grad, { inputs: [x], attrs: { axes } }) => [ops.expand(withKeptAxes(ops, grad, x, axes), x.shape)],
  ReduceMean: (ops, grad, { inputs: [x], attrs: { axes } }) => {
    const count = divDims(sizeOf(axes.map((axis) => required(x.shape[axis], "axis"))), 1);
    if (typeof count !== "number")
      throw new InternalError("gradient of ReduceMean: over an axis that is not known before a run");
    return [ops.expand(withKeptAxes(ops, ops.scale(grad, 1 / count), x, axes), x.shape)];
  },
  Softmax: softmax,
  RmsNorm: rmsNorm,
  LayerNorm: layerNorm,
  // a rotation's transpose is the rotation by the opposite angle
  Rotary: (ops, grad, { inputs: [, positions, cos, sin] }) => [
    ops.rotary(grad, positions, cos, ops.neg(sin)),
    null,
    null,
    null,
  ],
  CachedAttention: none("a cache is for answering; build attention from products where gradients pass"),
  SplitAt: none("it belongs to attention over a cache"),
  FusedAttention: none("it keeps no scores; build attention from products where gradients pass"),
  // d loss_sum / d logits = softmax - one-hot
  CrossEntropy: (ops, grad, node) => [
    ops.mul(ops.subtractOneHot(ops.exp(outputOf(node, 1)), node.inputs[1]), grad),
    null,
  ],
  SubtractOneHot: (_, grad) => [grad, null],
  Gather: gather,
  ScatterRows: scatterRows,
  Reshape: (ops, grad, { inputs: [x] }) => [ops.reshape(grad, x.shape)],
  Transpose: (ops, grad, { attrs: { perm } }) => [ops.transpose(grad, inverse(perm))],
  Concat: concat,
  Slice: slice,
  Expand: (_, grad) => [grad],
  Fill: none("a constant has no inputs"),
  Iota: none("a constant has no inputs"),
  DropoutMask: none("a mask does not depend on trainable values"),
};
