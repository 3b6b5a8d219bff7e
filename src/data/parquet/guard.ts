/**
 * Looks through the pages of a Parquet row group before they are decoded. The decoder trusts what pages announce (lengths,
 * counts, runs); here every such number is held against the bytes that are there and against limits, so that a damaged or
 * hostile file is refused before memory or time are spent on it.
 * Source: apache/parquet-format, src/main/thrift/parquet.thrift and Encodings.md.
 */
import { parquetHeader } from "hyparquet/src/column.js";
import { deltaBinaryUnpack } from "hyparquet/src/delta.js";
import type { ColumnMetaData, PageHeader } from "hyparquet/src/types.js";
import { InternalError, messageOf, UserError } from "../../utils/errors.ts";
import { CODECS } from "./codecs.ts";
import { countInRuns } from "./levels.ts";
import { endOfStruct } from "./thrift.ts";

/** Bytes of a row group's pages, unpacked: pictures are the large part of them. */
const MAX_GROUP_BYTES = 2 ** 31;
const MAX_PAGE_BYTES = 2 ** 30;
/** Values of a row group, nested lists counted once for each level. */
const MAX_GROUP_CELLS = 2 ** 25;
/** No picture or text of use is packed this tightly; a page that is, and is large, is a bomb. */
const MAX_RATIO = 256;
const RATIO_MATTERS_FROM = 16 * 2 ** 20;

/** One leaf of the schema in one row group. */
export interface ColumnChunk {
  readonly bytes: Uint8Array;
  readonly meta: ColumnMetaData;
  readonly maxRepetition: number;
  readonly maxDefinition: number;
  /** Column, row group and file, for messages. */
  readonly where: string;
}

/** What a row group may still take; shared by its columns. */
export interface GroupBudget {
  bytes: number;
  cells: number;
}

export const groupBudget = (): GroupBudget => ({ bytes: MAX_GROUP_BYTES, cells: MAX_GROUP_CELLS });

/** @throws UserError for the first page that cannot be decoded safely */
export function checkPages(chunk: ColumnChunk, budget: GroupBudget): void {
  const { bytes, where } = chunk;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let values = 0;
  for (let at = 0, page = 1; at < bytes.length - 1; page++) {
    const place = `${where}, page ${page}`;
    const start = endOfStruct(bytes, at, place);
    const header = headerAt(view, at, place);
    const size = whole(header.compressed_page_size, bytes.length - start, "packed bytes", place);
    values += checkPage({ chunk, header, body: bytes.subarray(start, start + size), where: place }, budget);
    if (values > Number(chunk.meta.num_values))
      throw new UserError(
        `${place}: the pages hold more than the ${chunk.meta.num_values} values announced; it is damaged`,
      );
    at = start + size;
  }
}

interface Page {
  readonly chunk: ColumnChunk;
  readonly header: PageHeader;
  /** As stored. */
  readonly body: Uint8Array;
  readonly where: string;
}

function headerAt(view: DataView, offset: number, where: string): PageHeader {
  try {
    return parquetHeader({ view, offset });
  } catch (cause) {
    throw new UserError(`${where}: its header cannot be read (${messageOf(cause)}); write the file again`, { cause });
  }
}

/** A whole number from 0 to `most`; anything else is damage. */
function whole(value: unknown, most: number, what: string, where: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= most) return value;
  const found = typeof value === "number" ? value : "no number of";
  throw new UserError(`${where}: announces ${found} ${what}; expected 0 to ${most}: it is damaged`);
}

/** @returns the values of the page */
function checkPage(page: Page, budget: GroupBudget): number {
  const { header, body, where, chunk } = page;
  const unpacked = whole(header.uncompressed_page_size, MAX_PAGE_BYTES, "bytes", where);
  if (unpacked > RATIO_MATTERS_FROM && unpacked > MAX_RATIO * body.length)
    throw new UserError(
      `${where}: ${body.length} bytes announce ${unpacked} when unpacked; refused as a decompression bomb`,
    );
  budget.bytes -= unpacked;
  const count = valueCount(page);
  budget.cells -= count * (1 + chunk.maxRepetition);
  if (budget.bytes < 0 || budget.cells < 0)
    throw new UserError(
      `${where}: the row group holds more than ${MAX_GROUP_BYTES} bytes or ${MAX_GROUP_CELLS} values; write smaller ones (row_group_size=1000)`,
    );
  if (header.type === "DATA_PAGE") checkDataPage(page, count);
  if (header.type === "DATA_PAGE_V2") checkDataPageV2(page, count);
  return header.type === "DICTIONARY_PAGE" ? 0 : count;
}

