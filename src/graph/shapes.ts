/** Shape rules: what each operation's outputs look like, or an error at the line that appended it. */
import { InternalError } from "../utils/errors.ts";
import { addDims, broadcast, type Dim, type Shape, sameShape, sizeOf } from "./dim.ts";
import type { AttrsOf, InputsOf, Op, QuantForm } from "./ops.ts";
import type { DType, Value } from "./value.ts";

/** One output; the first has no suffix, further ones are called `<node>.<suffix>`. */
export interface Inferred {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly suffix?: string;
}

/** An operation was given inputs that do not fit. */
export class ShapeError extends InternalError {
  constructor(op: Op, expected: string, inputs: readonly Value[]) {
    super(
      `${op}: expected ${expected}, got ${inputs.map((v) => `${v.name} ${v.dtype}[${v.shape}]`).join(", ") || "nothing"}`,
    );
  }
}

type Rule<O extends Op> = (inputs: InputsOf<O>, attrs: AttrsOf<O>) => readonly Inferred[];

const same = ([x]: readonly [Value]): Inferred[] => [{ dtype: x.dtype, shape: x.shape }];

const isFloat = ({ dtype }: Value): boolean => dtype === "float32" || dtype === "float16" || dtype === "bfloat16";
const isOneDtype = ([first, ...rest]: readonly Value[]): boolean => rest.every(({ dtype }) => dtype === first?.dtype);

/** A function of real numbers, or with `alsoWhole` of whole ones too. */
const unary =
  (op: Op, { alsoWhole = false } = {}) =>
  ([x]: readonly [Value]): Inferred[] => {
    if (!isFloat(x) && !(alsoWhole && x.dtype.includes("int")))
      throw new ShapeError(op, "numbers it is defined on", [x]);
    return same([x]);
  };

function elementwise(op: Op, a: Value, b: Value, dtype: DType = a.dtype): Inferred[] {
  const shape = broadcast(a.shape, b.shape);
  if (!shape || a.dtype !== b.dtype) throw new ShapeError(op, "two shapes that broadcast and one dtype", [a, b]);
  return [{ dtype, shape }];
}

function matMul([a, b]: readonly [Value, Value], { transA, transB }: AttrsOf<"MatMul">): Inferred[] {
  const rank = a.shape.length;
  const at = (v: Value, fromEnd: number): Dim => v.shape[rank - fromEnd] as Dim;
  const [rows, inner] = transA ? [at(a, 1), at(a, 2)] : [at(a, 2), at(a, 1)];
  const [innerB, columns] = transB ? [at(b, 1), at(b, 2)] : [at(b, 2), at(b, 1)];
  const fits =
    rank >= 2 &&
    b.shape.length === rank &&
    inner === innerB &&
    sameShape(a.shape.slice(0, -2), b.shape.slice(0, -2)) &&
    isOneDtype([a, b]);
  if (!fits) throw new ShapeError("MatMul", `matrices that fit (transA ${transA}, transB ${transB})`, [a, b]);
  return [{ dtype: a.dtype, shape: [...a.shape.slice(0, -2), rows, columns] }];
}

function storedMatMul(
  [x, weight, bias]: InputsOf<"StoredMatMul">,
  { transposed }: AttrsOf<"StoredMatMul">,
): Inferred[] {
  const [rows, inner] = x.shape;
  const [columns, innerW] = transposed ? weight.shape : weight.shape.toReversed();
  const fits =
    x.shape.length === 2 &&
    weight.shape.length === 2 &&
    inner === innerW &&
    isFloat(weight) &&
    (!bias || (sameShape(bias.shape, [columns as Dim]) && isOneDtype([x, bias])));
  if (!fits)
    throw new ShapeError(
      "StoredMatMul",
      `x [rows, in], a weight ${transposed ? "[out, in]" : "[in, out]"} and perhaps a bias [out]`,
      bias ? [x, weight, bias] : [x, weight],
    );
  return [{ dtype: x.dtype, shape: [rows as Dim, columns as Dim] }];
}

