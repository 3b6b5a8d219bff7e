/** How each operation is written in ONNX: one node, or the few that the stock runtime needs for it. */
import { cachedAttention, cachedAttentionByProducts } from "./cachedAttention.ts";
import { cudaLowerings } from "./cuda.ts";
import type { Dim, Shape } from "./dim.ts";
import type { NodeOf } from "./graph.ts";
import type { Op } from "./ops.ts";
import { quantMatMul } from "./quantMatMul.ts";
import { scatterRows } from "./scatterRows.ts";
import { filled, fullShape, reshaped, scalarDimension } from "./shapeValues.ts";
import { storedMatMul } from "./storedMatMul.ts";
import { webgpuLowerings } from "./webgpu.ts";
import {
  type Attribute,
  int64s,
  type Lowering,
  type Lowerings,
  MICROSOFT,
  numbersAfter,
  ONNX_DTYPES,
  type Target,
  type Writer,
} from "./writer.ts";

/** An operation that is one ONNX node of the same meaning. */
const plain =
  (opType: string, attributes: Readonly<Record<string, Attribute>> = {}, domain?: string) =>
  (w: Writer, _: unknown, inputs: readonly string[], outputs: readonly string[]): void =>
    w.node(opType, inputs, outputs, attributes, domain);

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

/** The runtime knows of every Gemm that it makes a matrix, which spreads from there: a Reshape ends it (onnx.ts). */
const gemm: Lowering<"Gemm"> = (w, { attrs: { transA, transB, alpha } }, inputs, outputs) => {
  const attributes = { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } };
  if (!w.runsAsWritten) return w.node("Gemm", inputs, outputs, attributes);
  w.node("Reshape", [w.value("Gemm", inputs, attributes), w.late([0, 0])], outputs);
};

/** A Reshape by zeros, which stand for x's own lengths and are known when the others are: nothing is copied. */
const after: Lowering<"After"> = (w, { inputs: [{ shape }] }, [x = "", ...others], outputs) => {
  if (shape.length > 0) {
    const lengths = shape.map(() => 0);
    return w.node("Reshape", [x, numbersAfter(w, int64s(w, lengths), others)], outputs);
  }
  const row = w.value("Reshape", [x, int64s(w, [1])]);
  w.node("Gather", [row, numbersAfter(w, w.constant([0], [], "int64"), others)], outputs);
};

/** Adds -1 at one place of each row. */
const subtractOneHot: Lowering<"SubtractOneHot"> = (w, { inputs: [, index] }, [x = "", at = ""], outputs) => {
  const rows: Shape = [index.shape[0] as Dim, 1];
  const column = reshaped(w, at, rows);
  w.node("ScatterElements", [x, column, filled(w, rows, -1, "float32")], outputs, { axis: 1, reduction: "add" });
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
  const range = (limit: Dim): string =>
    w.value("Range", [w.constant([0], [], "int64"), scalarDimension(w, limit), w.constant([1], [], "int64")]);
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

const lowerings: Lowerings = {
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
  After: after,
  Equal: plain("Equal"),
  LessOrEqual: plain("LessOrEqual"),
  And: plain("And"),
  Where: plain("Where"),
  MatMul: matMul,
  Gemm: gemm,
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
  CachedAttention: cachedAttention(lower),
  CrossEntropy: plain("SoftmaxCrossEntropyLoss", { reduction: "sum" }),
  SubtractOneHot: subtractOneHot,
  Gather: (w, { attrs }, inputs, outputs) => w.node("Gather", inputs, outputs, { axis: attrs.axis }),
  ScatterRows: scatterRows((_, rows) => rows),
  Reshape: (w, { attrs }, [x = ""], [output = ""]) => void reshaped(w, x, attrs.shape, output),
  Transpose: (w, { attrs }, inputs, outputs) => w.node("Transpose", inputs, outputs, { perm: attrs.perm }),
  Concat: (w, { attrs }, inputs, outputs) => w.node("Concat", inputs, outputs, { axis: attrs.axis }),
  Slice: (w, { attrs: { axis, start, end } }, [x = ""], outputs) =>
    w.node("Slice", [x, int64s(w, [start]), int64s(w, [end]), int64s(w, [axis])], outputs),
  SplitAt: (w, { attrs: { axis, sizes } }, [x = ""], outputs) =>
    w.node("Split", [x, fullShape(w, sizes)], outputs, { axis }),
  Expand: (w, { attrs }, [x = ""], outputs) => w.node("Expand", [x, fullShape(w, attrs.shape)], outputs),
  Fill: (w, { attrs: { shape, value, dtype } }, _, outputs) =>
    w.node("Expand", [w.constant([value], [], dtype), fullShape(w, shape)], outputs),
  Iota: (w, { attrs: { size } }, _, outputs) =>
    w.node("Range", [w.constant([0], [], "int64"), scalarDimension(w, size), w.constant([1], [], "int64")], outputs),
  DropoutMask: dropoutMask,
};

/** Where a device's kernels want another form. */
const special: Readonly<Record<Target, Partial<Lowerings>>> = {
  cpu: {},
  webgpu: { ...webgpuLowerings, CachedAttention: cachedAttentionByProducts(lower) },
  cuda: { ...cudaLowerings, CachedAttention: cachedAttentionByProducts(lower) },
  "cuda-imitated": { ...cudaLowerings, CachedAttention: cachedAttentionByProducts(lower) },
};

/** Writes one node. `inputs` and `outputs` are the ONNX names of the node's values. */
export function lower<O extends Op>(
  w: Writer,
  node: NodeOf<O>,
  inputs: readonly string[],
  outputs: readonly string[],
): void {
  const chosen = special[w.target][node.op] ?? lowerings[node.op];
  (chosen as Lowering<O>)(w, node, inputs, outputs);
}
