/** Rows of Parquet files, a row group at a time: conversations with the bytes of their pictures, as Hugging Face ships them. */
import { type FileHandle, open } from "node:fs/promises";
import { parquetMetadata, parquetReadObjects, parquetSchema } from "hyparquet";
import type { FileMetaData, RowGroup, SchemaTree } from "hyparquet/src/types.js";
import { InternalError, messageOf, required, UserError } from "../../utils/errors.ts";
import type { Row } from "../rows.ts";
import { decodedText } from "../textFile.ts";
import { CODECS } from "./codecs.ts";
import { type ColumnChunk, checkPages, type GroupBudget, groupBudget } from "./guard.ts";
import { endOfStruct } from "./thrift.ts";

/** What is read of a row; other columns are not touched. */
const COLUMNS = ["messages", "conversations", "images", "image", "video", "tools", "user", "episode"];
const MAX_METADATA_BYTES = 2 ** 28;
const MAX_GROUP_ROWS = 2 ** 22;
const MAX_CHUNK_BYTES = 2 ** 31 - 1;
const MAX_SCHEMA_DEPTH = 12;
const MAX_SCHEMA_ELEMENTS = 10_000;

/** @throws UserError naming file, row group and column where the file is damaged, hostile or holds no conversations */
export async function* parquetRows(file: string): AsyncGenerator<Row> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    if (size === 0) return;
    const metadata = await readMetadata(handle, size, file);
    const tables = refused(() => wantedColumns(metadata, file), `${file}: its schema`);
    let number = 0;
    for (const [i, group] of metadata.row_groups.entries()) {
      const source = { handle, size, where: `${file}, row group ${i + 1}` };
      const rows = await readGroup({ group, metadata, tables, source }).catch((cause: unknown) => {
        throw refusalOf(cause, source.where);
      });
      for (const row of rows) {
        number++;
        yield { value: plainValue(row), where: `${file}, row ${number}`, number };
      }
    }
  } finally {
    await handle.close();
  }
}

const MAGIC = "PAR1";

async function readMetadata(handle: FileHandle, size: number, file: string): Promise<FileMetaData> {
  const tail = size < 12 ? new Uint8Array() : await bytesAt(handle, { start: size - 8, length: 8, where: file });
  const mark = Buffer.from(tail.subarray(4)).toString("latin1");
  if (mark === "PARE") throw new UserError(`${file}: an encrypted Parquet file; write it without encryption`);
  if (mark !== MAGIC)
    throw new UserError(`${file}: does not end in ${MAGIC}: no Parquet file, or cut off; write or download it again`);
  const length = new DataView(tail.buffer, tail.byteOffset).getUint32(0, true);
  if (length > size - 12 || length > MAX_METADATA_BYTES)
    throw new UserError(`${file}: announces ${length} bytes of metadata in a file of ${size}; it is damaged`);
  const footer = await bytesAt(handle, { start: size - 8 - length, length: length + 8, where: file });
  endOfStruct(footer.subarray(0, length), 0, file);
  return refused(() => parquetMetadata(footer, { geoparquet: false }), `${file}: its metadata`);
}

function refused<T>(decode: () => T, what: string): T {
  try {
    return decode();
  } catch (cause) {
    throw refusalOf(cause, what);
  }
}

/** The decoder's own complaints, and what it or we trip over in metadata that are not what they should be, as one message. */
function refusalOf(cause: unknown, what: string): unknown {
  const isOurs = cause instanceof UserError || cause instanceof InternalError;
  const isSystems = cause instanceof Error && "syscall" in cause;
  return isOurs || isSystems ? cause : damaged(cause, what);
}

const damaged = (cause: unknown, what: string): UserError =>
  new UserError(`${what} cannot be read (${reasonOf(cause)}); it is damaged: write or download the file again`, {
    cause,
  });