function valueCount({ header, where }: Page): number {
  const { data_page_header: v1, data_page_header_v2: v2, dictionary_page_header: dictionary } = header;
  const found = { DATA_PAGE: v1, DATA_PAGE_V2: v2, DICTIONARY_PAGE: dictionary }[header.type as string];
  if (found === undefined)
    throw new UserError(
      `${where}: is of type ${header.type ?? "unknown"}; expected data or a dictionary, with its header`,
    );
  return whole(found.num_values, MAX_GROUP_CELLS, "values", where);
}

function unpackedBytes({ chunk, where }: Page, packed: Uint8Array, length: number): Uint8Array {
  const { codec } = chunk.meta;
  if (codec === "UNCOMPRESSED") return packed;
  const decompress = CODECS[codec];
  if (decompress === undefined)
    throw new UserError(
      `${where}: packed by ${codec ?? "an unknown codec"}; expected snappy, zstd, gzip, brotli or lz4`,
    );
  try {
    return decompress(packed, length);
  } catch (cause) {
    throw new UserError(`${where}: cannot be unpacked (${codec}: ${messageOf(cause)}); write the file again`, {
      cause,
    });
  }
}

function checkDataPage(page: Page, count: number): void {
  const { chunk, header, body, where } = page;
  const bytes = unpackedBytes(page, body, header.uncompressed_page_size);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  let present = count;
  for (const highest of [chunk.maxRepetition, chunk.maxDefinition]) {
    if (highest === 0) continue;
    if (bytes.length < at + 4) throw new UserError(`${where}: ends within its levels; it is cut off`);
    const length = whole(view.getUint32(at, true), bytes.length - at - 4, "bytes of levels", where);
    present = countInRuns({ bytes, start: at + 4, width: widthOf(highest), count, where }, highest);
    at += 4 + length;
  }
  if (chunk.maxDefinition === 0) present = count;
  checkValues({ bytes, start: at, count: present, encoding: header.data_page_header?.encoding, chunk, where });
}

function checkDataPageV2(page: Page, count: number): void {
  const { chunk, header, body, where } = page;
  const v2 = header.data_page_header_v2;
  if (v2 === undefined) throw new InternalError("a page of version 2 without its header");
  const repetition = whole(v2.repetition_levels_byte_length, body.length, "bytes of levels", where);
  const definition = whole(v2.definition_levels_byte_length, body.length - repetition, "bytes of levels", where);
  const nulls = whole(v2.num_nulls, count, "nulls", where);
  whole(v2.num_rows, count, "rows", where);
  const levels = [
    { start: 0, highest: chunk.maxRepetition },
    { start: repetition, highest: chunk.maxDefinition },
  ];
  for (const { start, highest } of levels)
    if (highest > 0) countInRuns({ bytes: body, start, width: widthOf(highest), count, where }, highest);
  const length = whole(header.uncompressed_page_size - repetition - definition, MAX_PAGE_BYTES, "bytes", where);
  const packed = body.subarray(repetition + definition);
  const bytes = v2.is_compressed === false ? packed : unpackedBytes(page, packed, length);
  checkValues({ bytes, start: 0, count: count - nulls, encoding: v2.encoding, chunk, where });
}

const widthOf = (highest: number): number => 32 - Math.clz32(highest);

interface Values {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly count: number;
  readonly encoding: string | undefined;
  readonly chunk: ColumnChunk;
  readonly where: string;
}

/** The encodings in which few bytes may stand for many; of the others each value takes bytes of its own. */
function checkValues({ bytes, start, count, encoding, chunk, where }: Values): void {
  if (count === 0) return;
  const isBoolean = chunk.meta.type === "BOOLEAN";
  if (encoding === "RLE" && isBoolean) countInRuns({ bytes, start: start + 4, width: 1, count, where }, 1);
  else if (encoding === "RLE" || encoding === "RLE_DICTIONARY" || encoding === "PLAIN_DICTIONARY") {
    const width = whole(bytes[start], 32, "bits a value", where);
    if (width > 0) countInRuns({ bytes, start: start + 1, width, count, where }, 0);
  } else if (encoding === "DELTA_BYTE_ARRAY") checkPrefixes(bytes.subarray(start), count, where);
}

/** Each text repeats the beginning of the one before: together they may be far longer than the page. */
function checkPrefixes(bytes: Uint8Array, count: number, where: string): void {
  const reader = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset: 0 };
  let total = 0;
  try {
    for (let part = 0; part < 2; part++) {
      const lengths = new Int32Array(count);
      deltaBinaryUnpack(reader, count, lengths);
      for (const length of lengths) total += Math.abs(length);
    }
  } catch (cause) {
    throw new UserError(`${where}: its lengths cannot be read (${messageOf(cause)}); write the file again`, { cause });
  }
  if (total > MAX_PAGE_BYTES)
    throw new UserError(`${where}: its texts take ${total} bytes; refused as a decompression bomb`);
}