function quantMatMul(inputs: InputsOf<"QuantMatMul">, { form, out, transposed }: AttrsOf<"QuantMatMul">): Inferred[] {
  const [x, , scales] = inputs;
  const [rows, inner] = x.shape;
  const expected = transposed ? quantShapes(form, out, Number(inner)) : quantShapes(form, Number(inner), out);
  const stored = inputs.slice(1);
  const fits =
    x.shape.length === 2 &&
    (form.kind === "blocks" ? transposed : !(transposed && form.isTurned)) &&
    stored.length === expected.length &&
    stored.every(({ shape }, i) => sameShape(shape, expected[i] ?? [])) &&
    isOneDtype([x, scales]);
  if (!fits) {
    const names = ["values", "scales", "zero points"];
    const wanted = expected.map((shape, i) => `${names[i]} [${shape}]`);
    throw new ShapeError("QuantMatMul", ["x [rows, in]", ...wanted].join(", "), inputs);
  }
  return [{ dtype: x.dtype, shape: [rows as Dim, out] }];
}

/** Shapes of values, scales and zero points of a matrix [out, in]. */
export function quantShapes(form: QuantForm, out: number, inner: number): readonly (readonly number[])[] {
  if (form.kind === "rows") return [form.isTurned ? [out, inner] : [inner, out], [out]];
  const { bits, block } = form;
  const blocks = Math.ceil(inner / block);
  return [
    [out, blocks, (block * bits) / 8],
    [out, blocks],
    [out, Math.ceil((blocks * bits) / 8)],
  ];
}

const isAxisOf = (x: Value, axis: number): boolean => Number.isInteger(axis) && axis >= 0 && axis < x.shape.length;

function reduced([x]: readonly [Value], { axes, keepdims }: AttrsOf<"ReduceSum">): Inferred[] {
  if (!axes.every((axis) => isAxisOf(x, axis)))
    throw new ShapeError("ReduceSum", `axes [${axes}], counted from 0`, [x]);
  const shape = x.shape.flatMap((dim, axis) => (axes.includes(axis) ? (keepdims ? [1] : []) : [dim]));
  return [{ dtype: x.dtype, shape }];
}

const rowStatistic = (x: Value): Shape => [...x.shape.slice(0, -1), 1];

function concat(inputs: readonly Value[], { axis }: AttrsOf<"Concat">): Inferred[] {
  const [first, ...rest] = inputs;
  if (!first) throw new ShapeError("Concat", "at least one input", inputs);
  const others = (v: Value): Shape => v.shape.filter((_, i) => i !== axis);
  if (!inputs.every((v) => isAxisOf(v, axis) && isOneDtype([first, v]) && sameShape(others(v), others(first))))
    throw new ShapeError("Concat", `equal shapes but for axis ${axis}`, inputs);
  const total = rest.reduce<Dim>((sum, v) => addDims(sum, v.shape[axis] as Dim), first.shape[axis] as Dim);
  return [{ dtype: first.dtype, shape: first.shape.map((dim, i) => (i === axis ? total : dim)) }];
}

function cachedAttention(inputs: InputsOf<"CachedAttention">): Inferred[] {
  const [q, k, v, pastKey, pastValue, pastBias] = inputs;
  const [batch, length, width] = q.shape;
  const [, kvHeads = 0, past, headDim = 0] = pastKey.shape;
  const fits =
    q.shape.length === 3 &&
    pastKey.shape.length === 4 &&
    sameShape(k.shape, [batch as Dim, length as Dim, Number(kvHeads) * Number(headDim)]) &&
    sameShape(k.shape, v.shape) &&
    sameShape(pastKey.shape, pastValue.shape) &&
    sameShape(pastBias.shape, [batch as Dim, past as Dim]) &&
    batch === pastKey.shape[0] &&
    Number(width) % (Number(kvHeads) * Number(headDim)) === 0 &&
    isOneDtype(inputs);
  if (!fits)
    throw new ShapeError(
      "CachedAttention",
      "q [B, T, H*Dh], k and v [B, T, K*Dh], a cache [B, K, S, Dh] and its bias [B, S]",
      inputs,
    );
  return same([q]);
}

