/**
 * ONNX forms for CUDA: products of matrices take bfloat16 and give float32, everything between them stays in float32.
 * Weights that are stored in bfloat16 are used as they lie; other factors are rounded where the product reads them. The
 * runtime's binding takes no bfloat16 from outside, so inputs and outputs are those of the CPU's graphs.
 *
 * `cuda-imitated` rounds at the same places and multiplies in float32: what the graphs of `cuda` compute, on the CPU.
 */
import type { Value } from "./graph.ts";
import { type Attribute, type Lowering, type Lowerings, MICROSOFT, ONNX_DTYPES, type Writer } from "./writer.ts";

const cast = (w: Writer, x: string, to: "bfloat16" | "float32"): string =>
  w.once(`${to} of ${x}`, () => w.value("Cast", [x], { to: ONNX_DTYPES[to] }));

/** A factor as the product takes it. */
function rounded(w: Writer, x: string, { dtype }: Value): string {
  const half = dtype === "bfloat16" ? x : cast(w, x, "bfloat16");
  return w.target === "cuda" ? half : cast(w, half, "float32");
}

/** alpha op(a) op(b), rounded to bfloat16 and widened to float32. */
function product(
  w: Writer,
  factors: readonly string[],
  attributes: Readonly<Record<string, Attribute>>,
  output: string | null,
): string {
  const wide = w.value("FusedMatMul", factors, attributes, MICROSOFT);
  const half = w.target === "cuda" ? wide : cast(w, wide, "bfloat16");
  if (output === null) return cast(w, half, "float32");
  w.node("Cast", [half], [output], { to: ONNX_DTYPES.float32 });
  return output;
}

const matMul: Lowering<"MatMul"> = (w, { inputs, attrs }, [a = "", b = ""], [output = ""]) => {
  const { transA, transB, alpha } = attrs;
  const attributes = { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } };
  product(w, [rounded(w, a, inputs[0]), rounded(w, b, inputs[1])], attributes, output);
};

/** The sum is formed in float32. */
const gemm: Lowering<"Gemm"> = (w, { inputs, attrs }, [a = "", b = "", c = ""], outputs) => {
  const { transA, transB, alpha } = attrs;
  const attributes = { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } };
  w.node("Add", [product(w, [rounded(w, a, inputs[0]), rounded(w, b, inputs[1])], attributes, null), c], outputs);
};

const storedMatMul: Lowering<"StoredMatMul"> = (w, { inputs, attrs }, [x = "", weight = "", bias], outputs) => {
  const factors = [rounded(w, x, inputs[0]), rounded(w, weight, inputs[1])];
  const attributes = { transB: Number(attrs.transposed) };
  if (bias === undefined) product(w, factors, attributes, outputs[0] ?? "");
  else w.node("Add", [product(w, factors, attributes, null), bias], outputs);
};

export const cudaLowerings: Partial<Lowerings> = { MatMul: matMul, Gemm: gemm, StoredMatMul: storedMatMul };
