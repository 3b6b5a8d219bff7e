/**
 * The run-length encoding of Parquet's levels and dictionary indices, read without writing what it stands for: a run may
 * announce billions of values in five bytes.
 * Source: apache/parquet-format, Encodings.md, "Run Length Encoding / Bit-Packing Hybrid".
 */
import { UserError } from "../../utils/errors.ts";

export interface Runs {
  readonly bytes: Uint8Array;
  readonly start: number;
  /** Bits of one value. */
  readonly width: number;
  /** Values that the page has. */
  readonly count: number;
  readonly where: string;
}

/**
 * @param wanted a value to count
 * @returns how often `wanted` stands among the values
 * @throws UserError for a run of more values than the page has
 */
export function countInRuns({ bytes, start, width, count, where }: Runs, wanted: number): number {
  const valueBytes = Math.ceil(width / 8);
  let at = start;
  let seen = 0;
  let found = 0;
  while (seen < count && at < bytes.length) {
    const { value: header, end } = varint32(bytes, at, where);
    if ((header & 1) === 0) {
      const run = header >>> 1;
      if (run > count - seen)
        throw new UserError(`${where}: a run of ${run} values where ${count - seen} are left; it is damaged`);
      if (littleEndian(bytes, end, valueBytes) === wanted) found += run;
      seen += run;
      at = end + valueBytes;
    } else {
      const packed = Math.min((header >>> 1) * 8, count - seen);
      for (let i = 0; i < packed; i++) if (bitsAt(bytes, end * 8 + i * width, width) === wanted) found++;
      seen += packed;
      at = end + (header >>> 1) * width;
    }
  }
  return found;
}

function varint32(bytes: Uint8Array, start: number, where: string): { value: number; end: number } {
  let value = 0;
  for (let i = 0; i < 5; i++) {
    const byte = bytes[start + i] ?? 0;
    value = (value | ((byte & 0x7f) << (7 * i))) >>> 0;
    if (byte < 0x80) return { value, end: start + i + 1 };
  }
  throw new UserError(`${where}: the length of a run takes more than 5 bytes; it is damaged`);
}

function littleEndian(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let i = 0; i < count; i++) value += (bytes[at + i] ?? 0) * 2 ** (8 * i);
  return value;
}

function bitsAt(bytes: Uint8Array, bit: number, width: number): number {
  let value = 0;
  for (let i = 0; i < width; i++) {
    const at = bit + i;
    if (((bytes[at >>> 3] ?? 0) >>> (at & 7)) & 1) value += 2 ** i;
  }
  return value;
}