const rules: { [O in Op]: Rule<O> } = {
  Add: ([a, b]) => elementwise("Add", a, b),
  Sub: ([a, b]) => elementwise("Sub", a, b),
  Mul: ([a, b]) => elementwise("Mul", a, b),
  Div: ([a, b]) => elementwise("Div", a, b),
  Neg: unary("Neg", { alsoWhole: true }),
  Exp: unary("Exp"),
  Sqrt: unary("Sqrt"),
  Sin: unary("Sin"),
  Cos: unary("Cos"),
  Erf: unary("Erf"),
  Tanh: unary("Tanh"),
  Sigmoid: unary("Sigmoid"),
  Silu: unary("Silu"),
  Gelu: unary("Gelu"),
  Detach: same,
  After: ([x, ...others]) => {
    if (others.length === 0 || others.some(({ shape }) => shape.every((dim) => typeof dim === "number")))
      throw new ShapeError("After", "values of lengths that only a run knows, to wait for", [x, ...others]);
    return same([x]);
  },
  Cast: ([x], { to }) => [{ dtype: to, shape: x.shape }],
  Equal: ([a, b]) => elementwise("Equal", a, b, "bool"),
  LessOrEqual: ([a, b]) => elementwise("LessOrEqual", a, b, "bool"),
  And: ([a, b]) => {
    if (a.dtype !== "bool") throw new ShapeError("And", "two masks", [a, b]);
    return elementwise("And", a, b);
  },
  Where: ([condition, yes, no]) => {
    const shape = broadcast(condition.shape, broadcast(yes.shape, no.shape) ?? ["?"]);
    if (!shape || condition.dtype !== "bool" || yes.dtype !== no.dtype)
      throw new ShapeError("Where", "bool, and two values that broadcast", [condition, yes, no]);
    return [{ dtype: yes.dtype, shape }];
  },
  MatMul: matMul,
  Gemm: ([a, b, c], attrs) => {
    const product = matMul([a, b], attrs);
    const shape = product[0]?.shape ?? [];
    if (shape.length !== 2 || !sameShape(broadcast(c.shape, shape) ?? [], shape) || !isOneDtype([a, c]))
      throw new ShapeError("Gemm", "matrices, and a c that broadcasts to their product", [a, b, c]);
    return product;
  },
  StoredMatMul: storedMatMul,
  QuantMatMul: quantMatMul,
  ReduceSum: reduced,
  ReduceMean: reduced,
  Softmax: unary("Softmax"),
  RmsNorm: ([x, scale]) => {
    if (!sameShape(scale.shape, x.shape.slice(-1)) || !isOneDtype([x, scale]))
      throw new ShapeError("RmsNorm", "a scale as long as the last axis", [x, scale]);
    return [
      { dtype: x.dtype, shape: x.shape },
      { dtype: "float32", shape: rowStatistic(x), suffix: "inv_std" },
    ];
  },
  LayerNorm: ([x, scale, bias]) => {
    const last = x.shape.slice(-1);
    if (!sameShape(scale.shape, last) || !sameShape(bias.shape, last) || !isOneDtype([x, scale, bias]))
      throw new ShapeError("LayerNorm", "scale and bias as long as the last axis", [x, scale, bias]);
    const statistic = { dtype: "float32" as const, shape: rowStatistic(x) };
    return [
      { dtype: x.dtype, shape: x.shape },
      { ...statistic, suffix: "mean" },
      { ...statistic, suffix: "inv_std" },
    ];
  },
  Rotary: ([x, positions, cos, sin]) => {
    const [, , width = 0] = x.shape;
    const [, half = 0] = cos.shape;
    const fits =
      x.shape.length === 3 &&
      positions.dtype === "int64" &&
      sameShape(positions.shape, x.shape.slice(0, 2)) &&
      cos.shape.length === 2 &&
      sameShape(cos.shape, sin.shape) &&
      Number(width) % (2 * Number(half)) === 0;
    if (!fits)
      throw new ShapeError("Rotary", "x [B, T, H*Dh], int64 positions [B, T], cos and sin [rows, Dh/2]", [
        x,
        positions,
        cos,
        sin,
      ]);
    return same([x]);
  },
  FusedAttention: ([q, k, v], { heads }) => {
    const [batch, , width] = q.shape;
    const fits =
      q.shape.length === 3 &&
      sameShape(k.shape, v.shape) &&
      batch === k.shape[0] &&
      width === k.shape[2] &&
      Number(width) % heads === 0;
    if (!fits) throw new ShapeError("FusedAttention", `q, k and v [B, T, H*Dh] of ${heads} heads`, [q, k, v]);
    return same([q]);
  },
  CachedAttention: cachedAttention,
  CrossEntropy: ([logits, labels]) => {
    if (logits.shape.length !== 2 || !sameShape(labels.shape, logits.shape.slice(0, 1)) || labels.dtype !== "int64")
      throw new ShapeError("CrossEntropy", "logits [N, V], int64 labels [N]", [logits, labels]);
    return [
      { dtype: logits.dtype, shape: [] },
      { dtype: logits.dtype, shape: logits.shape, suffix: "log_prob" },
    ];
  },
  SubtractOneHot: ([x, index]) => {
    if (x.shape.length !== 2 || !sameShape(index.shape, x.shape.slice(0, 1)) || index.dtype !== "int64")
      throw new ShapeError("SubtractOneHot", "x [N, V], int64 index [N]", [x, index]);
    return same([x]);
  },
  Gather: ([table, indices], { axis }) => {
    if (indices.dtype !== "int64" || !isAxisOf(table, axis))
      throw new ShapeError("Gather", `int64 indices and an axis ${axis}`, [table, indices]);
    return [
      { dtype: table.dtype, shape: [...table.shape.slice(0, axis), ...indices.shape, ...table.shape.slice(axis + 1)] },
    ];
  },
  ScatterRows: ([x, rows, updates]) => {
    const fits =
      rows.shape.length === 1 &&
      rows.dtype === "int64" &&
      sameShape(updates.shape, [...rows.shape, ...x.shape.slice(1)]) &&
      x.dtype === updates.dtype;
    if (!fits) throw new ShapeError("ScatterRows", "x [R, ...], int64 rows [M], updates [M, ...]", [x, rows, updates]);
    return same([x]);
  },
  Reshape: ([x], { shape }) => {
    if (sizeOf(shape) !== sizeOf(x.shape)) throw new ShapeError("Reshape", `as many elements as [${shape}]`, [x]);
    return [{ dtype: x.dtype, shape }];
  },
  Transpose: ([x], { perm }) => {
    if (perm.length !== x.shape.length || !x.shape.every((_, axis) => perm.includes(axis)))
      throw new ShapeError("Transpose", `axes that [${perm}] puts in order`, [x]);
    return [{ dtype: x.dtype, shape: perm.map((axis) => x.shape[axis] as Dim) }];
  },
  Concat: concat,
  Slice: ([x], { axis, start, end }) => {
    const size = x.shape[axis];
    if (typeof size !== "number" || start < 0 || end > size || start >= end)
      throw new ShapeError("Slice", `a known axis ${axis} that holds [${start}, ${end})`, [x]);
    return [{ dtype: x.dtype, shape: x.shape.map((dim, i) => (i === axis ? end - start : dim)) }];
  },
  SplitAt: ([x], { axis, sizes }) => {
    if (!isAxisOf(x, axis) || addDims(...sizes) !== x.shape[axis])
      throw new ShapeError("SplitAt", `an axis ${axis} as long as ${sizes.join(" and ")}`, [x]);
    const part = (size: Dim): Shape => x.shape.map((dim, i) => (i === axis ? size : dim));
    return [
      { dtype: x.dtype, shape: part(sizes[0]) },
      { dtype: x.dtype, shape: part(sizes[1]), suffix: "rest" },
    ];
  },
  Expand: ([x], { shape }) => {
    const wide = broadcast(x.shape, shape);
    if (!wide || !sameShape(wide, shape)) throw new ShapeError("Expand", `a shape that broadcasts to [${shape}]`, [x]);
    return [{ dtype: x.dtype, shape }];
  },
  Fill: (_, { shape, dtype }) => [{ dtype, shape }],
  Iota: (_, { size }) => [{ dtype: "int64", shape: [size] }],
  DropoutMask: (_, { shape }) => [{ dtype: "float32", shape }],
};

/** @throws ShapeError when the inputs do not fit the operation */
export function inferOutputs<O extends Op>(op: O, inputs: InputsOf<O>, attrs: AttrsOf<O>): readonly Inferred[] {
  return (rules[op] as Rule<O>)(inputs, attrs);
}
