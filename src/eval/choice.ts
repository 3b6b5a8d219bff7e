/**
 * Which token follows: the likeliest, or one that is drawn.
 *
 * The same prompt gives logits that differ in the last digits with what is computed beside it and how (batch, padding, cache).
 * A choice says whether it would stand all the same; where it would not, the generator settles it by logits computed alone.
 */
import { InternalError, UserError } from "../utils/errors.ts";
import { randomFrom } from "../utils/random.ts";

/** How answers are drawn; without these the likeliest token is taken. Names and order of the filters are transformers'. */
export interface SamplingSettings {
  readonly temperature: number;
  /** Only the likeliest so many tokens; 0: all. */
  readonly topK: number;
  /** Of these only the likeliest that together reach this probability. */
  readonly topP: number;
  readonly seed: number;
}

export interface Choice {
  readonly token: number;
  /** Whether logits that differ by no more than the noise would choose the same. */
  readonly isClear: boolean;
}

/**
 * Largest difference of logits that is put down to the order of float32 sums, as a share of the largest logit. The embedded
 * model showed 5e-7 between batches of 8 with a cache and prompts computed alone and whole.
 */
export const NOISE = 2e-5;

/**
 * @param logits [V]
 * @param draw   in [0, 1); only read where `sampling` is given
 * @throws UserError where a logit is NaN: no token is the answer then
 */
export function chooseToken(logits: Float32Array, sampling: Omit<SamplingSettings, "seed"> | null, draw = 0): Choice {
  if (Number.isNaN(sizeOf(logits)))
    throw new UserError("the model's logits are not numbers: its weights or the adapter's are damaged");
  if (!sampling) return likeliest(logits);
  return drawn(candidatesOf(logits, sampling), draw);
}

/** The number for one token of one answer, whatever else is answered. In [0, 1) */
export const drawOf = (seed: number, sampleId: string, tokenIndex: number): number =>
  randomFrom(seed, "answer", sampleId, tokenIndex).uniform();

/** The largest without its sign; NaN where one is NaN. Plain loops, here and below: with 150,000 logits others take milliseconds. */
function sizeOf(logits: Float32Array): number {
  let most = 0;
  for (let token = 0; token < logits.length; token++) {
    const size = Math.abs(logits[token] as number);
    if (Number.isNaN(size)) return size;
    if (size > most) most = size;
  }
  return most;
}

/** By how much noise may change the difference of two logits. */
const slackOf = (logits: Float32Array): number => 2 * NOISE * sizeOf(logits);

/** The first largest, as torch.argmax takes it. */
function likeliest(logits: Float32Array): Choice {
  const [first = 0, second] = largest(logits, 2);
  return { token: first, isClear: gapOf(logits, first, second) > slackOf(logits) };
}

/** Infinite where there is no second. */
const gapOf = (logits: Float32Array, first: number | undefined, second: number | undefined): number =>
  second === undefined ? Number.POSITIVE_INFINITY : (logits[first ?? 0] ?? 0) - (logits[second] ?? 0);

/** Tokens of the `count` largest logits, the largest first, equals in the order of the vocabulary. */
function largest(logits: Float32Array, count: number): number[] {
  const at = (token: number | undefined): number => logits[token ?? -1] ?? Number.NEGATIVE_INFINITY;
  if (count >= logits.length) return Array.from(logits.keys()).sort((a, b) => at(b) - at(a) || a - b);
  const found: number[] = [];
  let least = Number.NEGATIVE_INFINITY; // of what was found, once it is `count`
  for (let token = 0; token < logits.length; token++) {
    const logit = logits[token] as number;
    if (found.length === count && logit <= least) continue;
    const place = found.findIndex((other) => at(other) < logit);
    found.splice(place < 0 ? found.length : place, 0, token);
    if (found.length > count) found.pop();
    if (found.length === count) least = at(found.at(-1));
  }
  return found;
}

interface Candidates {
  /** In ascending order: the order of near equals must not move a draw. */
  readonly tokens: readonly number[];
  /** Not yet divided by their sum. */
  readonly weights: readonly number[];
  /** Whether noise would leave the same tokens in. */
  readonly isClear: boolean;
  /** By how much noise may change the logarithm of the ratio of two weights. */
  readonly slack: number;
}

/** What is left after top-k and then top-p. Source: transformers 5.18, generation/logits_process.py. */
function candidatesOf(logits: Float32Array, { temperature, topK, topP }: Omit<SamplingSettings, "seed">): Candidates {
  const most = topK === 0 ? logits.length : topK;
  const sorted = largest(logits, most + 1); // and the first that is left out
  const weightOf = (token: number): number => Math.exp(-gapOf(logits, sorted[0], token) / temperature);
  const slack = slackOf(logits) / temperature;
  const { count, isClear } = nucleus(sorted.slice(0, most).map(weightOf), topP, slack);
  const isCutClear = gapOf(logits, sorted[count - 1], sorted[count]) > slack * temperature;
  const tokens = sorted.slice(0, count).sort((a, b) => a - b);
  return { tokens, weights: tokens.map(weightOf), isClear: isClear && isCutClear, slack };
}

/** The fewest of the largest weights whose share is at least `topP`. @param weights in descending order */
function nucleus(weights: readonly number[], topP: number, slack: number): { count: number; isClear: boolean } {
  if (topP >= 1) return { count: weights.length, isClear: true };
  const total = sumOf(weights);
  let sum = 0;
  for (const [i, weight] of weights.entries()) {
    const before = sum / total;
    sum += weight;
    if (sum / total < topP) continue;
    return { count: i + 1, isClear: moved(before, slack) < topP && moved(sum / total, -slack) >= topP };
  }
  return { count: weights.length, isClear: false }; // rounding left the sum below
}

/** Each token has its share of [0, 1), in the order of the vocabulary. */
function drawn({ tokens, weights, isClear, slack }: Candidates, draw: number): Choice {
  const total = sumOf(weights);
  let below = 0;
  for (const [i, token] of tokens.entries()) {
    const above = i === tokens.length - 1 ? 1 : below + (weights[i] as number) / total;
    if (draw < above) return { token, isClear: isClear && moved(below, slack) <= draw && draw < moved(above, -slack) };
    below = above;
  }
  throw new InternalError(`no token for draw ${draw}`);
}

const sumOf = (weights: readonly number[]): number => weights.reduce((sum, weight) => sum + weight, 0);

/** How far a share of the whole goes when its odds change by a factor of e^change. */
function moved(share: number, change: number): number {
  const odds = share * Math.exp(change);
  return odds / (odds + 1 - share);
}
