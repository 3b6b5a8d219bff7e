/**
 * Products with frozen weights in few bits, which sessions pack into memory. By rows: each row of x is rotated, divided by its
 * largest number and rounded to 8 bits, so that the whole product is one of whole numbers (on CPUs with VNNI over three times
 * as fast as in float32). CPUs without VNNI add pairs of products in 16 bits, which holds them only if x has 7. By blocks:
 * MatMulNBits, whose fast kernels round x block by block.
 */
import type { Dim } from "./dim.ts";
import type { QuantForm } from "./ops.ts";
import { Rotation } from "./rotation.ts";
import { filled } from "./shapeValues.ts";
import { int64s, type Lowering, MICROSOFT, type Writer } from "./writer.ts";

const LEAST_SCALE = 1e-30; // of a row of zeros

export const quantMatMul: Lowering<"QuantMatMul"> = (
  w,
  node,
  [x = "", values = "", scales = "", zeroPoints = ""],
  outputs,
) => {
  const { form, out } = node.attrs;
  const [rows, columns] = node.inputs[0].shape as readonly [Dim, number];
  if (form.kind === "blocks") {
    const { bits, block, roundsInput } = form;
    const attributes = { K: columns, N: out, bits, block_size: block, accuracy_level: roundsInput ? 4 : 1 };
    w.node("MatMulNBits", [x, values, scales, zeroPoints], outputs, attributes, MICROSOFT);
    return;
  }
  const { rounded, scale, zeroPoint } = roundedRows(w, { name: x, shape: [rows, columns] }, form);
  const product = w.value("MatMulIntegerToFloat", [rounded, values, one(w), scales, zeroPoint], {}, MICROSOFT);
  w.node("Mul", [product, scale], outputs);
};

const one = (w: Writer): string => w.constant([1], [], "float32");

interface RoundedRows {
  readonly rounded: string; // uint8 [rows, columns]
  readonly scale: string; // [rows, 1]
  readonly zeroPoint: string; // uint8 []
}

/** x in 8 or 7 bits. Layers that read the same x share it. */
function roundedRows(
  w: Writer,
  { name: x, shape: [rows, columns] }: { readonly name: string; readonly shape: readonly [Dim, number] },
  { rotation, inputBits }: Extract<QuantForm, { kind: "rows" }>,
): RoundedRows {
  const half = 2 ** (inputBits - 1);
  const zeroPoint = w.constant([half], [], "uint8");
  const rotated = w.once(`rotated ${rotation} ${x}`, () => inBlocks(w, x, columns, rotation));
  const scale = w.once(`scale ${rotation} ${x}`, () => {
    const reduced = (op: string): string => w.value(op, [rotated, int64s(w, [1])], { keepdims: 0 });
    const largest = w.value("Max", [reduced("ReduceMax"), w.value("Neg", [reduced("ReduceMin")])]); // Abs would write them all
    const scaled = w.value("Mul", [largest, w.constant([1 / (half - 1)], [], "float32")]);
    return w.value("Max", [scaled, w.constant([LEAST_SCALE], [], "float32")]);
  });
  const rounded = w.once(`rounded ${rotation} ${x}`, () => {
    const zeroPoints = w.once(`zero points ${half} ${rows}`, () => filled(w, [rows], half, "uint8"));
    return w.value("QuantizeLinear", [rotated, scale, zeroPoints], { axis: 0 });
  });
  return { rounded, scale: w.once(`column ${scale}`, () => w.value("Unsqueeze", [scale, int64s(w, [1])])), zeroPoint };
}

function inBlocks(w: Writer, x: string, columns: number, rotation: number): string {
  if (rotation === 1) return x;
  const matrix = w.once(`rotation ${rotation}`, () =>
    w.constant([...new Rotation(rotation).matrix()], [rotation, rotation], "float32"),
  );
  const blocks = w.value("Reshape", [x, w.late([-1, rotation])]);
  return w.value("Reshape", [w.value("MatMul", [blocks, matrix]), w.late([-1, columns])]);
}

/**
 * Whether a session should pack constant weights. By rows products are a tenth faster so, and the file is let go; blocks
 * would be turned to float32 in every run.
 */
export const wantsPacking = (form: QuantForm): boolean => form.kind === "rows" || form.roundsInput;
