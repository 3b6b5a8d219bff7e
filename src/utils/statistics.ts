/** Uncertainty of paired scores: bootstrap intervals for clustered values, and exact tests. Everything random is seeded. */
import { InternalError } from "./errors.ts";
import { randomFrom } from "./random.ts";

/** A mean with its bootstrap interval. */
export interface Estimate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

export interface BootstrapOptions {
  readonly draws: number;
  readonly seed: number;
  /** Share of the draws inside the interval. */
  readonly level?: number;
}

/**
 * Mean over groups of the group means. Each draw takes as many groups as there are, with replacement, and in each of them as
 * many values as it has, with replacement; the interval lies between the draws' percentiles. One group: only its values are drawn.
 * Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), 2.4 and 3.8.
 * @throws InternalError without groups, or for a group without values
 */
export function bootstrapMean(groups: readonly (readonly number[])[], options: BootstrapOptions): Estimate {
  if (groups.length === 0 || groups.some(({ length }) => length === 0)) throw new InternalError("bootstrap of nothing");
  const { draws, seed, level = 0.95 } = options;
  const random = randomFrom(seed, "bootstrap");
  const means = new Float64Array(draws);
  for (let draw = 0; draw < draws; draw++) {
    let sum = 0;
    for (let i = 0; i < groups.length; i++) {
      const group = groups[groups.length === 1 ? 0 : random.below(groups.length)] ?? [];
      let inGroup = 0;
      for (let j = 0; j < group.length; j++) inGroup += group[random.below(group.length)] ?? 0;
      sum += inGroup / group.length;
    }
    means[draw] = sum / groups.length;
  }
  means.sort();
  const tail = (1 - level) / 2;
  return { value: meanOfMeans(groups), low: quantile(means, tail), high: quantile(means, 1 - tail) };
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const meanOfMeans = (groups: readonly (readonly number[])[]): number => mean(groups.map(mean));

/** Linear between neighbours, as numpy.quantile. @param sorted not empty, ascending */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const [low = Number.NaN, high = low] = [sorted[below], sorted[below + 1]];
  return low + (high - low) * (place - below);
}

export interface PermutationTest {
  /** Two-sided: share of the sign patterns whose mean is at least as far from 0. */
  readonly p: number;
  /** All 2^n patterns, or as many as were drawn. */
  readonly patterns: number;
  readonly isExact: boolean;
}

const MOST_ENUMERATED = 20; // differences; 2^20 patterns take milliseconds
const PATTERNS_DRAWN = 100_000;

/** Were "before" and "after" of each pair exchangeable, each difference might as well have the other sign. */
export function signFlipTest(differences: readonly number[], seed: number): PermutationTest {
  const observed = Math.abs(differences.reduce((sum, value) => sum + value, 0));
  const size = differences.reduce((sum, value) => sum + Math.abs(value), 0);
  const least = observed - 1e-12 * size; // sums in another order are equal to rounding only
  if (differences.length > MOST_ENUMERATED) return drawnSignFlips(differences, least, seed);
  const patterns = 2 ** differences.length;
  let extreme = 0;
  for (let pattern = 0; pattern < patterns; pattern++) {
    let sum = 0;
    for (let i = 0; i < differences.length; i++)
      sum += (pattern >> i) & 1 ? -(differences[i] ?? 0) : (differences[i] ?? 0);
    if (Math.abs(sum) >= least) extreme++;
  }
  return { p: extreme / patterns, patterns, isExact: true };
}

/** The observed pattern counts as one of the drawn, so that p is never 0 (Phipson and Smyth 2010). */
function drawnSignFlips(differences: readonly number[], least: number, seed: number): PermutationTest {
  const random = randomFrom(seed, "sign flips");
  let extreme = 1;
  for (let draw = 1; draw < PATTERNS_DRAWN; draw++) {
    let sum = 0;
    for (const value of differences) sum += random.below(2) === 0 ? value : -value;
    if (Math.abs(sum) >= least) extreme++;
  }
  return { p: extreme / PATTERNS_DRAWN, patterns: PATTERNS_DRAWN, isExact: false };
}

/**
 * McNemar's exact test: of the pairs that changed, `gained` one way and `lost` the other, is one way likelier? Two-sided
 * binomial test of 1/2.
 */
export function mcnemarTest(gained: number, lost: number): number {
  const changed = gained + lost;
  const smaller = Math.min(gained, lost);
  let logChoose = 0; // ln of "changed over k"
  let tail = 0;
  for (let k = 0; k <= smaller; k++) {
    tail += Math.exp(logChoose - changed * Math.LN2);
    logChoose += Math.log((changed - k) / (k + 1));
  }
  return Math.min(1, 2 * tail);
}
