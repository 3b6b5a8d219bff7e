/** Text and numbers as pickles write them. */
import { UserError } from "../../utils/errors.ts";

const MAX_DIGITS = 4300; // as CPython: longer decimals take quadratic time
const MAX_INTEGER_BYTES = 2048;

/** @throws UserError where the bytes are not UTF-8 */
export function decodeUtf8(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new UserError(`${where}: a text is not UTF-8; write the file again with Python 3`, { cause });
  }
}

/** A whole number: a bigint where a number would lose digits. */
const compact = (value: bigint): number | bigint =>
  value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;

/** A whole number from its decimal digits. */
export function integerOf(digits: string, where: string): number | bigint {
  if (digits.length > MAX_DIGITS)
    throw new UserError(`${where}: a number of ${digits.length} digits; at most ${MAX_DIGITS} are read`);
  if (!/^\s*[+-]?(0|[1-9]\d*)\s*$/.test(digits))
    throw new UserError(`${where}: a whole number is written ${shown(digits)}; it is damaged`);
  const negative = digits.trim().startsWith("-");
  const value = BigInt(digits.trim().replace(/^[+-]/, ""));
  return compact(negative ? -value : value);
}

/** A whole number from its bytes: two's complement, lowest byte first; no bytes are 0. */
export function signedInteger(bytes: Uint8Array, where: string): number | bigint {
  if (bytes.length > MAX_INTEGER_BYTES)
    throw new UserError(`${where}: a number of ${bytes.length} bytes; at most ${MAX_INTEGER_BYTES} are read`);
  if (bytes.length === 0) return 0;
  const magnitude = BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`);
  return compact(BigInt.asIntN(bytes.length * 8, magnitude));
}

/** `repr` of a float, with Python's words for what is not finite. */
export function floatOf(word: string, where: string): number {
  const special = { inf: Infinity, "-inf": -Infinity, nan: Number.NaN }[word];
  if (special !== undefined) return special;
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(word))
    throw new UserError(`${where}: a number is written ${shown(word)}; it is damaged`);
  return Number(word);
}

/** @param at offset of eight bytes, highest first */
export const doubleOf = (view: DataView, at: number): number => view.getFloat64(at, false);

/**
 * Text in Python's raw-unicode-escape: Latin-1 bytes, \uXXXX and \UXXXXXXXX; other backslashes stand for themselves.
 * @param line the bytes as Latin-1
 */
export function rawUnicodeEscape(line: string, where: string): string {
  return line.replace(/\\(?:u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)/gs, (written: string) => {
    if (!/^\\u/i.test(written)) return written;
    const code = written.length > 2 ? Number.parseInt(written.slice(2), 16) : Infinity;
    if (code > 0x10ffff) throw new UserError(`${where}: the escape ${shown(written)} in a text is damaged`);
    return String.fromCodePoint(code);
  });
}

const ESCAPES: ReadonlyMap<string | undefined, string> = new Map([
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
  ["\\", "\\"],
  ["'", "'"],
  ['"', '"'],
]);

/** A string literal of Python 2, in quotes; its bytes are UTF-8. */
export function pythonString(line: string, where: string): string {
  const quoted = /^(['"])(.*)\1$/s.exec(line.trim());
  if (quoted === null) throw new UserError(`${where}: a text is written ${shown(line)}; expected it in quotes`);
  const latin1 = (quoted[2] ?? "").replace(/\\(?:x[0-9a-fA-F]{2}|.)/gs, (written: string) => {
    const plain =
      written.length > 2 ? String.fromCharCode(Number.parseInt(written.slice(2), 16)) : ESCAPES.get(written[1]);
    if (plain === undefined) throw new UserError(`${where}: the escape ${shown(written)} in a text is not known`);
    return plain;
  });
  return decodeUtf8(Buffer.from(latin1, "latin1"), where);
}

const shown = (word: string): string => JSON.stringify(word.length > 40 ? `${word.slice(0, 37)}...` : word);
