/** A matrix in few bits, worked out block of rows by block of rows, so that even a head of 300 million numbers fits. */
import type { InputBits, QuantForm } from "../../graph/ops.ts";
import { Rotation, rotationBlock } from "../../graph/rotation.ts";
import { quantShapes } from "../../graph/shapes.ts";

export const KINDS = ["int8", "int4"] as const;
export type QuantKind = (typeof KINDS)[number];

type Blocks = Extract<QuantForm, { kind: "blocks" }>;

/** W [rows, columns] as [out, in]; `read` gives rows [start, end) in float32, in an array that may be written over. */
export interface MatrixSource {
  readonly rows: number;
  readonly columns: number;
  read(start: number, end: number): Float32Array;
}

export interface QuantisedArrays {
  readonly values: Int8Array | Uint8Array;
  readonly scales: Float32Array;
  /** Of blocks alone. */
  readonly zeroPoints: Uint8Array | null;
}

/** Numbers that share a scale: larger blocks are faster and less exact. */
const BLOCK = { int8: 16, int4: 32 } as const;
/** Rows shorter than this are few operations and lose most by rounding: in int8 only their weights are rounded, in blocks. */
const SHORT_ROW = 512;

/** The form of a matrix [out, in]. What is stored does not depend on the other factor's bits. */
export function formOf(
  kind: QuantKind,
  columns: number,
  { inputBits = 8, isPacked = true }: { readonly inputBits?: InputBits; readonly isPacked?: boolean } = {},
): QuantForm {
  if (kind === "int4") return { kind: "blocks", bits: 4, block: BLOCK.int4, roundsInput: true };
  if (columns < SHORT_ROW) return { kind: "blocks", bits: 8, block: BLOCK.int8, roundsInput: false };
  return { kind: "rows", rotation: rotationBlock(columns), inputBits, isPacked, isTurned: false };
}

/** For gradients: rows are the same numbers, turned; the transpose in blocks is one of blocks, whose scales lie along `out`. */
export const formForGradients = (form: QuantForm): QuantForm =>
  form.kind === "rows" ? { ...form, isTurned: true } : form;

/** What is stored of a matrix [out, in], or of it for gradients. */
export function storedShapes(form: QuantForm, [out, columns]: readonly [number, number], isForGradients: boolean) {
  const isTransposed = isForGradients && form.kind === "blocks";
  const kept = isForGradients ? formForGradients(form) : form;
  const sides = isTransposed ? ([columns, out] as const) : ([out, columns] as const);
  const [values = [], scales = [], zeroPoints = null] = quantShapes(kept, ...sides);
  return { dtype: form.kind === "rows" ? ("I8" as const) : ("U8" as const), values, scales, zeroPoints };
}

/** W in few bits; or what is kept of it for gradients: by rows its values turned, of blocks, whose scales lie along `in`, the transpose in blocks of its own. */
export function quantise(source: MatrixSource, kind: QuantKind, isForGradients: boolean): QuantisedArrays {
  const form = formOf(kind, source.columns);
  if (form.kind === "rows") return inRows(source, isForGradients);
  return isForGradients ? blocksTransposed(source, form) : blocksStraight(source, form);
}

const ROWS_AT_ONCE = 256; // a multiple of every rotation block and of both blocks

function* chunksOf({ rows, read }: MatrixSource): Generator<{ start: number; count: number; w: Float32Array }> {
  for (let start = 0; start < rows; start += ROWS_AT_ONCE) {
    const end = Math.min(rows, start + ROWS_AT_ONCE);
    yield { start, count: end - start, w: read(start, end) };
  }
}

const LARGEST_INT8 = 127;
const inverse = (scale: number): number => (scale > 0 ? 1 / scale : 0);

/** Rows rotated, each with a scale of its own; values [in, out], or turned [out, in]. */
function inRows(source: MatrixSource, isTurned: boolean): QuantisedArrays {
  const { rows, columns } = source;
  const block = rotationBlock(columns);
  const rotation = block > 1 ? new Rotation(block) : null;
  const values = new Int8Array(rows * columns);
  const scales = new Float32Array(rows);
  const rounded = new Int8Array(ROWS_AT_ONCE * columns);
  for (const { start, count, w } of chunksOf(source)) {
    for (let r = 0; r < count; r++) {
      const row = w.subarray(r * columns, (r + 1) * columns); // one at a time stays in the cache
      rotation?.row(row);
      const scale = Math.fround(largest(row) / LARGEST_INT8); // as it is stored
      scales[start + r] = scale;
      round(row, inverse(scale), rounded.subarray(r * columns));
    }
    if (isTurned) values.set(rounded.subarray(0, count * columns), start * columns);
    else
      for (let c = 0; c < columns; c++)
        turn(rounded, c, columns, values.subarray(c * rows + start, c * rows + start + count));
  }
  return { values, scales, zeroPoints: null };
}

