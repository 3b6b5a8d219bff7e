/**
 * Random numbers drawn from counters: every number is a function of a seed and of where it is used, never of what was
 * drawn before. A resumed or recomputed step therefore draws the same numbers again.
 */

/** One 32-bit hash step (the finaliser of MurmurHash3, public domain). */
function mix(word: number): number {
  let h = word >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

const scratch = new DataView(new ArrayBuffer(8));

/** The low 32 bits of a whole number; a fraction's bits folded, for cutting them off would make 0.1 and 0.2 one seed. */
function lowWordOf(value: number): number {
  if (Number.isInteger(value)) return value >>> 0;
  scratch.setFloat64(0, value);
  return (scratch.getUint32(0) ^ mix(scratch.getUint32(4))) >>> 0;
}

/** Hashes numbers and names to 32 bits, in order: `hashOf(seed, "shuffle", epoch)`. */
export function hashOf(...parts: readonly (number | string)[]): number {
  let h = 0x9e3779b9;
  for (const part of parts) {
    if (typeof part === "number") h = mix(h ^ mix(lowWordOf(part))) ^ mix(Math.floor(part / 2 ** 32));
    else for (const char of part) h = mix(h ^ (char.codePointAt(0) ?? 0));
    h = mix(h + 0x6d2b79f5);
  }
  return h >>> 0;
}

/** A stream of numbers that starts at `hashOf(...parts)`. */
export interface Random {
  /** Uniform in [0, 1), 53 random bits. */
  uniform(): number;
  /** Whole number in [0, limit). */
  below(limit: number): number;
  /** Normal with mean 0 and deviation 1. */
  normal(): number;
  /** One of the items. */
  pick<T>(items: readonly T[]): T;
  /** A shuffled copy (Fisher-Yates). */
  shuffled<T>(items: readonly T[]): T[];
}

export function randomFrom(...parts: readonly (number | string)[]): Random {
  const key = hashOf(...parts);
  let counter = 0;
  const word = (): number => mix(key ^ mix(counter++));
  const uniform = (): number => ((word() >>> 5) * 2 ** 26 + (word() >>> 6)) / 2 ** 53;
  const below = (limit: number): number => Math.floor(uniform() * limit);
  return {
    uniform,
    below,
    // Box-Muller; 1 - u keeps the logarithm finite
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    pick<T>(items: readonly T[]): T {
      return items[below(items.length)] as T;
    },
    shuffled<T>(items: readonly T[]): T[] {
      const copy = [...items];
      for (let i = copy.length - 1; i > 0; i--) {
        const j = below(i + 1);
        [copy[i], copy[j]] = [copy[j] as T, copy[i] as T];
      }
      return copy;
    },
  };
}
