/**
 * ONNX forms for the runtime's WebGPU kernels, where they differ from the CPU's: there is no kernel for FusedMatMul,
 * LogSoftmax, BitwiseXor and for arithmetic on int64 (onnxruntime-node 1.30), and what has no kernel runs on the CPU behind
 * a copy. Whole numbers are int32 here; what ONNX demands as int64 is widened on the device. Weights stored in 16 bits are
 * turned to float32 by the runtime, once, when the session opens.
 */
import { type Dim, symbolsOf } from "./dim.ts";
import type { Value } from "./graph.ts";
import { scatterRows } from "./scatterRows.ts";
import { reshaped, scalarDimension } from "./shapeValues.ts";
import { sine } from "./sine.ts";
import { int64s, type Lowering, type Lowerings, MICROSOFT, ONNX_DTYPES, type Writer } from "./writer.ts";

/** Lengths that may be 0 where others are not: image tokens of a batch without pictures, and what is cached of a new prompt. */
const mayBeNone = (dim: Dim): boolean => symbolsOf(dim).some((symbol) => symbol === "M" || symbol === "S");
const mayBeEmpty = ({ shape }: Value): boolean => shape.some(mayBeNone);

/** A score that softmax turns into zero beside any other. */
const LEAST = -3e38;

const widened = (w: Writer, x: string): string =>
  w.once(`int64 of ${x}`, () => w.value("Cast", [x], { to: ONNX_DTYPES.int64 }));

/** A weight that is stored in 16 bits, as float32; other values as they are. */
const readable = (w: Writer, x: string, { dtype }: Value): string =>
  dtype === "float16" || dtype === "bfloat16"
    ? w.once(`float32 of ${x}`, () => w.value("Cast", [x], { to: ONNX_DTYPES.float32 }))
    : x;

interface Product {
  readonly transA: boolean;
  readonly transB: boolean;
  readonly alpha: number;
}

const gemm = (w: Writer, inputs: readonly string[], outputs: readonly string[], of: Product): void =>
  w.node("Gemm", inputs, outputs, {
    transA: Number(of.transA),
    transB: Number(of.transB),
    alpha: { float: of.alpha },
  });

/** Swaps the last two axes. */
function swapped(w: Writer, x: string, rank: number): string {
  const perm = Array.from({ length: rank }, (_, axis) => axis);
  perm.push(...perm.splice(-2).reverse());
  return w.once(`${x} with ${perm}`, () => w.value("Transpose", [x], { perm }));
}

/** x with one more place along an axis, which holds `value`. */
function longer(w: Writer, x: string, axis: number, value: number): string {
  const ends = w.value("ScatterElements", [w.value("Shape", [x]), int64s(w, [axis]), int64s(w, [1])], { axis: 0 });
  return w.value("Concat", [x, w.value("Expand", [w.constant([value], [], "float32"), ends])], { axis });
}

/** Matrices: Gemm transposes and scales as it goes. Batches of them: MatMul between copies. */
const matMul: Lowering<"MatMul"> = (w, { inputs: [left], attrs }, [a = "", b = ""], outputs) => {
  const { transA, transB, alpha } = attrs;
  const rank = left.shape.length;
  if (rank === 2) return gemm(w, [a, b], outputs, attrs);
  const plain = [transA ? swapped(w, a, rank) : a, transB ? swapped(w, b, rank) : b] as const;
  const isLong = !mayBeNone(left.shape[transA ? rank - 2 : rank - 1] as Dim);
  const factors = isLong ? plain : [longer(w, plain[0], rank - 1, 0), longer(w, plain[1], rank - 2, 0)]; // MatMul over nothing ends the process
  if (alpha === 1) return w.node("MatMul", factors, outputs);
  w.node("Mul", [w.value("MatMul", factors), w.constant([alpha], [], "float32")], outputs);
};

const storedMatMul: Lowering<"StoredMatMul"> = (w, node, [x = "", weight = "", ...bias], outputs) =>
  gemm(w, [x, readable(w, weight, node.inputs[1]), ...bias], outputs, {
    transA: false,
    transB: node.attrs.transposed,
    alpha: 1,
  });

