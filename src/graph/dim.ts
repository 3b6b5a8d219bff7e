/**
 * Dimensions that may be unknown until a run: whole numbers, or products of a number and symbols written canonically,
 * "4*M" or "B*T". A sum of unlike terms becomes one symbol of its own, "(S+T)". Equal names are equal lengths; the
 * converse holds but for products of sums, which are not multiplied out.
 */
import { InternalError } from "../utils/errors.ts";

export type Dim = number | string;
export type Shape = readonly Dim[];

interface Monomial {
  readonly factor: number;
  readonly symbols: readonly string[];
}

/** Parts between separators, those inside parentheses left alone: "B*(2*S+T)" at "*" -> ["B", "(2*S+T)"]. */
function splitOutside(text: string, separator: "*" | "+"): string[] {
  const parts = [""];
  let depth = 0;
  for (const char of text) {
    if (char === "(") depth++;
    if (char === ")") depth--;
    if (char === separator && depth === 0) parts.push("");
    else parts.push(`${parts.pop()}${char}`);
  }
  return parts;
}

function parse(dim: Dim): Monomial {
  if (typeof dim === "number") return { factor: dim, symbols: [] };
  const parts = splitOutside(dim, "*");
  const factor = /^\d+$/.test(parts[0] ?? "") ? Number(parts.shift()) : 1;
  return { factor, symbols: parts };
}

function format({ factor, symbols }: Monomial): Dim {
  if (symbols.length === 0 || factor === 0) return factor;
  const sorted = [...symbols].sort();
  return factor === 1 ? sorted.join("*") : [factor, ...sorted].join("*");
}

/** The symbols of a dimension, each as often as it is a factor: "2*B*T" -> ["B", "T"]. */
export const symbolsOf = (dim: Dim): readonly string[] => parse(dim).symbols;

/** The whole-number factor of a dimension: "2*B*T" -> 2. */
export const factorOf = (dim: Dim): number => parse(dim).factor;

export function mulDims(...dims: readonly Dim[]): Dim {
  const parts = dims.map(parse);
  return format({ factor: parts.reduce((f, p) => f * p.factor, 1), symbols: parts.flatMap((p) => p.symbols) });
}

/** Exact quotient. @throws InternalError when `divisor` does not divide `dim` for every value of the symbols */
export function divDims(dim: Dim, divisor: Dim): Dim {
  const whole = parse(dim);
  const part = parse(divisor);
  const rest = [...whole.symbols];
  for (const symbol of part.symbols) {
    const at = rest.indexOf(symbol);
    if (at < 0) throw new InternalError(`${dim} is not a multiple of ${divisor}`);
    rest.splice(at, 1);
  }
  if (whole.factor % part.factor !== 0) throw new InternalError(`${dim} is not a multiple of ${divisor}`);
  return format({ factor: whole.factor / part.factor, symbols: rest });
}

/** The products that a dimension is the sum of. */
function termsOf(dim: Dim): Monomial[] {
  const { factor, symbols } = parse(dim);
  const [only = ""] = symbols;
  if (symbols.length !== 1 || !only.startsWith("(")) return [{ factor, symbols }];
  return splitOutside(only.slice(1, -1), "+").map((term) => {
    const { factor: inner, symbols: names } = parse(/^\d+$/.test(term) ? Number(term) : term);
    return { factor: factor * inner, symbols: names };
  });
}

export function addDims(a: Dim, b: Dim): Dim {
  if (a === 0) return b;
  if (b === 0) return a;
  const like = new Map<string, Monomial>();
  for (const { factor, symbols } of [...termsOf(a), ...termsOf(b)]) {
    const key = [...symbols].sort().join("*");
    const sum = factor + (like.get(key)?.factor ?? 0);
    if (sum !== 0) like.set(key, { factor: sum, symbols });
  }
  const terms = [...like.values()].map(format);
  const [only = 0, ...more] = terms;
  return more.length === 0 ? only : `(${terms.map(String).sort().join("+")})`;
}

/** The number that a dimension is for these lengths of its symbols. @throws InternalError for a symbol without a length */
export function lengthOf(dim: Dim, lengths: Readonly<Record<string, number>>): number {
  if (typeof dim === "number") return dim;
  const { factor, symbols } = parse(dim);
  return symbols.reduce((product, symbol) => product * symbolValue(symbol, lengths), factor);
}

function symbolValue(symbol: string, lengths: Readonly<Record<string, number>>): number {
  if (symbol.startsWith("("))
    return splitOutside(symbol.slice(1, -1), "+").reduce(
      (sum, term) => sum + lengthOf(/^\d+$/.test(term) ? Number(term) : term, lengths),
      0,
    );
  const length = lengths[symbol];
  if (length === undefined) throw new InternalError(`the length of ${symbol} is not known`);
  return length;
}

/** Number of elements, as a dimension. */
export const sizeOf = (shape: Shape): Dim => mulDims(...shape);

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((dim, i) => dim === b[i]);

/** Shape of an element-wise result under numpy's broadcasting, or null when the two do not fit. */
export function broadcast(a: Shape, b: Shape): Shape | null {
  const rank = Math.max(a.length, b.length);
  const out: Dim[] = [];
  for (let i = 0; i < rank; i++) {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x !== y && x !== 1 && y !== 1) return null;
    out.push(x === 1 ? y : x);
  }
  return out;
}
