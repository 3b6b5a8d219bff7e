/** The arithmetic of weights in few bits, written out plainly in double: what the product's faster code is compared with. */
import { Rotation } from "../../../src/graph/rotation.ts";
import { randomFrom } from "../../../src/utils/random.ts";

export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float64Array;
}

export const matrixOf = (rows: number, columns: number, values: ArrayLike<number>): Matrix => ({
  rows,
  columns,
  values: Float64Array.from(values),
});

/** Normal numbers, and in each row one that is much larger than the rest. */
export function randomMatrix(rows: number, columns: number, seed: string, outlier = 8): Matrix {
  const random = randomFrom(seed);
  const values = Float64Array.from({ length: rows * columns }, () => Math.fround(random.normal() / 8));
  for (let row = 0; row < rows; row++) values[row * columns + random.below(columns)] = outlier / 8;
  return { rows, columns, values };
}

export function transposed({ rows, columns, values }: Matrix): Matrix {
  const turned = new Float64Array(values.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) turned[c * rows + r] = at(values, r * columns + c);
  return { rows: columns, columns: rows, values: turned };
}

/** a b^T */
export function product(a: Matrix, b: Matrix): Matrix {
  const values = new Float64Array(a.rows * b.rows);
  for (let i = 0; i < a.rows; i++)
    for (let j = 0; j < b.rows; j++) {
      let sum = 0;
      for (let k = 0; k < a.columns; k++) sum += at(a.values, i * a.columns + k) * at(b.values, j * b.columns + k);
      values[i * b.rows + j] = sum;
    }
  return { rows: a.rows, columns: b.rows, values };
}

/** R [n, n] = diag(signs) H / sqrt(n), H_ij = (-1)^(number of ones that i and j share). Only the signs are the program's. */
export function rotationMatrix(n: number): Matrix {
  const row = new Float32Array(n * n);
  for (let i = 0; i < n; i++) row[i * n + i] = 1;
  if (n > 1) for (let i = 0; i < n; i++) new Rotation(n).row(row.subarray(i * n, (i + 1) * n));
  const values = Float64Array.from({ length: n * n }, (_, place) => {
    const [i, j] = [Math.floor(place / n), place % n];
    const shared = [...(i & j).toString(2)].filter((bit) => bit === "1").length;
    return (Math.sign(at(row, i * n)) * (-1) ** shared) / Math.sqrt(n);
  });
  return { rows: n, columns: n, values };
}

/** x R, R in blocks along the diagonal */
export function rotated({ rows, columns, values }: Matrix, n: number): Matrix {
  if (n === 1) return { rows, columns, values };
  const turned = product({ rows: (rows * columns) / n, columns: n, values }, transposed(rotationMatrix(n)));
  return { rows, columns, values: turned.values };
}

/** Each row divided by a scale and rounded, and its scale: the row's largest size over `most`. */
export function roundedRows(
  { rows, columns, values }: Matrix,
  most: number,
): { rounded: Matrix; scales: Float64Array } {
  const scales = Float64Array.from({ length: rows }, (_, row) =>
    Math.fround(Math.max(...values.subarray(row * columns, (row + 1) * columns).map(Math.abs)) / most),
  );
  const rounded = values.map((value, i) => Math.round(value / at(scales, Math.floor(i / columns))));
  return { rounded: { rows, columns, values: rounded }, scales };
}

/** What blocks of `size` numbers of each row become in `bits` bits: the numbers that they stand for. */
export function roundedBlocks({ rows, columns, values }: Matrix, bits: number, size: number): Matrix {
  const most = 2 ** bits - 1;
  const kept = values.slice();
  for (let row = 0; row < rows; row++)
    for (let start = 0; start < columns; start += size) {
      const block = kept.subarray(row * columns + start, row * columns + Math.min(columns, start + size));
      const low = Math.min(0, ...block);
      const scale = Math.fround((Math.max(0, ...block) - low) / most);
      const zero = Math.round(-low / scale);
      block.forEach((value, i) => {
        block[i] = scale === 0 ? 0 : scale * (Math.min(most, Math.max(0, zero + Math.round(value / scale))) - zero);
      });
    }
  return { rows, columns, values: kept };
}

export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < b.length; i++) {
    const [x, y] = [at(a, i), at(b, i)];
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return dot / Math.sqrt(aa * bb);
}

export const at = (values: ArrayLike<number>, i: number): number => values[i] ?? Number.NaN;

/** The largest difference, as a share of the largest number expected. */
export function largestShare(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [worst, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(at(got, i) - at(expected, i));
    if (!(error <= worst)) worst = error;
    largest = Math.max(largest, Math.abs(at(expected, i)));
  }
  return worst / largest;
}
