/**
 * Products with frozen weights in few bits. By rows: each row of x is rotated, divided by its largest number and rounded to
 * 8 bits, so that the whole product is one of whole numbers (on CPUs with VNNI over three times as fast as in float32). CPUs
 * without VNNI add pairs of products in 16 bits, which holds them only if x has 7. By blocks: MatMulNBits, whose fast kernels
 * round x block by block.
 */
import type { Dim } from "./dim.ts";
import type { InputBits, QuantForm } from "./ops.ts";
import { Rotation } from "./rotation.ts";
import { filled } from "./shapeValues.ts";
import { int64s, knownAfter, type Lowering, lengths, MICROSOFT, type Writer } from "./writer.ts";

const LEAST_SCALE = 1e-30; // of a row of zeros

type Rows = Extract<QuantForm, { kind: "rows" }>;

interface Matrix {
  readonly name: string;
  readonly shape: readonly [Dim, number];
}

export const quantMatMul: Lowering<"QuantMatMul"> = (
  w,
  node,
  [x = "", values = "", scales = "", zeroPoints = ""],
  outputs,
) => {
  const { form, out, transposed } = node.attrs;
  const [rows, columns] = node.inputs[0].shape as readonly [Dim, number];
  if (form.kind === "blocks") {
    const { bits, block, roundsInput } = form;
    const attributes = { K: columns, N: out, bits, block_size: block, accuracy_level: roundsInput ? 4 : 1 };
    w.node("MatMulNBits", [x, values, scales, zeroPoints], outputs, attributes, MICROSOFT);
  } else if (transposed) byRows(w, { name: x, shape: [rows, columns] }, { values, scales, form }, outputs);
  else againstRows(w, { name: x, shape: [rows, columns] }, { values, scales, form, out }, outputs);
};

interface StoredRows {
  readonly values: string; // int8 [in, out]
  readonly scales: string; // [out]
  readonly form: Rows;
}

/** x W^T = (x R)(W R)^T */
function byRows(w: Writer, x: Matrix, { values, scales, form }: StoredRows, outputs: readonly string[]): void {
  const rotated = { ...x, name: w.once(`rotated ${form.rotation} ${x.name}`, () => rotatedRows(w, x, form.rotation)) };
  const { rounded, scale, zeroPoint } = roundedRows(w, rotated, form.inputBits);
  const product = w.value("MatMulIntegerToFloat", [rounded, values, one(w), scales, zeroPoint], {}, MICROSOFT);
  w.node("Mul", [product, scale], outputs);
}

/**
 * x W for the same W: its scales go to the columns of x before these are rounded, and what comes out is rotated back. Values
 * that are not kept turned are turned anew in every run.
 */
function againstRows(
  w: Writer,
  x: Matrix,
  { values, scales, form, out }: StoredRows & { readonly out: number },
  outputs: readonly string[],
): void {
  const scaled = { ...x, name: w.value("Mul", [x.name, scales]) };
  const { rounded, scale, zeroPoint } = roundedRows(w, scaled, form.inputBits);
  const turned = form.isTurned ? values : w.value("Transpose", [knownAfter(w, values, x.name)], { perm: [1, 0] });
  const product = w.value("MatMulIntegerToFloat", [rounded, turned, one(w), one(w), zeroPoint], {}, MICROSOFT);
  if (form.rotation === 1) w.node("Mul", [product, scale], outputs);
  else {
    const sized = w.value("Mul", [product, scale]);
    w.node("Reshape", [rotatedBlocks(w, sized, form.rotation, true), lengths(w, [-1, out])], outputs);
  }
}

function rotatedRows(w: Writer, { name, shape: [, columns] }: Matrix, rotation: number): string {
  if (rotation === 1) return name;
  return w.value("Reshape", [rotatedBlocks(w, name, rotation, false), lengths(w, [-1, Number(columns)])]);
}

/** x R, or x R^T, for each block of a row: [rows * blocks, rotation]. */
function rotatedBlocks(w: Writer, x: string, rotation: number, isBack: boolean): string {
  const matrix = w.once(`rotation ${rotation}`, () =>
    w.constant([...new Rotation(rotation).matrix()], [rotation, rotation], "float32"),
  );
  const blocks = w.value("Reshape", [x, lengths(w, [-1, rotation])]);
  return isBack
    ? w.value("FusedMatMul", [blocks, matrix], { transB: 1 }, MICROSOFT)
    : w.value("MatMul", [blocks, matrix]);
}

const one = (w: Writer): string => w.constant([1], [], "float32");

interface RoundedRows {
  readonly rounded: string; // uint8 [rows, columns]
  readonly scale: string; // [rows, 1]
  readonly zeroPoint: string; // uint8 []
}

/** x in 8 or 7 bits. Layers that read the same x share it. */
function roundedRows(w: Writer, { name: x, shape: [rows] }: Matrix, inputBits: InputBits): RoundedRows {
  const half = 2 ** (inputBits - 1);
  const zeroPoint = w.constant([half], [], "uint8");
  const scale = w.once(`scale ${x}`, () => {
    const reduced = (op: string): string => w.value(op, [x, int64s(w, [1])], { keepdims: 0 });
    const largest = w.value("Max", [reduced("ReduceMax"), w.value("Neg", [reduced("ReduceMin")])]); // Abs would write them all
    const scaled = w.value("Mul", [largest, w.constant([1 / (half - 1)], [], "float32")]);
    return w.value("Max", [scaled, w.constant([LEAST_SCALE], [], "float32")]);
  });
  const rounded = w.once(`rounded ${x}`, () => {
    const zeroPoints = w.once(`zero points ${half} ${rows}`, () => filled(w, [rows], half, "uint8"));
    return w.value("QuantizeLinear", [x, scale, zeroPoints], { axis: 0 });
  });
  return { rounded, scale: w.once(`column ${scale}`, () => w.value("Unsqueeze", [scale, int64s(w, [1])])), zeroPoint };
}

/**
 * Whether a session should pack constant weights. By rows products are a tenth faster so, and the file is let go; blocks
 * would be turned to float32 in every run.
 */
export const wantsPacking = (form: QuantForm): boolean => (form.kind === "rows" ? form.isPacked : form.roundsInput);
