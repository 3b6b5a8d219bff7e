/** Losses that stand out of those before them. */

/** Losses that the median is taken of, and the fewest for which it says something. */
const WINDOW = 50;
const FEWEST = 10;
/** How far out a loss must be: in robust standard deviations, and in nats (a flat curve has hardly any deviation). */
const DEVIATIONS = 6;
const LEAST = 0.1;
/** A normal distribution's standard deviation in median absolute deviations. */
const SIGMA_PER_MAD = 1.4826;

export interface Spike {
  /** Of the losses before. */
  readonly median: number;
  /** 1.4826 times their median absolute deviation. */
  readonly sigma: number;
}

/**
 * Says whether `loss` is a spike: more than 6 sigma, and more than 0.1, above the median of the 50 losses before it, of
 * which there must be 10. Medians do not move with the spikes themselves.
 */
export function spikeOf(before: readonly number[], loss: number): Spike | null {
  const window = before.slice(-WINDOW);
  if (window.length < FEWEST) return null;
  const median = medianOf(window);
  const sigma = SIGMA_PER_MAD * medianOf(window.map((value) => Math.abs(value - median)));
  return loss > median + Math.max(DEVIATIONS * sigma, LEAST) ? { median, sigma } : null;
}

/** The mean of the middle two where their number is even. */
export function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}
