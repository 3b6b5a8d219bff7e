/** Differences between whole arrays, gathered by what they are about. */

/** How a difference is measured against its tolerance. */
export interface Tolerance {
  /** `exact`: equal numbers; `absolute`; `magnitude`: relative to the largest of the expected tensor; `relative`: element by element. */
  readonly kind: "exact" | "absolute" | "magnitude" | "relative";
  readonly limit: number;
}

export interface Result {
  /** NaN (null in JSON) where a number is not one. */
  readonly max_abs: number;
  readonly max_rel: number;
  readonly tolerance: string;
  readonly compared: number;
  /** Where the largest difference is. */
  readonly at: string;
  readonly pass: boolean;
}

type Numbers = ArrayLike<number>;

/** The differences of one subject: many tensors may be added. */
export class Comparison {
  readonly #tolerance: Tolerance;
  #maxAbs = 0;
  #maxRel = 0;
  #worst = 0;
  #compared = 0;
  #at = "";
  #pass = true;

  constructor(tolerance: Tolerance) {
    this.#tolerance = tolerance;
  }

  add(where: string, got: Numbers, expected: Numbers): this {
    if (got.length !== expected.length)
      return this.#fail(`${where}: ${got.length} numbers, expected ${expected.length}`);
    const largest = Array.prototype.reduce.call(
      expected,
      (max, v) => Math.max(max as number, Math.abs(v as number)),
      0,
    ) as number;
    for (let i = 0; i < got.length; i++) this.#one(`${where}[${i}]`, got[i] as number, expected[i] as number, largest);
    this.#compared += got.length;
    return this;
  }

  /** Something that could not be compared at all: no later difference is worse. */
  #fail(where: string): this {
    this.#pass = false;
    if (this.#worst < Number.POSITIVE_INFINITY) this.#at = where;
    this.#worst = Number.POSITIVE_INFINITY;
    return this;
  }

  #one(where: string, got: number, expected: number, largest: number): void {
    const abs = Math.abs(got - expected);
    const scale = this.#tolerance.kind === "relative" ? Math.abs(expected) : largest;
    const rel = abs === 0 ? 0 : abs / Math.max(scale, Number.MIN_VALUE);
    this.#maxAbs = Math.max(this.#maxAbs, abs);
    this.#maxRel = Math.max(this.#maxRel, rel);
    const measured = this.#tolerance.kind === "magnitude" || this.#tolerance.kind === "relative" ? rel : abs;
    if (Number.isNaN(measured)) this.#fail(where);
    else if (measured > this.#worst) {
      this.#worst = measured;
      this.#at = where;
    }
    if (measured > this.#tolerance.limit) this.#pass = false;
  }

  result(): Result {
    const { kind, limit } = this.#tolerance;
    return {
      max_abs: this.#maxAbs,
      max_rel: this.#maxRel,
      tolerance: kind === "exact" ? "exact" : `${kind} ${limit}`,
      compared: this.#compared,
      at: this.#at,
      pass: this.#pass && this.#compared > 0,
    };
  }
}

/** Share of elements whose difference is above `limit`. */
export function shareAbove(pairs: Iterable<readonly [got: Numbers, expected: Numbers]>, limit: number): number {
  let [above, count] = [0, 0];
  for (const [got, expected] of pairs) {
    for (let i = 0; i < expected.length; i++)
      above += Number(!(Math.abs((got[i] as number) - (expected[i] as number)) <= limit));
    count += expected.length;
  }
  return above / count;
}
