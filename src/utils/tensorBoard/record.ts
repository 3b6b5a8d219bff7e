/**
 * TFRecord: each record stands between its length and its sum, both guarded by a masked CRC-32C.
 * Source: tensorflow, core/lib/io/record_writer.cc and core/lib/hash/crc32c.h.
 */

const POLYNOMIAL = 0x82f63b78; // Castagnoli's, bits reversed: not the one of zip files
const MASK_DELTA = 0xa282ead8;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = (rest >>> 1) ^ (rest & 1 ? POLYNOMIAL : 0);
  return rest;
});

/** @returns the CRC-32C of the bytes, unsigned */
export function crc32c(bytes: Uint8Array): number {
  let rest = 0xffffffff;
  for (const byte of bytes) rest = (rest >>> 8) ^ (TABLE[(rest ^ byte) & 0xff] ?? 0);
  return (rest ^ 0xffffffff) >>> 0;
}

/** A sum of bytes that hold sums would be weak, so it is turned and moved. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const sum = crc32c(bytes);
  return (((sum >>> 15) | (sum << 17)) + MASK_DELTA) >>> 0;
}

/** @returns length (8 bytes), its sum (4), the record, its sum (4); all little-endian */
export function framed(record: Uint8Array): Uint8Array {
  const length = Buffer.alloc(8);
  length.writeUInt32LE(record.length); // the upper half stays zero: no record of ours comes near 4 GiB
  return Buffer.concat([length, fixed32(maskedCrc32c(length)), record, fixed32(maskedCrc32c(record))]);
}

function fixed32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
