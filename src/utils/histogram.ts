/** Histograms: bins with round edges, and bars of text. */
import { count } from "./count.ts";

/** Values from `from` up to, but without, `to`. */
export interface Bin {
  readonly from: number;
  readonly to: number;
  readonly count: number;
}

/**
 * Bins of one width, 1, 2 or 5 times a power of ten, that cover whole numbers.
 * @returns in order, empty ones between others included; none for no values
 */
export function binsOf(values: readonly number[], most = 12): Bin[] {
  if (values.length === 0) return [];
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  const width = roundWidth(low, high, most);
  const first = Math.floor(low / width);
  const counts = new Array<number>(Math.floor(high / width) - first + 1).fill(0);
  for (const value of values) {
    const bin = Math.floor(value / width) - first;
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  return counts.map((count, i) => ({ from: (first + i) * width, to: (first + i + 1) * width, count }));
}

function roundWidth(low: number, high: number, most: number): number {
  for (let power = 1; ; power *= 10) {
    for (const width of [power, 2 * power, 5 * power]) {
      if (Math.floor(high / width) - Math.floor(low / width) < most) return width;
    }
  }
}

/** "120-139", or the number itself where a bin holds one. */
export const binName = ({ from, to }: Bin): string =>
  to - from === 1 ? count(from) : `${count(from)}-${count(to - 1)}`;

const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** One line a bin: its range, a bar of at most `width` columns, its count. A bin that holds anything has a bar. */
export function barLines(bins: readonly Bin[], width = 40): string[] {
  const most = bins.reduce((max, bin) => Math.max(max, bin.count), 0);
  const names = bins.map(binName);
  const column = names.reduce((max, { length }) => Math.max(max, length), 0);
  return bins.map((bin, i) => {
    const eighths = bin.count === 0 ? 0 : Math.max(1, Math.round((8 * width * bin.count) / most));
    const bar = "█".repeat(eighths >> 3) + (EIGHTHS[eighths & 7] ?? "");
    return `${(names[i] ?? "").padStart(column)} │${bar} ${count(bin.count)}`;
  });
}
