/**
 * Which token follows: the likeliest, or one that is drawn.
 *
 * The same prompt gives logits that differ in the last digits with what is computed beside it and how (batch, padding, cache).
 * A choice says whether it would stand all the same; where it would not, the generator settles it by logits computed alone.
 */
import { UserError } from "../utils/errors.ts";
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
  /** Whether logits that differ by no more than NOISE would choose the same. */
  readonly isClear: boolean;
}

/** Largest difference of logits that is put down to the order of float32 sums; twenty times what was seen. */
export const NOISE = 1e-3;

/**
 * @param logits [V]
 * @param draw   in [0, 1); only read where `sampling` is given
 * @throws UserError where a logit is NaN: no token is the answer then
 */
export function chooseToken(logits: Float32Array, sampling: Omit<SamplingSettings, "seed"> | null, draw = 0): Choice {
  if (!sampling) return likeliest(logits);
  return drawn(candidatesOf(logits, sampling), draw, (2 * NOISE) / sampling.temperature);
}

/** The number for one token of one answer, whatever else is answered. In [0, 1) */
export const drawOf = (seed: number, sampleId: string, tokenIndex: number): number =>
  randomFrom(seed, "answer", sampleId, tokenIndex).uniform();

/** The first largest, as torch.argmax takes it. */
function likeliest(logits: Float32Array): Choice {
  let best = 0;
  let second = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i] as number;
    if (Number.isNaN(logit)) throw notNumbers();
    if (i === 0) continue;
    if (logit > (logits[best] as number)) {
      second = logits[best] as number;
      best = i;
    } else if (logit > second) second = logit;
  }
  return { token: best, isClear: (logits[best] as number) - second > 2 * NOISE };
}

const notNumbers = (): UserError =>
  new UserError("the model's logits are not numbers: its weights or the adapter's are damaged");

interface Candidates {
  /** In ascending order: the order of near equals must not move a draw. */
  readonly tokens: readonly number[];
  /** Not yet divided by their sum. */
  readonly weights: readonly number[];
  /** Whether noise would leave the same tokens in. */
  readonly isClear: boolean;
}

/** What is left after top-k and then top-p. Source: transformers 5.18, generation/logits_process.py. */
function candidatesOf(logits: Float32Array, { temperature, topK, topP }: Omit<SamplingSettings, "seed">): Candidates {
  if (logits.some(Number.isNaN)) throw notNumbers();
  const at = (token: number | undefined): number => logits[token ?? -1] ?? Number.NEGATIVE_INFINITY;
  const most = topK === 0 ? logits.length : topK;
  const sorted = largest(logits, most + 1); // and the first that is left out
  const weightOf = (token: number): number => Math.exp((at(token) - at(sorted[0])) / temperature);
  const { count, isClear } = nucleus(sorted.slice(0, most).map(weightOf), topP, (2 * NOISE) / temperature);
  const isCutClear = at(sorted[count - 1]) - at(sorted[count]) > 2 * NOISE;
  const tokens = sorted.slice(0, count).sort((a, b) => a - b);
  return { tokens, weights: tokens.map(weightOf), isClear: isClear && isCutClear };
}

/** Tokens of the `count` largest logits, the largest first, equals in the order of the vocabulary. */
function largest(logits: Float32Array, count: number): number[] {
  const at = (token: number | undefined): number => logits[token ?? -1] ?? Number.NEGATIVE_INFINITY;
  if (count >= logits.length) return Array.from(logits.keys()).sort((a, b) => at(b) - at(a) || a - b);
  const found: number[] = [];
  for (const [token, logit] of logits.entries()) {
    if (found.length === count && logit <= at(found.at(-1))) continue;
    const place = found.findIndex((other) => at(other) < logit);
    found.splice(place < 0 ? found.length : place, 0, token);
    if (found.length > count) found.pop();
  }
  return found;
}

/** The fewest of the largest weights whose share is at least `topP`. @param weights in descending order */
function nucleus(weights: readonly number[], topP: number, margin: number): { count: number; isClear: boolean } {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (topP >= 1) return { count: weights.length, isClear: true };
  let sum = 0;
  for (const [i, weight] of weights.entries()) {
    const before = sum / total;
    sum += weight;
    if (sum / total < topP) continue;
    const isFirst = i === 0; // it stays in any case
    return { count: i + 1, isClear: sum / total - topP > margin && (isFirst || topP - before > margin) };
  }
  return { count: weights.length, isClear: false }; // rounding left the sum below
}

function drawn({ tokens, weights, isClear }: Candidates, draw: number, margin: number): Choice {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let below = 0;
  for (const [i, token] of tokens.entries()) {
    const above = below + (weights[i] as number) / total;
    const isLast = i === tokens.length - 1;
    if (draw < above || isLast) {
      const isInside = (i === 0 || draw - below > margin) && (isLast || above - draw > margin);
      return { token, isClear: isClear && isInside };
    }
    below = above;
  }
  throw notNumbers();
}
