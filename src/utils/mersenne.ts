/**
 * Python's random module, as far as a shuffle needs it: folds that were drawn there are drawn here again. All else that is
 * random in this project comes from random.ts.
 * Source: Matsumoto and Nishimura 1998 (MT19937, with init_by_array of 2002); CPython, Lib/random.py and _randommodule.c.
 */

const N = 624;
const M = 397;

/** The state after `random.seed(seed)`. */
function seeded(seed: number): Uint32Array {
  const key = [seed >>> 0, Math.floor(seed / 2 ** 32)].slice(0, seed < 2 ** 32 ? 1 : 2);
  const state = initialised(19650218);
  const word = (i: number): number => state[i] as number;
  const previous = (i: number): number => word(i - 1) ^ (word(i - 1) >>> 30);
  let [i, j] = [1, 0];
  const advance = (): void => {
    if (++i < N) return;
    state[0] = word(N - 1);
    i = 1;
  };
  for (let k = Math.max(N, key.length); k > 0; k--) {
    state[i] = (word(i) ^ Math.imul(previous(i), 1664525)) + (key[j] as number) + j;
    advance();
    j = (j + 1) % key.length;
  }
  for (let k = N - 1; k > 0; k--) {
    state[i] = (word(i) ^ Math.imul(previous(i), 1566083941)) - i;
    advance();
  }
  state[0] = 0x80000000;
  return state;
}

function initialised(seed: number): Uint32Array {
  const state = new Uint32Array(N);
  state[0] = seed;
  for (let i = 1; i < N; i++) {
    const before = state[i - 1] as number;
    state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
  }
  return state;
}

/** Replaces all words of the state by the next ones. */
function twist(state: Uint32Array): void {
  const word = (i: number): number => state[i % N] as number;
  for (let i = 0; i < N; i++) {
    const y = (word(i) & 0x80000000) | (word(i + 1) & 0x7fffffff);
    state[i] = word(i + M) ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
  }
}

/** @returns a function that draws the next 32 bits */
function generator(seed: number): () => number {
  const state = seeded(seed);
  let at = N;
  return () => {
    if (at === N) {
      twist(state);
      at = 0;
    }
    let y = state[at++] as number;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

/**
 * What `random.seed(seed); random.shuffle(items)` leaves in Python 3.
 * @param seed a whole number, at least 0
 * @returns a shuffled copy
 */
export function pythonShuffled<T>(items: readonly T[], seed: number): T[] {
  const next = generator(seed);
  const copy = [...items];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = below(next, i + 1);
    [copy[i], copy[j]] = [copy[j] as T, copy[i] as T];
  }
  return copy;
}

/** Random._randbelow_with_getrandbits: as many bits as `limit` has, drawn until they are below it. */
function below(next: () => number, limit: number): number {
  const shift = Math.clz32(limit);
  for (;;) {
    const drawn = next() >>> shift;
    if (drawn < limit) return drawn;
  }
}
