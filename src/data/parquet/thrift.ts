/**
 * Finds the end of a value in Thrift's compact protocol (Parquet's metadata) without building it: lists that announce more
 * than there are bytes, and nesting without end, are refused before anything is allocated for them.
 * Source: apache/thrift, doc/specs/thrift-compact-protocol.md.
 */
import { UserError } from "../../utils/errors.ts";

const MAX_DEPTH = 24;
const MAX_VARINT_BYTES = 10;
const DEPTH_OF_STATISTICS = 6;
const MAX_STATISTIC_BYTES = 2 ** 17;

interface Scan {
  readonly bytes: Uint8Array;
  readonly where: string;
  at: number;
}

/**
 * @param where names the file and what is read, for messages
 * @returns the offset after the struct that begins at `start`
 * @throws UserError when it is damaged, cut off or too deep
 */
export function endOfStruct(bytes: Uint8Array, start: number, where: string): number {
  const scan: Scan = { bytes, where, at: start };
  skipStruct(scan, 0);
  return scan.at;
}

function fault({ where, at }: Scan, reason: string): never {
  throw new UserError(`${where}: damaged Parquet metadata (${reason} at byte ${at}); write the file again`);
}

function byte(scan: Scan): number {
  const value = scan.bytes[scan.at];
  if (value === undefined) fault(scan, "it ends too early");
  scan.at++;
  return value;
}

function varint(scan: Scan): number {
  let value = 0;
  for (let i = 0; i < MAX_VARINT_BYTES; i++) {
    const next = byte(scan);
    value += (next & 0x7f) * 2 ** (7 * i);
    if (next < 0x80) return value;
  }
  fault(scan, `a number of more than ${MAX_VARINT_BYTES} bytes`);
}

function skipBytes(scan: Scan, count: number): void {
  if (count > scan.bytes.length - scan.at) fault(scan, `${count} bytes announced, ${scan.bytes.length - scan.at} left`);
  scan.at += count;
}

function skipStruct(scan: Scan, depth: number): void {
  if (depth > MAX_DEPTH) fault(scan, `nested more than ${MAX_DEPTH} deep`);
  for (let header = byte(scan); (header & 0x0f) !== 0; header = byte(scan)) {
    if (header >> 4 === 0) varint(scan); // the field's number, where it is not a small step from the last
    skipValue(scan, header & 0x0f, depth);
  }
}

/** Types 1 and 2 are true and false, which as fields take no byte. */
function skipValue(scan: Scan, type: number, depth: number): void {
  if (type === 3) skipBytes(scan, 1);
  else if (type === 4 || type === 5 || type === 6) varint(scan);
  else if (type === 7) skipBytes(scan, 8);
  else if (type === 8) skipText(scan, depth);
  else if (type === 9) skipList(scan, depth + 1);
  else if (type === 12) skipStruct(scan, depth + 1);
  else if (type !== 1 && type !== 2) fault(scan, `type ${type}`);
}

/** Deep down stand the columns' lowest and highest values; a decimal of many bytes would take long to read. */
function skipText(scan: Scan, depth: number): void {
  const length = varint(scan);
  if (depth >= DEPTH_OF_STATISTICS && length > MAX_STATISTIC_BYTES) fault(scan, `a statistic of ${length} bytes`);
  skipBytes(scan, length);
}

function skipList(scan: Scan, depth: number): void {
  if (depth > MAX_DEPTH) fault(scan, `nested more than ${MAX_DEPTH} deep`);
  const header = byte(scan);
  const type = header & 0x0f;
  const size = header >> 4 === 15 ? varint(scan) : header >> 4;
  if (size > scan.bytes.length - scan.at)
    fault(scan, `a list of ${size} announced, ${scan.bytes.length - scan.at} bytes left`);
  for (let i = 0; i < size; i++) {
    if (type === 1 || type === 2) skipBytes(scan, 1);
    else skipValue(scan, type, depth);
  }
}
