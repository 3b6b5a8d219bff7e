/** A matrix in few bits, worked out block of rows by block of rows, so that even a head of 300 million numbers fits. */
import type { QuantForm } from "../../graph/ops.ts";
import { Rotation, rotationBlock } from "../../graph/rotation.ts";

export const KINDS = ["int8", "int4"] as const;
export type QuantKind = (typeof KINDS)[number];

/** W [rows, columns] as [out, in]; `read` gives rows [start, end) in float32, in an array that may be written over. */
export interface MatrixSource {
  readonly rows: number;
  readonly columns: number;
  read(start: number, end: number): Float32Array;
}

export interface QuantisedArrays {
  readonly values: Int8Array | Uint8Array;
  readonly scales: Float32Array;
}

/** Blocks of one scale: as few rows of a head as of a small matrix share one, whatever their length. */
const INT4_BLOCK = 32;

/** The form of a matrix [out, in]. */
export const formOf = (kind: QuantKind, columns: number): QuantForm =>
  kind === "int8" ? { kind, rotation: rotationBlock(columns) } : { kind, block: INT4_BLOCK };

/** Shapes of values and scales for a matrix [out, in]. */
export function quantShapes(kind: QuantKind, out: number, columns: number): readonly [number[], number[]] {
  if (kind === "int8") return [[columns, out], [out]];
  const blocks = Math.ceil(columns / INT4_BLOCK);
  return [
    [out, blocks, INT4_BLOCK / 2],
    [out, blocks],
  ];
}

/** W itself, or its transpose, in few bits. */
export function quantise(source: MatrixSource, kind: QuantKind, isTransposed: boolean): QuantisedArrays {
  if (kind === "int8") return isTransposed ? int8Transposed(source) : int8Straight(source);
  return isTransposed ? int4Transposed(source) : int4Straight(source);
}

const ROWS_AT_ONCE = 256; // a multiple of every rotation block and of INT4_BLOCK

function* chunksOf({ rows, read }: MatrixSource): Generator<{ start: number; count: number; w: Float32Array }> {
  for (let start = 0; start < rows; start += ROWS_AT_ONCE) {
    const end = Math.min(rows, start + ROWS_AT_ONCE);
    yield { start, count: end - start, w: read(start, end) };
  }
}

const LARGEST_INT8 = 127;
const inverse = (scale: number): number => (scale > 0 ? 1 / scale : 0);

/** Rows rotated, each with a scale of its own; values [in, out]. */
function int8Straight(source: MatrixSource): QuantisedArrays {
  const { rows, columns } = source;
  const block = rotationBlock(columns);
  const rotation = block > 1 ? new Rotation(block) : null;
  const values = new Int8Array(rows * columns);
  const scales = new Float32Array(rows);
  const rounded = new Int8Array(ROWS_AT_ONCE * columns);
  for (const { start, count, w } of chunksOf(source)) {
    rotation?.row(w);
    for (let r = 0; r < count; r++) {
      const scale = largest(w, r * columns, columns) / LARGEST_INT8;
      scales[start + r] = scale;
      const factor = inverse(scale);
      for (let i = r * columns; i < (r + 1) * columns; i++) rounded[i] = Math.round((w[i] as number) * factor);
    }
    for (let c = 0; c < columns; c++)
      for (let r = 0; r < count; r++) values[c * rows + start + r] = rounded[r * columns + c] as number;
  }
  return { values, scales };
}

function largest(w: Float32Array, start: number, count: number): number {
  let most = 0;
  for (let i = start; i < start + count; i++) {
    const size = Math.abs(w[i] as number);
    if (size > most) most = size;
  }
  return most;
}

/** The transpose [in, out] as a matrix whose rows are W's columns: rotated along `out`, a scale for each column; values [out, in]. */
function int8Transposed(source: MatrixSource): QuantisedArrays {
  const { rows, columns } = source;
  const block = rotationBlock(rows);
  const rotation = block > 1 ? new Rotation(block) : null;
  const rotate = (w: Float32Array): void => {
    for (let at = 0; rotation && at < w.length; at += block * columns)
      rotation.columns(w.subarray(at, at + block * columns), columns);
  };
  const scales = new Float32Array(columns);
  for (const { count, w } of chunksOf(source)) {
    rotate(w);
    for (let r = 0; r < count; r++)
      for (let c = 0; c < columns; c++) {
        const size = Math.abs(w[r * columns + c] as number);
        if (size > (scales[c] as number)) scales[c] = size;
      }
  }
  for (let c = 0; c < columns; c++) scales[c] = (scales[c] as number) / LARGEST_INT8;
  const factors = scales.map(inverse);
  const values = new Int8Array(rows * columns);
  for (const { start, count, w } of chunksOf(source)) {
    rotate(w);
    for (let r = 0; r < count; r++)
      for (let c = 0; c < columns; c++)
        values[(start + r) * columns + c] = Math.round((w[r * columns + c] as number) * (factors[c] as number));
  }
  return { values, scales };
}

/** Writes one block of 4-bit numbers; -8 to 7 are kept as 0 to 15. @param at index of the block's first element in w, `stride` from each to the next */
function packBlock(
  w: Float32Array,
  { at, stride, count }: { at: number; stride: number; count: number },
  { values, scales }: { values: Uint8Array; scales: Float32Array },
  block: number,
): void {
  let extreme = 0; // of the largest size, with its sign: it becomes -8 exactly
  for (let i = 0; i < count; i++) {
    const value = w[at + i * stride] as number;
    if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  }
  const scale = Math.fround(extreme / -8);
  scales[block] = scale;
  const factor = scale === 0 ? 0 : 1 / scale;
  for (let i = 0; i < INT4_BLOCK; i++) {
    const value = i < count ? Math.min(7, Math.round((w[at + i * stride] as number) * factor)) : 0;
    const byte = block * (INT4_BLOCK / 2) + (i >> 1);
    values[byte] = (values[byte] as number) | ((value + 8) << (4 * (i & 1)));
  }
}

function int4Arrays(out: number, columns: number) {
  const blocks = Math.ceil(columns / INT4_BLOCK);
  return { blocks, values: new Uint8Array(out * blocks * (INT4_BLOCK / 2)), scales: new Float32Array(out * blocks) };
}

function int4Straight(source: MatrixSource): QuantisedArrays {
  const { rows, columns } = source;
  const { blocks, ...arrays } = int4Arrays(rows, columns);
  for (const { start, count, w } of chunksOf(source))
    for (let r = 0; r < count; r++)
      for (let b = 0; b < blocks; b++) {
        const place = {
          at: r * columns + b * INT4_BLOCK,
          stride: 1,
          count: Math.min(INT4_BLOCK, columns - b * INT4_BLOCK),
        };
        packBlock(w, place, arrays, (start + r) * blocks + b);
      }
  return arrays;
}

function int4Transposed(source: MatrixSource): QuantisedArrays {
  const { rows, columns } = source;
  const { blocks, ...arrays } = int4Arrays(columns, rows);
  for (const { start, count, w } of chunksOf(source))
    for (let r = 0; r < count; r += INT4_BLOCK)
      for (let c = 0; c < columns; c++) {
        const place = { at: r * columns + c, stride: columns, count: Math.min(INT4_BLOCK, count - r) };
        packBlock(w, place, arrays, c * blocks + (start + r) / INT4_BLOCK);
      }
  return arrays;
}
