/**
 * The rotation that spreads a few large numbers of a row over their neighbours before the row is rounded to 8 bits. A product
 * does not change when both factors are rotated: x W^T = (x R)(W R)^T. R is diag(signs) H / sqrt(n) with Hadamard's H: random
 * signs keep rows that are constant from becoming one large number. Idea: QuIP#, section 3; QuaRot, section 3.
 */
import { randomFrom } from "../utils/random.ts";

/** Larger blocks spread better and cost more: 2 * rows * in * block operations. */
const LARGEST_BLOCK = 64;

/** The block for rows of a length: the largest power of two up to 64 that divides it; 1 rotates nothing. */
export function rotationBlock(length: number): number {
  let block = LARGEST_BLOCK;
  while (length % block !== 0) block /= 2;
  return block;
}

/** [n] of 1 and -1, the same for ever: cached weights depend on them. */
function signs(n: number): Float32Array {
  const random = randomFrom("rotation", n);
  return Float32Array.from({ length: n }, () => (random.uniform() < 0.5 ? -1 : 1));
}

/** The rotation in blocks of n. */
export class Rotation {
  readonly #signs: Float32Array;

  constructor(readonly n: number) {
    this.#signs = signs(n);
  }

  /** Rotates `row` [k * n] in blocks of n. */
  row(row: Float32Array): void {
    const { n } = this;
    const signs = this.#signs;
    const factor = 1 / Math.sqrt(n);
    for (let start = 0; start < row.length; start += n)
      for (let i = 0; i < n; i++) row[start + i] = (row[start + i] as number) * (signs[i] as number) * factor;
    for (let half = 1; half < n; half *= 2)
      for (let i = 0; i < row.length; i += 2 * half)
        for (let a = i; a < i + half; a++) {
          const left = row[a] as number;
          const right = row[a + half] as number;
          row[a] = left + right;
          row[a + half] = left - right;
        }
  }

  /** R [n, n], row by row. */
  matrix(): Float32Array {
    const { n } = this;
    const rows = new Float32Array(n * n);
    for (let i = 0; i < n; i++) {
      rows[i * n + i] = 1;
      this.row(rows.subarray(i * n, (i + 1) * n));
    }
    return rows;
  }
}
