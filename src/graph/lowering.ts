/** How each operation is written in ONNX: one node, or the few that the stock runtime needs for it. */
import { type Dim, factorOf, type Shape, symbolsOf } from "./dim.ts";
import type { DType, NodeOf } from "./graph.ts";
import type { Op } from "./ops.ts";
import { quantMatMul } from "./quantMatMul.ts";
import { storedMatMul } from "./storedMatMul.ts";
import { type Attribute, int64s, type Lowering, MICROSOFT, ONNX_DTYPES, type Writer } from "./writer.ts";

/** An operation that is one ONNX node of the same meaning. */
const plain =
  (opType: string, attributes: Readonly<Record<string, Attribute>> = {}, domain?: string) =>
  (w: Writer, _: unknown, inputs: readonly string[], outputs: readonly string[]): void =>
    w.node(opType, inputs, outputs, attributes, domain);

/** One dimension as int64 [1]. */
function dimension(w: Writer, dim: Dim): string {
  if (typeof dim === "number") return int64s(w, [dim]);
  return w.once(`dim ${dim}`, () => {
    const factors = [
      ...symbolsOf(dim).map((symbol) => w.symbol(symbol)),
      ...(factorOf(dim) === 1 ? [] : [int64s(w, [factorOf(dim)])]),
    ];
    return factors.reduce((product, factor) => w.value("Mul", [product, factor]));
  });
}

/** A whole shape as int64 [rank], every dimension in numbers. */
function fullShape(w: Writer, shape: Shape): string {
  if (shape.every((dim) => typeof dim === "number")) return int64s(w, shape as readonly number[]);
  if (shape.length === 1) return dimension(w, shape[0] as Dim);
  return w.once(`shape ${shape}`, () =>
    w.value(
      "Concat",
      shape.map((dim) => dimension(w, dim)),
      { axis: 0 },
    ),
  );
}

/**
 * One unknown dimension may be left to the runtime, which is cheaper than computing it. In a computed shape a 0 is a
 * length (`allowzero`): without it the runtime would read "as in x".
 */
function reshaped(w: Writer, x: string, shape: Shape, output?: string): string {
  const unknown = shape.filter((dim) => typeof dim !== "number").length;
  const isLeft = unknown <= 1 && !shape.includes(0);
  const target = isLeft
    ? int64s(
        w,
        shape.map((dim) => (typeof dim === "number" ? dim : -1)),
      )
    : fullShape(w, shape);
  const attributes: Readonly<Record<string, Attribute>> = isLeft ? {} : { allowzero: 1 };
  if (output === undefined) return w.value("Reshape", [x, target], attributes);
  w.node("Reshape", [x, target], [output], attributes);
  return output;
}

const filled = (w: Writer, shape: Shape, value: number, dtype: DType): string =>
  w.value("Expand", [w.constant([value], [], dtype), fullShape(w, shape)]);

/** FusedMatMul transposes inside the product; it wants at least one of the three to be more than a MatMul. */
const matMul: Lowering<"MatMul"> = (w, { attrs: { transA, transB, alpha } }, inputs, outputs) => {
  if (!transA && !transB && alpha === 1) return w.node("MatMul", inputs, outputs);
  w.node(
    "FusedMatMul",
    inputs,
    outputs,
    { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } },
    MICROSOFT,
  );
};

const reduction =
  (opType: string): Lowering<"ReduceSum"> & Lowering<"ReduceMean"> =>
  (w, { attrs: { axes, keepdims } }, [x = ""], outputs) =>
    w.node(opType, [x, int64s(w, axes)], outputs, { keepdims: Number(keepdims) });

/** Adds -1 at one place of each row. */
const subtractOneHot: Lowering<"SubtractOneHot"> = (w, { inputs: [, index] }, [x = "", at = ""], outputs) => {
  const rows: Shape = [index.shape[0] as Dim, 1];
  const column = reshaped(w, at, rows);
  w.node("ScatterElements", [x, column, filled(w, rows, -1, "float32")], outputs, { axis: 1, reduction: "add" });
};

/**
 * The CPU kernel of ScatterND adds repeated rows from several threads at once; ScatterElements works through its list in
 * order. So additions spell out the row of every element, and replacements, whose rows are distinct, take ScatterND.
 */
const scatterRows: Lowering<"ScatterRows"> = (
  w,
  { inputs: [, rows, updates], attrs },
  [x = "", at = "", values = ""],
  outputs,
) => {
  const count = rows.shape[0] as Dim;
  if (attrs.reduction === "none") return w.node("ScatterND", [x, reshaped(w, at, [count, 1]), values], outputs);
  const column = reshaped(w, at, [count, ...updates.shape.slice(1).map(() => 1)]);
  w.node("ScatterElements", [x, w.value("Expand", [column, fullShape(w, updates.shape)]), values], outputs, {
    axis: 0,
    reduction: "add",
  });
};

/** murmur3's finaliser over uint32: h ^= h >> 16; h *= c1; h ^= h >> 13; h *= c2; h ^= h >> 16 */
function hashed(w: Writer, word: string): string {
  const constant = (value: number): string => w.constant([value], [], "uint32");
  const fold = (h: string, bits: number): string =>
    w.value("BitwiseXor", [h, w.value("BitShift", [h, constant(bits)], { direction: "RIGHT" })]);
  const times = (h: string, factor: number): string => w.value("Mul", [h, constant(factor)]);
  return fold(times(fold(times(fold(word, 16), 0x85ebca6b), 13), 0xc2b2ae35), 16);
}

