/** A byte-level BPE trainer: counts words, then joins the commonest pair of parts until every word is one token. */

/** The split of Qwen2 and Qwen3 tokenizers, as `tokenizer.json` spells it. */
export const QWEN_SPLIT =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** The same for JavaScript, which has no `(?i:)` in Node 20. */
const SPLIT =
  /'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+/gu;

export interface Bpe {
  /** Tokens in the order of their ids. */
  readonly tokens: readonly string[];
  readonly merges: readonly (readonly [string, string])[];
}

/** @throws RangeError when the words need more than `limit` tokens */
export function trainBpe(texts: Iterable<string>, limit: number): Bpe {
  const letters = byteLetters();
  const words = countWords(texts, letters);
  const tokens = [...letters].sort(byCodePoint);
  const merges: (readonly [string, string])[] = [];
  for (let pair = commonestPair(words); pair; pair = commonestPair(words)) {
    if (tokens.length === limit) throw new RangeError(`trainBpe: more than ${limit} tokens are needed`);
    merges.push(pair);
    tokens.push(pair.join(""));
    for (const word of words) word.parts = joinPair(word.parts, pair);
  }
  return { tokens, merges };
}

interface Word {
  parts: string[];
  readonly count: number;
}

function countWords(texts: Iterable<string>, letters: readonly string[]): Word[] {
  const counts = new Map<string, number>();
  for (const text of texts)
    for (const [word] of text.normalize("NFC").matchAll(SPLIT)) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].map(([word, count]) => ({
    parts: [...Buffer.from(word, "utf8")].map((byte) => letters[byte] ?? ""),
    count,
  }));
}

/** Ties go to the pair that sorts first, so that the order of the texts does not matter. */
function commonestPair(words: readonly Word[]): readonly [string, string] | null {
  const counts = new Map<string, number>();
  for (const { parts, count } of words)
    for (let i = 1; i < parts.length; i++) {
      const key = `${parts[i - 1]} ${parts[i]}`; // a space never stands in a part: its letter is another
      counts.set(key, (counts.get(key) ?? 0) + count);
    }
  let best: string | null = null;
  for (const [key, count] of counts) {
    const most = best === null ? 0 : (counts.get(best) ?? 0);
    if (best === null || count > most || (count === most && byCodePoint(key, best) < 0)) best = key;
  }
  const [left, right] = best?.split(" ") ?? [];
  return left !== undefined && right !== undefined ? [left, right] : null;
}

function joinPair(parts: readonly string[], [left, right]: readonly [string, string]): string[] {
  const joined: string[] = [];
  for (let i = 0; i < parts.length; i++) {
    const isPair = parts[i] === left && parts[i + 1] === right;
    joined.push(isPair ? left + right : (parts[i] ?? ""));
    if (isPair) i++;
  }
  return joined;
}

const byCodePoint = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * The printable letter that stands for each byte, by byte. Printable bytes stand for themselves, the others for letters from
 * U+0100 on, in order. Source: GPT-2's encoder.py, bytes_to_unicode.
 */
function byteLetters(): string[] {
  const isPrintable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++));
}