/** log softmax(x) = x - max - log(sum(exp(x - max))) */
const crossEntropy: Lowering<"CrossEntropy"> = (
  w,
  { inputs: [logits] },
  [x = "", labels = ""],
  [loss = "", logProbs = ""],
) => {
  const rows = int64s(w, [1]);
  const below = w.value("Sub", [x, w.value("ReduceMax", [x, rows], { keepdims: 1 })]);
  const total = w.value("ReduceSum", [w.value("Exp", [below]), rows], { keepdims: 1 });
  w.node("Sub", [below, w.value("Log", [total])], [logProbs]);
  const column = reshaped(w, labels, [logits.shape[0] as Dim, 1]);
  const chosen = w.value("GatherElements", [logProbs, column], { axis: 1 });
  w.node("Neg", [w.value("ReduceSum", [chosen, int64s(w, [0, 1])], { keepdims: 0 })], [loss]);
};

const range = (w: Writer, size: Dim, output?: string): string => {
  const limit = w.value("Cast", [scalarDimension(w, size)], { to: ONNX_DTYPES.int32 });
  const inputs = [w.constant([0], [], "int32"), limit, w.constant([1], [], "int32")];
  if (output === undefined) return w.value("Range", inputs);
  w.node("Range", inputs, [output]);
  return output;
};

/** MultiHeadAttention is wrong here (1.30: off by 6 % with 48 patches in 3 heads of 16), so attention is built from products. */
const fusedAttention: Lowering<"FusedAttention"> = (w, { inputs: values, attrs: { heads } }, names, outputs) => {
  const [batch, length, width] = values[0].shape as readonly [Dim, Dim, number];
  const headDim = width / heads;
  const [q = "", k = "", v = ""] = values.map(({ shape }, i) =>
    reshaped(w, names[i] ?? "", [batch, shape[1] as Dim, heads, headDim]),
  );
  const perHead = (x: string, perm: readonly number[]): string => w.value("Transpose", [x], { perm });
  const products = w.value("MatMul", [perHead(q, [0, 2, 1, 3]), perHead(k, [0, 2, 3, 1])]); // [B, H, T, keys]
  const scores = w.value("Mul", [products, w.constant([1 / Math.sqrt(headDim)], [], "float32")]);
  const mixed = w.value("MatMul", [w.value("Softmax", [scores], { axis: -1 }), perHead(v, [0, 2, 1, 3])]);
  reshaped(w, w.value("Transpose", [mixed], { perm: [0, 2, 1, 3] }), [batch, length, width], outputs[0]);
};

/** SimplifiedLayerNormalization gives the mean where the inverse deviation belongs (1.30); so that is computed beside it. */
const rmsNorm: Lowering<"RmsNorm"> = (
  w,
  { inputs: [{ shape }], attrs },
  [x = "", scale = ""],
  [y = "", deviation = ""],
) => {
  const epsilon = { float: attrs.epsilon };
  w.node("SimplifiedLayerNormalization", [x, scale], [y], { axis: -1, epsilon });
  const mean = w.value("ReduceMean", [w.value("Mul", [x, x]), int64s(w, [shape.length - 1])], { keepdims: 1 });
  const root = w.value("Sqrt", [w.value("Add", [mean, w.constant([attrs.epsilon], [], "float32")])]);
  w.node("Reciprocal", [root], [deviation]);
};

/** The kernel refuses an empty array, so what may be one gets another row and column, of which nothing is left in the end. */
const softmax: Lowering<"Softmax"> = (w, { inputs: [input] }, [x = ""], outputs) => {
  if (!mayBeEmpty(input)) return w.node("Softmax", [x], outputs, { axis: -1 });
  const [row, column] = [input.shape.length - 2, input.shape.length - 1];
  const shares = w.value("Softmax", [longer(w, longer(w, x, column, LEAST), row, LEAST)], { axis: -1 });
  const ends = w.value("Shape", [x], { start: row, end: column + 1 });
  w.node("Slice", [shares, int64s(w, [0, 0]), ends, int64s(w, [row, column])], outputs);
};

