/**
 * Products with frozen weights that stay in their file. The CPU has no product of bfloat16, so a weight stored in it is
 * converted for each product anew. The runtime would convert it once and keep the copy, or convert all weights before the
 * first product, which both take the memory that this saves; so every conversion is made to depend on the other factor.
 */
import {
  type Attribute,
  int64s,
  knownAfter,
  type Lowering,
  MICROSOFT,
  ONNX_DTYPES,
  type Writer,
  zerosAfter,
} from "./writer.ts";

/** Weights above this number of elements (an embedding used as head, say) are converted in parts: 128 MiB in float32. */
export const MOST_AT_ONCE = 2 ** 25;

const toFloat32 = (w: Writer, x: string): string => w.value("Cast", [x], { to: ONNX_DTYPES.float32 });

const converted = (w: Writer, weight: string, x: string): string => toFloat32(w, knownAfter(w, weight, x));

function convertedRows(w: Writer, weight: string, x: string, [start, end]: readonly [number, number]): string {
  const zeros = zerosAfter(w, x);
  const at = (row: number): string => w.value("Add", [int64s(w, [row, 0]), zeros]);
  return toFloat32(w, w.value("Slice", [weight, at(start), w.value("Add", [int64s(w, [end, 2 ** 40]), zeros])]));
}

export const storedMatMul: Lowering<"StoredMatMul"> = (
  w,
  { inputs: [, { dtype, shape }], attrs: { transposed } },
  [x = "", weight = "", bias],
  outputs,
) => {
  const [rows = 0, columns = 0] = shape as readonly number[];
  const isConverted = dtype !== "float32";
  if (isConverted && rows * columns > MOST_AT_ONCE && !bias)
    return inParts(w, { x, weight, rows, atOnce: Math.ceil(MOST_AT_ONCE / columns), transposed }, outputs);
  product(w, [x, isConverted ? converted(w, weight, x) : weight, bias], outputs, transposed);
};

function product(
  w: Writer,
  [x, weight, sum]: readonly [string, string, string | undefined],
  outputs: readonly string[],
  transB: boolean,
): void {
  const attributes: Readonly<Record<string, Attribute>> = { transB: Number(transB) };
  if (sum !== undefined) w.node("Gemm", [x, weight, sum], outputs, attributes);
  else if (transB) w.node("FusedMatMul", [x, weight], outputs, attributes, MICROSOFT);
  else w.node("MatMul", [x, weight], outputs);
}

interface Parts {
  readonly x: string;
  readonly weight: string;
  readonly rows: number;
  readonly atOnce: number;
  readonly transposed: boolean;
}

/** W in blocks of rows: x W^T is their products side by side, x W the sum of the products with blocks of x's columns. */
function inParts(w: Writer, { x, weight, rows, atOnce, transposed }: Parts, outputs: readonly string[]): void {
  const ranges = Array.from({ length: Math.ceil(rows / atOnce) }, (_, i) => {
    return [i * atOnce, Math.min(rows, (i + 1) * atOnce)] as const;
  });
  if (transposed) {
    const parts = ranges.map((range) =>
      w.value("FusedMatMul", [x, convertedRows(w, weight, x, range)], { transB: 1 }, MICROSOFT),
    );
    w.node("Concat", parts, outputs, { axis: 1 });
    return;
  }
  const sum = ranges.reduce<string | null>((known, [start, end]) => {
    const columns = w.value("Slice", [x, int64s(w, [start]), int64s(w, [end]), int64s(w, [1])]);
    const part = [columns, convertedRows(w, weight, columns, [start, end])];
    return known === null ? w.value("MatMul", part) : w.value("Gemm", [...part, known]);
  }, null);
  w.node("Identity", [sum ?? x], outputs);
}
