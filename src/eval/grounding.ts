/**
 * From the text of an answer to a click, and from clicks to scores. Points are in 0..1000 of the picture's width and height.
 * Only the generated text may be parsed: the prompt holds a grounding block of its own.
 */
import { InternalError } from "../utils/errors.ts";

export type Point = readonly [x: number, y: number];
export type ParseMode = "compatible" | "strict";

/** What an answer says. `point` is null only in strict mode, where the answer names no point that can be read. */
export interface Grounding {
  readonly content: string;
  readonly point: Point | null;
}

/** Scores of one user or one run. Distances are in units of a thousandth of the picture's side. */
export interface Metrics {
  /** Share of all answers within HIT_DISTANCE of the truth. */
  readonly accuracy: number;
  /** Over the answers that have a point; null where none has. */
  readonly mean_l2: number | null;
  readonly median_l2: number | null;
  readonly n: number;
  /** Answers without a point; only in strict mode can there be any. */
  readonly failures: number;
}

/** A click this near counts as a hit, this distance itself included. */
export const HIT_DISTANCE = 140;

const FENCE = "```";
const REFERRING = /```referring\n(.*?)\n```/gs;

export function parseGrounding(answer: string, mode: ParseMode): Grounding {
  const content = [...answer.matchAll(REFERRING)].at(-1)?.[1] ?? "None";
  const block = firstBlock(answer);
  if (mode === "strict") return { content, point: block === null ? null : strictPoint(block) };
  return { content, point: (block === null ? null : compatiblePoint(block)) ?? [0, 0] };
}

/** The text of the first grounding block that is closed before another opens; null where there is none. */
function firstBlock(answer: string): string | null {
  const [, ...opened] = answer.split(`${FENCE}grounding`);
  return opened.find((block) => block.includes(FENCE))?.split(FENCE)[0] ?? null;
}

const PAIR = String.raw`(\d+)\s*,\s*(\d+)`;
/**
 * Tried in this order; the first two numbers of the first pattern that matches are the point. Whole numbers only and no
 * brackets asked for, so "[0.31, 0.54]" reads as 31, 0: the published scores were counted so.
 */
const COMPATIBLE = [
  new RegExp(String.raw`${PAIR}\s*,\s*\d+\s*,\s*\d+`), // x1, y1, x2, y2
  new RegExp(String.raw`${PAIR}\)?\s*to\s*\(?\d+\s*,\s*\d+`), // (x1, y1) to (x2, y2)
  new RegExp(String.raw`(?:Top-left|Bottom-right)[^:]*:\s*\(?${PAIR}`),
  new RegExp(PAIR),
];

function compatiblePoint(block: string): Point | null {
  for (const pattern of COMPATIBLE) {
    const match = pattern.exec(block);
    if (match) return [Number(match[1]), Number(match[2])];
  }
  return null;
}

const STANDALONE_NUMBER = /(?<![\w.])[+-]?(?:\d+\.?\d*|\.\d+)(?![\w.]*\w)/g; // not the 2 of "point_2d"

/** Two numbers are a point, four are a box and mean its centre; all within 0..1, decimals among them, are shares. */
function strictPoint(block: string): Point | null {
  const words = block.match(STANDALONE_NUMBER) ?? [];
  const numbers = words.map(Number);
  const areShares = words.some((word) => word.includes(".")) && numbers.every((number) => number <= 1);
  const scaled = areShares ? numbers.map((number) => number * 1000) : numbers;
  if (scaled.some((number) => number < 0 || number > 1000)) return null;
  const [x1 = 0, y1 = 0, x2 = 0, y2 = 0] = scaled;
  if (scaled.length === 2) return [x1, y1];
  return scaled.length === 4 ? [(x1 + x2) / 2, (y1 + y2) / 2] : null;
}

/** A scored answer: the point that was said, or null, and the true one. */
export interface Scored {
  readonly predicted: Point | null;
  readonly truth: Point;
}

// written out: the standard leaves Math.hypot's last digit to the engine, and at exactly 140 it would decide over a hit
export const distanceOf = (a: Point, b: Point): number => Math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2);

/** @throws InternalError for an empty list: a mean of nothing is no score */
export function metricsOf(scored: readonly Scored[]): Metrics {
  if (scored.length === 0) throw new InternalError("metrics of no answers");
  const distances = scored.flatMap(({ predicted, truth }) => (predicted ? [distanceOf(predicted, truth)] : []));
  return {
    accuracy: distances.filter((distance) => distance <= HIT_DISTANCE).length / scored.length,
    mean_l2: distances.length === 0 ? null : mean(distances),
    median_l2: distances.length === 0 ? null : median(distances),
    n: scored.length,
    failures: scored.length - distances.length,
  };
}

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  const lower = sorted[Math.ceil(sorted.length / 2) - 1] ?? Number.NaN;
  return (lower + upper) / 2;
}