/** Where the decoder stumbles, JavaScript's own words would tell a user nothing. */
function reasonOf(cause: unknown): string {
  if (cause instanceof TypeError) return "its parts do not fit together";
  if (cause instanceof RangeError) return "it announces more than it holds";
  return messageOf(cause).replace(/\bundefined\b/g, "unknown");
}

interface Part {
  readonly start: number;
  readonly length: number;
  readonly where: string;
}

async function bytesAt(handle: FileHandle, { start, length, where }: Part): Promise<Uint8Array> {
  const bytes = new Uint8Array(length); // never of a pool: its buffer is handed on
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle.read(bytes, filled, length - filled, start + filled);
    if (bytesRead === 0) throw new UserError(`${where}: became shorter while it was read; read it again`);
    filled += bytesRead;
  }
  return bytes;
}

/** The columns to read, with the schema below each. */
function wantedColumns({ schema, row_groups: groups }: FileMetaData, file: string): readonly SchemaTree[] {
  if (schema.length > MAX_SCHEMA_ELEMENTS || groups.length > 2 ** 20)
    throw new UserError(`${file}: ${schema.length} columns in ${groups.length} row groups; write fewer`);
  const { children } = parquetSchema({ schema } as FileMetaData);
  const wanted = children.filter(({ element }) => COLUMNS.includes(element.name));
  if (!wanted.some(({ element }) => element.name === "messages" || element.name === "conversations")) {
    const names = children.map(({ element }) => element.name).slice(0, 20);
    throw new UserError(
      `${file}: expected a column "messages" or "conversations", found ${names.join(", ") || "none"}`,
    );
  }
  for (const column of wanted) checkSchema(column, file, 1);
  return wanted;
}

const PLAIN_KINDS: readonly (string | undefined)[] = [
  undefined,
  "STRING",
  "ENUM",
  "JSON",
  "INTEGER",
  "NULL",
  "LIST",
  "MAP",
];
const PLAIN_CONVERTED: readonly (string | undefined)[] = [
  ...[undefined, "UTF8", "ENUM", "JSON", "LIST", "MAP", "MAP_KEY_VALUE"],
  ...["INT_8", "INT_16", "INT_32", "INT_64", "UINT_8", "UINT_16", "UINT_32", "UINT_64"],
];

/** Conversations are made of lists, structs, text, numbers and bytes; readers of other types are not let at the file. */
function checkSchema({ element, children, path }: SchemaTree, file: string, depth: number): void {
  const kind = element.logical_type?.type;
  if (depth > MAX_SCHEMA_DEPTH)
    throw new UserError(`${file}: column ${path[0]} is nested more than ${MAX_SCHEMA_DEPTH} deep`);
  if (!PLAIN_KINDS.includes(kind) || !PLAIN_CONVERTED.includes(element.converted_type))
    throw new UserError(
      `${file}: column ${path.join(".")} is of type ${kind ?? element.converted_type}; expected text, numbers, bytes, lists and structs`,
    );
  for (const child of children) checkSchema(child, file, depth + 1);
}

interface Source {
  readonly handle: FileHandle;
  readonly size: number;
  readonly where: string;
}

interface Group {
  readonly group: RowGroup;
  readonly metadata: FileMetaData;
  readonly tables: readonly SchemaTree[];
  readonly source: Source;
}

async function readGroup({ group, metadata, tables, source }: Group): Promise<readonly object[]> {
  const { where } = source;
  const rows = Number(group.num_rows);
  if (!Number.isInteger(rows) || rows < 0 || rows > MAX_GROUP_ROWS)
    throw new UserError(
      `${where}: announces ${group.num_rows ?? "no number of"} rows; expected at most ${MAX_GROUP_ROWS}: it is damaged, or write smaller ones`,
    );
  if (rows === 0) return [];
  const loaded = new Map<number, Uint8Array>();
  const budget = groupBudget();
  for (const { meta_data: meta } of group.columns) {
    const table = tables.find(({ element }) => element.name === meta?.path_in_schema[0]);
    if (meta === undefined || table === undefined) continue;
    const chunk = await loadChunk(meta, table, source);
    checkChunk(chunk, rows, budget);
    loaded.set(chunkStart(meta), chunk.bytes);
  }
  return await parquetReadObjects({
    file: { byteLength: source.size, slice: (start, end) => slice(loaded, start, end ?? source.size) },
    metadata: { ...metadata, row_groups: [group], num_rows: BigInt(rows) },
    columns: tables.map(({ element }) => element.name),
    compressors: CODECS,
    utf8: false,
    geoparquet: false,
    parsers: { stringFromBytes: (bytes) => bytes && decodedText(bytes, `${where}: a text`) },
  });
}