/** Element (row, column) is kept when hash(hash(seed + salt) + row * columns + column) >= rate * 2^32. */
const dropoutMask: Lowering<"DropoutMask"> = (w, { attrs: { shape, rate, salt } }, [seed = ""], outputs) => {
  const [rows, columns] = shape;
  const scalar = (dim: Dim): string => w.value("Reshape", [dimension(w, dim), w.constant([], [0], "int64")]);
  const range = (limit: Dim): string =>
    w.value("Range", [w.constant([0], [], "int64"), scalar(limit), w.constant([1], [], "int64")]);
  const uint = (x: string): string => w.value("Cast", [x], { to: ONNX_DTYPES.uint32 });
  const place = w.once(`dropout places ${shape}`, () => {
    const starts = w.value("Mul", [range(rows), w.constant([columns], [], "int64")]);
    return uint(w.value("Add", [w.value("Reshape", [starts, int64s(w, [-1, 1])]), range(columns)]));
  });
  const key = hashed(w, w.value("Add", [uint(seed), w.constant([salt], [], "uint32")]));
  const dropped = w.value("Less", [
    hashed(w, w.value("Add", [place, key])),
    w.constant([Math.floor(rate * 2 ** 32)], [], "uint32"),
  ]);
  w.node("Where", [dropped, w.constant([0], [], "float32"), w.constant([1 / (1 - rate)], [], "float32")], outputs);
};

const lowerings: { readonly [O in Op]: Lowering<O> } = {
  Add: plain("Add"),
  Sub: plain("Sub"),
  Mul: plain("Mul"),
  Div: plain("Div"),
  Neg: plain("Neg"),
  Exp: plain("Exp"),
  Sqrt: plain("Sqrt"),
  Sin: plain("Sin"),
  Cos: plain("Cos"),
  Erf: plain("Erf"),
  Tanh: plain("Tanh"),
  Sigmoid: plain("Sigmoid"),
  Silu: plain("QuickGelu", { alpha: { float: 1 } }, MICROSOFT),
  Gelu: (w, { attrs }, inputs, outputs) => w.node("Gelu", inputs, outputs, { approximate: attrs.approximate }),
  Cast: (w, { attrs }, inputs, outputs) => w.node("Cast", inputs, outputs, { to: ONNX_DTYPES[attrs.to] }),
  Detach: plain("Identity"),
  Equal: plain("Equal"),
  LessOrEqual: plain("LessOrEqual"),
  And: plain("And"),
  Where: plain("Where"),
  MatMul: matMul,
  Gemm: (w, { attrs: { transA, transB, alpha } }, inputs, outputs) =>
    w.node("Gemm", inputs, outputs, { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } }),
  StoredMatMul: storedMatMul,
  QuantMatMul: quantMatMul,
  ReduceSum: reduction("ReduceSum"),
  ReduceMean: reduction("ReduceMean"),
  Softmax: plain("Softmax", { axis: -1 }),
  RmsNorm: (w, { attrs }, inputs, outputs) =>
    w.node("SimplifiedLayerNormalization", inputs, outputs, { axis: -1, epsilon: { float: attrs.epsilon } }),
  LayerNorm: (w, { attrs }, inputs, outputs) =>
    w.node("LayerNormalization", inputs, outputs, { axis: -1, epsilon: { float: attrs.epsilon } }),
  Rotary: plain("RotaryEmbedding", {}, MICROSOFT),
  FusedAttention: (w, { attrs }, inputs, outputs) =>
    w.node("MultiHeadAttention", inputs, outputs, { num_heads: attrs.heads }, MICROSOFT),
  CrossEntropy: plain("SoftmaxCrossEntropyLoss", { reduction: "sum" }),
  SubtractOneHot: subtractOneHot,
  Gather: (w, { attrs }, inputs, outputs) => w.node("Gather", inputs, outputs, { axis: attrs.axis }),
  ScatterRows: scatterRows,
  Reshape: (w, { attrs }, [x = ""], [output = ""]) => void reshaped(w, x, attrs.shape, output),
  Transpose: (w, { attrs }, inputs, outputs) => w.node("Transpose", inputs, outputs, { perm: attrs.perm }),
  Concat: (w, { attrs }, inputs, outputs) => w.node("Concat", inputs, outputs, { axis: attrs.axis }),
  Slice: (w, { attrs: { axis, start, end } }, [x = ""], outputs) =>
    w.node("Slice", [x, int64s(w, [start]), int64s(w, [end]), int64s(w, [axis])], outputs),
  Expand: (w, { attrs }, [x = ""], outputs) => w.node("Expand", [x, fullShape(w, attrs.shape)], outputs),
  Fill: (w, { attrs: { shape, value, dtype } }, _, outputs) =>
    w.node("Expand", [w.constant([value], [], dtype), fullShape(w, shape)], outputs),
  Iota: (w, { attrs: { size } }, _, outputs) => {
    const limit = w.value("Reshape", [dimension(w, size), w.constant([], [0], "int64")]);
    w.node("Range", [w.constant([0], [], "int64"), limit, w.constant([1], [], "int64")], outputs);
  },
  DropoutMask: dropoutMask,
};

/** Writes one node. `inputs` and `outputs` are the ONNX names of the node's values. */
export function lower<O extends Op>(
  w: Writer,
  node: NodeOf<O>,
  inputs: readonly string[],
  outputs: readonly string[],
): void {
  (lowerings[node.op] as Lowering<O>)(w, node, inputs, outputs);
}