// The loops over single numbers are functions of their own: called often, they are compiled for speed.

function largest(numbers: Float32Array): number {
  let most = 0;
  for (let i = 0; i < numbers.length; i++) {
    const size = Math.abs(numbers[i] as number);
    if (size > most) most = size;
  }
  return most;
}

function round(numbers: Float32Array, factor: number, to: Int8Array): void {
  for (let i = 0; i < numbers.length; i++) to[i] = Math.round((numbers[i] as number) * factor);
}

/** Every `stride`-th number from `at`. */
function turn(from: Int8Array, at: number, stride: number, to: Int8Array): void {
  for (let r = 0; r < to.length; r++) to[r] = from[r * stride + at] as number;
}

/** Numbers in blocks while they are written. */
class BlockWriter {
  readonly values: Uint8Array;
  readonly scales: Float32Array;
  readonly zeroPoints: Uint8Array;
  /** Blocks of a row. */
  readonly blocks: number;
  /** Zero points of a row begin with a byte. */
  readonly #zeroPlaces: number;
  readonly #form: Blocks;

  constructor(rows: number, columns: number, form: Blocks) {
    this.blocks = Math.ceil(columns / form.block);
    this.values = new Uint8Array((rows * this.blocks * form.block * form.bits) / 8);
    this.scales = new Float32Array(rows * this.blocks);
    const zeroBytes = Math.ceil((this.blocks * form.bits) / 8);
    this.zeroPoints = new Uint8Array(rows * zeroBytes);
    this.#zeroPlaces = (zeroBytes * 8) / form.bits;
    this.#form = form;
  }

  /**
   * Block `block` of row `row`: `count` numbers of w from `at`, `stride` from each to the next; zeros behind them. The lowest
   * and the highest take the ends of the range, and zero stays zero.
   */
  write([row, block]: readonly [number, number], w: Float32Array, at: number, stride: number, count: number): void {
    const { bits, block: size } = this.#form;
    const most = 2 ** bits - 1;
    const index = row * this.blocks + block;
    const [low, high] = rangeOf(w, at, stride, count);
    const scale = Math.fround((high - low) / most);
    const factor = inverse(scale);
    const zero = Math.round(-low * factor);
    this.scales[index] = scale;
    this.#put(this.zeroPoints, row * this.#zeroPlaces + block, zero);
    for (let i = 0; i < size; i++) {
      const value = i < count ? zero + Math.round((w[at + i * stride] as number) * factor) : zero;
      this.#put(this.values, index * size + i, Math.min(most, Math.max(0, value)));
    }
  }

  /** Numbers of 4 bits lie two in a byte. */
  #put(array: Uint8Array, place: number, value: number): void {
    if (this.#form.bits === 8) array[place] = value;
    else array[place >> 1] = (array[place >> 1] as number) | (value << (4 * (place & 1)));
  }
}

/** Lowest and highest number, zero among them. */
function rangeOf(w: Float32Array, at: number, stride: number, count: number): readonly [number, number] {
  let [low, high] = [0, 0];
  for (let i = 0; i < count; i++) {
    const value = w[at + i * stride] as number;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function blocksStraight(source: MatrixSource, form: Blocks): QuantisedArrays {
  const { rows, columns } = source;
  const writer = new BlockWriter(rows, columns, form);
  for (const { start, count, w } of chunksOf(source))
    for (let r = 0; r < count; r++)
      for (let b = 0; b < writer.blocks; b++) {
        const first = b * form.block;
        writer.write([start + r, b], w, r * columns + first, 1, Math.min(form.block, columns - first));
      }
  return writer;
}

function blocksTransposed(source: MatrixSource, form: Blocks): QuantisedArrays {
  const { rows, columns } = source;
  const writer = new BlockWriter(columns, rows, form);
  for (const { start, count, w } of chunksOf(source))
    for (let r = 0; r < count; r += form.block)
      for (let c = 0; c < columns; c++)
        writer.write([c, (start + r) / form.block], w, r * columns + c, columns, Math.min(form.block, count - r));
  return writer;
}