type Meta = ColumnChunk["meta"];

/** Where a column's pages begin: with its dictionary, if it has one. */
const chunkStart = (meta: Meta): number => Number(meta.dictionary_page_offset || meta.data_page_offset);

async function loadChunk(meta: Meta, table: SchemaTree, { handle, size, where }: Source): Promise<ColumnChunk> {
  const name = `${where}, column ${meta.path_in_schema.join(".")}`;
  const start = chunkStart(meta);
  const length = Number(meta.total_compressed_size);
  const isInside =
    Number.isInteger(start) && start >= 4 && length >= 0 && length <= MAX_CHUNK_BYTES && start + length <= size - 8;
  if (!isInside)
    throw new UserError(
      `${name}: announced at bytes ${start} to ${start + length} of ${size}; it is cut off or damaged`,
    );
  const levels = levelsOf(meta.path_in_schema.slice(1), table, name);
  return { bytes: await bytesAt(handle, { start, length, where: name }), meta, ...levels, where: name };
}

/** How many lists, and how many optional parts, stand above a value. */
function levelsOf(path: readonly string[], table: SchemaTree, name: string) {
  let maxRepetition = 0;
  let maxDefinition = 0;
  let node = table;
  for (const part of [...path, null]) {
    if (node.element.repetition_type === "REPEATED") maxRepetition++;
    if (node.element.repetition_type !== "REQUIRED") maxDefinition++;
    if (part === null) break;
    const child = node.children.find(({ element }) => element.name === part);
    if (child === undefined) throw new UserError(`${name}: not in the schema; it is damaged`);
    node = child;
  }
  if (node.children.length > 0) throw new UserError(`${name}: is a group in the schema, not a column; it is damaged`);
  return { maxRepetition, maxDefinition };
}

function checkChunk(chunk: ColumnChunk, rows: number, budget: GroupBudget): void {
  const values = Number(chunk.meta.num_values);
  if (chunk.maxRepetition === 0 && values !== rows)
    throw new UserError(`${chunk.where}: ${values} values for ${rows} rows; expected one for each: it is damaged`);
  checkPages(chunk, budget);
}

/** Of what was loaded and looked through; the decoder asks for nothing else, or is refused. */
function slice(loaded: ReadonlyMap<number, Uint8Array>, start: number, end: number): ArrayBuffer {
  const parts: Uint8Array[] = [];
  for (let at = start; at < end; ) {
    const [from, bytes] = [...loaded].find(([first, chunk]) => at >= first && at < first + chunk.length) ?? [];
    if (from === undefined) throw new Error(`bytes ${at} to ${end} are of no column`);
    const found = required(bytes, "column").subarray(at - from, end - from);
    parts.push(found);
    at += found.length;
  }
  return new Uint8Array(Buffer.concat(parts)).buffer;
}

/** As a JSON row would be: numbers for int64 that fit, no fields that are null (structs of a table have all fields), own bytes. */
function plainValue(value: unknown): unknown {
  if (value instanceof Uint8Array) return value.slice(); // the page it is part of can go
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<unknown>, plainValue);
  if (Array.isArray(value)) return value.map(plainValue);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value).filter(([, inner]) => inner !== null && inner !== undefined);
  return Object.fromEntries(fields.map(([name, inner]) => [name, plainValue(inner)]));
}
