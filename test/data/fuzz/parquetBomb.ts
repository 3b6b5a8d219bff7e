/** Writes Parquet files of one column, every announced number of which can be false. Source: apache/parquet-format, parquet.thrift. */
import { brotliCompressSync, gzipSync } from "node:zlib";

const varint = (value: bigint): number[] => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return [...bytes, Number(rest)];
};
const zigzag = (value: bigint): number[] => varint(value < 0n ? -value * 2n - 1n : value * 2n);

/** A field of a struct: its number and its bytes with their type. */
type Field = readonly [id: number, type: number, bytes: readonly number[]];

const i32 = (id: number, value: number | bigint): Field => [id, 5, zigzag(BigInt(value))];
const i64 = (id: number, value: number | bigint): Field => [id, 6, zigzag(BigInt(value))];
const text = (id: number, value: string): Field => [
  id,
  8,
  [...varint(BigInt(value.length)), ...Buffer.from(value, "latin1")],
];
const struct = (id: number, ...fields: Field[]): Field => [id, 12, structOf(...fields)];
const list = (id: number, type: number, items: readonly (readonly number[])[], size = items.length): Field => [
  id,
  9,
  [...(size < 15 ? [size * 16 + type] : [0xf0 + type, ...varint(BigInt(size))]), ...items.flat()],
];

function structOf(...fields: Field[]): number[] {
  let last = 0;
  const bytes = fields.flatMap(([id, type, value]) => {
    const head = (id - last) * 16 + type;
    last = id;
    return [head, ...value];
  });
  return [...bytes, 0];
}

export interface Announced {
  readonly column?: string;
  /** 0 required, 1 optional, 2 repeated */
  readonly repetition?: number;
  /** 1 INT32, 2 INT64, 6 BYTE_ARRAY */
  readonly type?: number;
  /** 0 PLAIN, 3 RLE, 5 DELTA_BINARY_PACKED, 7 DELTA_BYTE_ARRAY, 8 RLE_DICTIONARY */
  readonly encoding?: number;
  /** 0 none, 1 snappy, 2 gzip, 4 brotli, 6 zstd */
  readonly codec?: number;
  readonly rows?: number | bigint;
  readonly chunkValues?: number | bigint;
  readonly pageValues?: number | bigint;
  readonly packed?: number | bigint;
  readonly unpacked?: number | bigint;
  readonly offset?: number | bigint;
  readonly chunkBytes?: number | bigint;
  readonly groups?: number;
  readonly children?: number;
  /** A list of the metadata that announces so many. */
  readonly listSize?: number;
  /** UTF8, or another converted type. */
  readonly converted?: number;
  /** What the page holds. */
  readonly page: Uint8Array;
  /** A dictionary before it. */
  readonly dictionary?: Uint8Array;
}

const PACK: Readonly<Record<number, (bytes: Uint8Array) => Uint8Array>> = { 2: gzipSync, 4: brotliCompressSync };

export function parquetBomb(told: Announced): Buffer {
  const { codec = 0, rows = 1, type = 6, encoding = 0 } = told;
  const page = PACK[codec]?.(told.page) ?? told.page;
  const header = structOf(
    i32(1, 0),
    i32(2, told.unpacked ?? told.page.length),
    i32(3, told.packed ?? page.length),
    struct(5, i32(1, told.pageValues ?? rows), i32(2, encoding), i32(3, 3), i32(4, 3)),
  );
  const dictionary = told.dictionary
    ? [
        ...structOf(
          i32(1, 2),
          i32(2, told.dictionary.length),
          i32(3, told.dictionary.length),
          struct(7, i32(1, 1), i32(2, 0)),
        ),
        ...told.dictionary,
      ]
    : [];
  const chunk = Buffer.concat([Buffer.from(dictionary), Buffer.from(header), page]);
  const column = told.column ?? "messages";
  const leaf = structOf(i32(1, type), i32(3, told.repetition ?? 0), text(4, column), i32(6, told.converted ?? 0));
  const root = structOf(text(4, "schema"), i32(5, told.children ?? 1));
  const meta = struct(
    3,
    i32(1, type),
    list(2, 5, [zigzag(0n)], told.listSize),
    list(3, 8, [[...varint(BigInt(column.length)), ...Buffer.from(column)]]),
    i32(4, codec),
    i64(5, told.chunkValues ?? rows),
    i64(6, told.page.length),
    i64(7, told.chunkBytes ?? chunk.length),
    i64(9, told.offset ?? 4),
  );
  const group = structOf(list(1, 12, [structOf(i64(2, 4), meta)]), i64(2, chunk.length), i64(3, rows));
  const groups = Array.from({ length: told.groups ?? 1 }, () => group);
  const footer = Buffer.from(structOf(i32(1, 1), list(2, 12, [root, leaf]), i64(3, rows), list(4, 12, groups)));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(footer.length);
  return Buffer.concat([Buffer.from("PAR1"), chunk, footer, length, Buffer.from("PAR1")]);
}
