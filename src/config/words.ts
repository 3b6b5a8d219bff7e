/** Readers of values that are more than one number or name. */
import { messageOf, UserError } from "../utils/errors.ts";
import { readNumber } from "../utils/flags.ts";

const MOST_USERS = 100_000;

/** Exactly two numbers are a range, both ends included, in the direction given; otherwise the list, each user once. */
export function readUsers(words: readonly string[]): readonly number[] {
  const ids = words.map((word) => readNumber(word, { min: 0 }, true));
  const [from, to] = ids;
  if (ids.length !== 2 || from === undefined || to === undefined) return [...new Set(ids)];
  const count = Math.abs(to - from) + 1;
  if (count > MOST_USERS) throw new UserError(`${from} to ${to} are ${count} users; expected at most ${MOST_USERS}`);
  return Array.from({ length: count }, (_, i) => from + Math.sign(to - from) * i);
}

/** One whole number: so many samples. Anything else: ids of samples. */
export function readShow(words: readonly string[]): number | readonly string[] {
  const [first = ""] = words;
  return words.length === 1 && /^\d+$/.test(first) ? readNumber(first, { min: 1 }, true) : words;
}

const REGEX_SIGNS = /[\\^$|?*+()[\]{}]/; // not the dot: it also separates the parts of a plain module name

/** PEFT's target_modules: several names (or one) are a list, a single text with regex signs is a regex. */
export function readTargets(words: readonly string[]): readonly string[] | string {
  const [first = "", ...rest] = words;
  if (rest.length === 0 && first.toLowerCase() === "all-linear") return "all-linear";
  const isRegex = words.some((word) => REGEX_SIGNS.test(word));
  if (!isRegex) return words.flatMap((word) => word.split(",")).filter((name) => name !== "");
  if (rest.length > 0) throw new UserError(`a regex stands alone, got ${words.length} values: ${words.join(" ")}`);
  try {
    new RegExp(first);
  } catch (cause) {
    throw new UserError(`expected names or a regex, got "${first}": ${messageOf(cause)}`, { cause });
  }
  return first;
}
