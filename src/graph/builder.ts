/** Functions that append one node and return its value: `const y = ops.add(x, ops.mul(a, b))`. */
import { required } from "../utils/errors.ts";
import { type Dim, type Shape, sameShape } from "./dim.ts";
import type { DType, Graph, Value } from "./graph.ts";
import type { AttrsOf, InputsOf, Op, QuantMatrix } from "./ops.ts";

export type Builder = ReturnType<typeof builderOf>;

const NO_ATTRS = {};

/**
 * The builder of one graph. Operations that would change nothing append nothing.
 * @param stand what nodes read in place of a value, of the same type and shape
 */
export function builderOf(graph: Graph, stand?: (value: Value) => Value) {
  const all = <O extends Op>(op: O, inputs: InputsOf<O>, attrs: AttrsOf<O>): readonly Value[] =>
    graph.append(op, stand ? (inputs.map(stand) as unknown as InputsOf<O>) : inputs, attrs);
  const one = <O extends Op>(op: O, inputs: InputsOf<O>, attrs: AttrsOf<O>): Value =>
    required(all(op, inputs, attrs)[0], `output of ${op}`);
  const unary =
    (op: "Neg" | "Exp" | "Sqrt" | "Sin" | "Cos" | "Erf" | "Tanh" | "Sigmoid" | "Silu" | "Softmax" | "Detach") =>
    (x: Value) =>
      one(op, [x], NO_ATTRS);
  const binary = (op: "Add" | "Sub" | "Mul" | "Div" | "Equal" | "LessOrEqual" | "And") => (a: Value, b: Value) =>
    one(op, [a, b], NO_ATTRS);
  const scalar = (value: number, dtype: DType = "float32"): Value => graph.constant([value], [], dtype);
  const reduce =
    (op: "ReduceSum" | "ReduceMean") =>
    (x: Value, axes: readonly number[], keepdims = false) =>
      axes.length === 0 ? x : one(op, [x], { axes, keepdims });

  return {
    graph,
    scalar,
    add: binary("Add"),
    sub: binary("Sub"),
    mul: binary("Mul"),
    div: binary("Div"),
    neg: unary("Neg"),
    exp: unary("Exp"),
    sqrt: unary("Sqrt"),
    sin: unary("Sin"),
    cos: unary("Cos"),
    erf: unary("Erf"),
    tanh: unary("Tanh"),
    sigmoid: unary("Sigmoid"),
    silu: unary("Silu"),
    /** x, through which no gradient passes. */
    detach: unary("Detach"),
    after: (x: Value, others: readonly Value[]) => one("After", [x, ...others], NO_ATTRS),
    gelu: (x: Value, approximate: "none" | "tanh") => one("Gelu", [x], { approximate }),
    cast: (x: Value, to: DType) => (x.dtype === to ? x : one("Cast", [x], { to })),
    equal: binary("Equal"),
    lessOrEqual: binary("LessOrEqual"),
    and: binary("And"),
    where: (condition: Value, yes: Value, no: Value) => one("Where", [condition, yes, no], NO_ATTRS),
    /** x times a plain number. */
    scale: (x: Value, factor: number) => (factor === 1 ? x : one("Mul", [x, scalar(factor)], NO_ATTRS)),
    matMul: (a: Value, b: Value, { transA = false, transB = false, alpha = 1 } = {}) =>
      one("MatMul", [a, b], { transA, transB, alpha }),
    gemm: (a: Value, b: Value, c: Value, { transA = false, transB = false, alpha = 1 } = {}) =>
      one("Gemm", [a, b, c], { transA, transB, alpha }),
    storedMatMul: (x: Value, weight: Value, { bias = null as Value | null, transposed = true } = {}) =>
      one("StoredMatMul", bias ? [x, weight, bias] : [x, weight], { transposed }),
    /**
     * @param out columns of the product
     * @param backward for the gradient: W^T in blocks, or turned rows; without it rows are turned anew, and blocks have none
     */
    quantMatMul: (
      x: Value,
      { values, scales, zeroPoints, form }: QuantMatrix,
      out: number,
      { backward = null as QuantMatrix | null, transposed = true } = {},
    ) => {
      const inputs = [x, values, scales] as const;
      return one("QuantMatMul", zeroPoints ? [...inputs, zeroPoints] : inputs, { form, out, transposed, backward });
    },
    reduceSum: reduce("ReduceSum"),
    reduceMean: reduce("ReduceMean"),
    softmax: unary("Softmax"),
    rmsNorm: (x: Value, scale: Value, epsilon: number) => one("RmsNorm", [x, scale], { epsilon }),
    layerNorm: (x: Value, scale: Value, bias: Value, epsilon: number) =>
      one("LayerNorm", [x, scale, bias], { epsilon }),
    rotary: (x: Value, positions: Value, cos: Value, sin: Value) => one("Rotary", [x, positions, cos, sin], NO_ATTRS),
    fusedAttention: (q: Value, k: Value, v: Value, heads: number) => one("FusedAttention", [q, k, v], { heads }),
    cachedAttention: (...inputs: InputsOf<"CachedAttention">) => one("CachedAttention", inputs, NO_ATTRS),
    crossEntropy: (logits: Value, labels: Value) => one("CrossEntropy", [logits, labels], NO_ATTRS),
    subtractOneHot: (x: Value, index: Value) => one("SubtractOneHot", [x, index], NO_ATTRS),
    gather: (table: Value, indices: Value, axis = 0) => one("Gather", [table, indices], { axis }),
    scatterRows: (x: Value, rows: Value, updates: Value, reduction: AttrsOf<"ScatterRows">["reduction"]) =>
      one("ScatterRows", [x, rows, updates], { reduction }),
    reshape: (x: Value, shape: Shape) => (sameShape(x.shape, shape) ? x : one("Reshape", [x], { shape })),
    transpose: (x: Value, perm: readonly number[]) =>
      perm.every((axis, i) => axis === i) ? x : one("Transpose", [x], { perm }),
    concat: (values: readonly Value[], axis: number) => one("Concat", values, { axis }),
    slice: (x: Value, axis: number, start: number, end: number) => one("Slice", [x], { axis, start, end }),
    splitAt: (x: Value, axis: number, sizes: AttrsOf<"SplitAt">["sizes"]): readonly [Value, Value] => {
      const [first, rest] = all("SplitAt", [x], { axis, sizes });
      return [required(first, "output of SplitAt"), required(rest, "output of SplitAt")];
    },
    expand: (x: Value, shape: Shape) => (sameShape(x.shape, shape) ? x : one("Expand", [x], { shape })),
    fill: (shape: Shape, value: number, dtype: DType = "float32") => one("Fill", [], { shape, value, dtype }),
    iota: (size: Dim) => one("Iota", [], { size }),
    dropoutMask: (seed: Value, attrs: AttrsOf<"DropoutMask">) => one("DropoutMask", [seed], attrs),
    /** Sums over the axes along which `shape` was broadcast to x's shape. */
    sumTo(x: Value, shape: Shape): Value {
      if (sameShape(x.shape, shape)) return x;
      const lead = x.shape.length - shape.length;
      const axes = x.shape.flatMap((dim, axis) =>
        axis < lead || (shape[axis - lead] === 1 && dim !== 1) ? [axis] : [],
      );
      return this.reshape(this.reduceSum(x, axes), shape);
    },
  };
}