/** With an empty array the kernel divides by zero, which ends the process. */
const rotary: Lowering<"Rotary"> = (w, { inputs: [input, , table] }, [x = "", positions = "", ...tables], outputs) => {
  if (!mayBeEmpty(input))
    return w.node("RotaryEmbedding", [x, widened(w, positions), ...tables], outputs, {}, MICROSOFT);
  const [batch, length, width] = input.shape as readonly [Dim, Dim, number];
  const half = Number(table.shape[1]);
  const [cos = "", sin = ""] = tables.map((rows) =>
    reshaped(w, w.value("Gather", [rows, positions], { axis: 0 }), [batch, length, 1, half]),
  );
  const heads = reshaped(w, x, [batch, length, width / (2 * half), 2 * half]);
  const part = (start: number): string =>
    w.value("Slice", [heads, int64s(w, [start]), int64s(w, [start + half]), int64s(w, [3])]);
  const times = (a: string, b: string): string => w.value("Mul", [a, b]);
  const [first, second] = [part(0), part(half)];
  const turned = [
    w.value("Sub", [times(first, cos), times(second, sin)]),
    w.value("Add", [times(second, cos), times(first, sin)]),
  ];
  reshaped(w, w.value("Concat", turned, { axis: 3 }), [batch, length, width], outputs[0]);
};

/**
 * Three rounds of x (2x + 1), whose halves then change places, as the cipher RC6 mixes: sums and products alone, and no two
 * words meet. Over 58 keys its masks are as independent as murmur3's; an addition in place of murmur3's exclusive or is not.
 */
function hashed(w: Writer, word: string): string {
  const constant = (value: number): string => w.constant([value], [], "uint32");
  const op = (opType: string, a: string, b: string): string => w.value(opType, [a, b]);
  const round = (h: string): string => {
    const x = op("Add", h, constant(0x9e3779b1));
    const y = op("Mul", x, op("Add", op("Mul", x, constant(2)), constant(1)));
    return op("Add", op("Div", y, constant(2 ** 16)), op("Mul", y, constant(2 ** 16)));
  };
  return op("Mul", round(round(round(word))), constant(0x85ebca6b));
}

/** As on the CPU, by another hash: the same seed gives the same mask on every WebGPU device, and another one on the CPU. */
const dropoutMask: Lowering<"DropoutMask"> = (w, { attrs: { shape, rate, salt } }, [seed = ""], outputs) => {
  const [rows, columns] = shape;
  const uint = (x: string): string => w.value("Cast", [x], { to: ONNX_DTYPES.uint32 });
  const place = w.once(`dropout places ${shape}`, () => {
    const starts = w.value("Mul", [uint(range(w, rows)), w.constant([columns], [], "uint32")]);
    return w.value("Add", [w.value("Reshape", [starts, int64s(w, [-1, 1])]), uint(range(w, columns))]);
  });
  const key = hashed(w, w.value("Add", [uint(seed), w.constant([salt], [], "uint32")]));
  const dropped = w.value("Less", [
    hashed(w, w.value("Add", [place, key])),
    w.constant([Math.floor(rate * 2 ** 32)], [], "uint32"),
  ]);
  w.node("Where", [dropped, w.constant([0], [], "float32"), w.constant([1 / (1 - rate)], [], "float32")], outputs);
};

export const webgpuLowerings: Partial<Lowerings> = {
  Cast: (w, { attrs: { to } }, [x = ""], outputs) =>
    w.node("Cast", [x], outputs, { to: ONNX_DTYPES[to === "int64" ? "int32" : to] }),
  MatMul: matMul,
  StoredMatMul: storedMatMul,
  RmsNorm: rmsNorm,
  Softmax: softmax,
  Sin: (w, _, [x = ""], [output = ""]) => sine(w, x, output, "sin"),
  Cos: (w, _, [x = ""], [output = ""]) => sine(w, x, output, "cos"),
  Rotary: rotary,
  FusedAttention: fusedAttention,
  CrossEntropy: crossEntropy,
  Gather: (w, { inputs: [table], attrs: { axis } }, [from = "", at = ""], outputs) =>
    w.node("Gather", [readable(w, from, table), at], outputs, { axis }),
  ScatterRows: scatterRows(widened), // ScatterND takes places as int64 alone
  Iota: (w, { attrs: { size } }, _, [output]) => void range(w, size, output),
  DropoutMask: dropoutMask,
};
