/** The malformed data files of the fuzz test: each is a function of its number alone. */
import { deflateSync } from "node:zlib";
import { OPCODES } from "../../../src/data/pickle/opcodes.ts";
import type { DatasetOptions } from "../../../src/dataset.ts";
import { type Random, randomFrom } from "../../../src/utils/random.ts";
import { readFixture } from "../../text/models.ts";
import { damaged, ESCAPES, garbage, wrongPart } from "./bytes.ts";
import { parquetBomb } from "./parquetBomb.ts";

export interface FuzzCase {
  readonly name: string;
  /** The data file's name and bytes. */
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly options?: DatasetOptions;
}

const fromBase64 = (text: string): Buffer => Buffer.from(text, "base64");
const formats = readFixture<{ picture: string; rows: { name: string; file: string }[] }>("data", "formats.json");
const tables = readFixture<{ rows: { name: string; file: string }[] }>("data", "parquet.json").rows;
const pickles = readFixture<{
  rows: { pickles: Record<string, string> }[];
  hostile: { name: string; pickle: string }[];
}>("data", "pickles.json");

export const PICTURE = fromBase64(formats.picture);

const turns = [
  { role: "system", content: "Be brief." },
  {
    role: "user",
    content: [
      { type: "image", image: "images/a.png" },
      { type: "text", text: "what?" },
    ],
  },
  { role: "assistant", content: [{ type: "text", text: "```referring\nx\n```\n```grounding\n[1, 2]\n```" }] },
];
const MESSAGES: readonly unknown[] = [
  { messages: turns, user: 3, episode: "e", tools: [{ name: "f" }] },
  {
    messages: [
      { role: "user", content: "<image> and <image>" },
      { role: "assistant", content: "b", train: true },
    ],
    images: ["images/a.png", "images/a.png"],
  },
  {
    messages: [
      {
        role: "user",
        content: [{ type: "image" }, { type: "video", video: ["images/a.png", "images/a.png"], fps: 2 }],
      },
      { role: "assistant", content: "b" },
    ],
    images: [{ path: "images/a.png", bytes: null }],
  },
  {
    messages: [
      { role: "user", content: "a" },
      {
        role: "assistant",
        content: null,
        tool_calls: [{ type: "function", function: { name: "f", arguments: { a: 1 } } }],
      },
      { role: "tool", content: "1" },
      { role: "assistant", content: "b", reasoning_content: "c" },
    ],
  },
];
const CONVERSATIONS: readonly unknown[] = [
  {
    id: "1",
    image: "images/a.png",
    conversations: [
      { from: "human", value: "<image>\nwhat?" },
      { from: "gpt", value: "b" },
    ],
    user: 1,
  },
  {
    image: ["images/a.png", "images/a.png"],
    conversations: [
      { from: "system", value: "s" },
      { from: "user", value: "<image> a <image>" },
      { from: "assistant", value: "b", train: false },
      { from: "human", value: "c" },
      { from: "gpt", value: "d" },
    ],
  },
];
const CSV =
  'image,command,referring,x,y,episode\nimages/a.png,"open, ""it""",gear,1,2,e\nimages/a.png,back,arrow,1000,0,\n';

const textOf = (rows: readonly unknown[], isList: boolean): string =>
  isList ? JSON.stringify(rows, null, 1) : rows.map((row) => JSON.stringify(row)).join("\n");

function jsonCase(rows: readonly unknown[], random: Random): Pick<FuzzCase, "file" | "bytes"> {
  const isList = random.below(3) === 0;
  const file = isList ? random.pick(["a.json", "user_3.json"]) : random.pick(["a.jsonl", "user_3.jsonl", "a.json"]);
  const at = random.below(rows.length);
  const wrong = rows.map((row, i) => (i === at ? wrongPart(row, random) : row));
  if (random.below(2) === 0) return { file, bytes: Buffer.from(textOf(wrong, isList)) };
  return { file, bytes: damaged(Buffer.from(textOf(rows, isList)), random) };
}

function csvCase(random: Random): Pick<FuzzCase, "file" | "bytes"> {
  const file = random.pick(["user_3.csv", "a.csv"]);
  if (random.below(2) === 0) return { file, bytes: damaged(Buffer.from(CSV), random) };
  const cells = CSV.trim()
    .split("\n")
    .map((line) => line.split(","));
  const row = random.pick(cells);
  const at = random.below(row.length);
  row[at] = random.pick([
    "",
    '"',
    '""',
    "a\nb",
    "-1",
    "1001",
    "1e3",
    "NaN",
    "0x10",
    "\u0000",
    "x".repeat(100_000),
    ",,,,",
    '"open',
    ...ESCAPES,
  ]);
  return { file, bytes: Buffer.from(cells.map((line) => line.join(",")).join("\n")) };
}

const parquetFiles = [
  ...tables.map(({ file }) => file),
  ...formats.rows.filter(({ name }) => name.endsWith(".parquet")).map(({ file }) => file),
].map(fromBase64);
const pickleFiles = [
  ...formats.rows.filter(({ name }) => name.endsWith(".pkl")).map(({ file }) => file),
  ...pickles.rows.slice(0, 4).flatMap((row) => Object.values(row.pickles)),
].map(fromBase64);
const hostile = pickles.hostile.map(({ pickle }) => fromBase64(pickle));
const codes = [...OPCODES.keys()];

function pickleCase(random: Random): Pick<FuzzCase, "file" | "bytes"> {
  const file = random.pick(["user_3.pkl", "a.pickle"]);
  const kind = random.below(6);
  if (kind === 0) return { file, bytes: random.pick(hostile) };
  if (kind === 1) return { file, bytes: damaged(random.pick(hostile), random) };
  if (kind === 2) {
    const length = 1 + random.below(60);
    const program = Array.from({ length }, () => (random.below(4) > 0 ? random.pick(codes) : random.below(256)));
    return { file, bytes: Buffer.from([0x80, random.below(7), ...program, 0x2e]) };
  }
  const whole = random.pick(pickleFiles);
  if (kind > 3) return { file, bytes: damaged(whole, random) };
  const at = random.below(whole.length); // a hostile part within a good file
  const part = random.pick(hostile);
  return { file, bytes: Buffer.concat([whole.subarray(0, at), part.subarray(2, -1), whole.subarray(at)]) };
}

/** A picture whose header announces more than it holds. */
function announcedPng(width: number, height: number): Buffer {
  const copy = Buffer.from(PICTURE);
  copy.writeUInt32BE(width, 16);
  copy.writeUInt32BE(height, 20);
  copy.writeInt32BE(crc(copy.subarray(12, 29)), 29);
  return copy;
}

function crc(bytes: Uint8Array): number {
  let value = -1;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  }
  return ~value;
}

const gif = (width: number, height: number): Buffer =>
  Buffer.concat([
    Buffer.from("GIF89a"),
    Buffer.from([width & 255, width >> 8, height & 255, height >> 8, 0xf0, 0, 0]),
    Buffer.alloc(6),
    Buffer.from([0x2c, 0, 0, 0, 0, width & 255, width >> 8, height & 255, height >> 8, 0, 2, 2, 0x44, 1, 0, 0x3b]),
  ]);

/** Text of a PNG that unpacks to 50 MB. */
function textBomb(): Buffer {
  const data = Buffer.concat([Buffer.from("a\0\0"), deflateSync(Buffer.alloc(50_000_000))]);
  const chunk = Buffer.alloc(12 + data.length);
  chunk.writeUInt32BE(data.length, 0);
  chunk.write("zTXt", 4);
  data.copy(chunk, 8);
  chunk.writeInt32BE(crc(chunk.subarray(4, 8 + data.length)), 8 + data.length);
  return Buffer.concat([PICTURE.subarray(0, 33), chunk, PICTURE.subarray(33)]);
}

const PICTURES: readonly (() => Uint8Array)[] = [
  ...[
    [65_535, 65_535],
    [2 ** 31 - 1, 2 ** 31 - 1],
    [178_956_971, 1],
    [1, 2 ** 31 - 1],
    [0, 1],
    [2 ** 32 - 1, 2],
    [20_000, 20_000],
  ].map(
    ([w = 0, h = 0]) =>
      () =>
        announcedPng(w, h),
  ),
  () => gif(65_535, 65_535),
  () => gif(1, 1),
  textBomb,
  () =>
    Buffer.from(
      '<svg xmlns="http://www.w3.org/2000/svg" width="99999999" height="99999999"><image href="file:///etc/passwd"/></svg>',
    ),
  () =>
    Buffer.from(
      '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]><svg xmlns="http://www.w3.org/2000/svg"><text>&b;</text></svg>',
    ),
  () => Buffer.from("BM\xff\xff\xff\x7f\0\0\0\0", "latin1"),
  () => Buffer.from("%PDF-1.4\n"),
  () => Buffer.from("RIFF\xff\xff\xff\x7fWEBPVP8X", "latin1"),
  () => Buffer.from("II*\0\x08\0\0\0\xff\xff", "latin1"),
  () => Buffer.from("\0\0\0\x18ftypavif\0\0\0\0avifmif1", "latin1"),
  () => Buffer.from("\xff\xd8\xff\xe1\xff\xff", "latin1"),
];

function pictureCase(random: Random): Pick<FuzzCase, "file" | "bytes"> {
  const picture = random.below(2) === 0 ? random.pick(PICTURES)() : damaged(PICTURE, random);
  const uri = `data:image/png;base64,${Buffer.from(picture).toString("base64")}`;
  return {
    file: "a.jsonl",
    bytes: Buffer.from(
      `\n${textOf([{ messages: turns.map((turn) => (turn.role === "user" ? { role: "user", content: [{ type: "image", image: uri }] } : turn)) }], false)}`,
    ),
  };
}

function pathCase(random: Random): FuzzCase {
  const way = random.pick(ESCAPES);
  const path = random.below(2) === 0 ? way : `${random.pick(["", "./", "images/", "images/../", "out/", "/"])}${way}`;
  const options: DatasetOptions =
    random.below(4) === 0 ? { imageRoot: random.pick(["images", "images/..", ".", "none", "images/a.png"]) } : {};
  const kind = random.below(3);
  const rest = { name: `path ${JSON.stringify(path.slice(0, 60))}`, options };
  if (kind === 0) return { ...rest, file: "user_3.csv", bytes: Buffer.from(CSV.replace("images/a.png", path)) };
  if (kind === 1)
    return {
      ...rest,
      file: "a.json",
      bytes: Buffer.from(JSON.stringify([{ ...(CONVERSATIONS[0] as object), image: path }])),
    };
  return {
    ...rest,
    file: "a.jsonl",
    bytes: Buffer.from(
      JSON.stringify({ messages: turns, images: undefined }).replace("images/a.png", JSON.stringify(path).slice(1, -1)),
    ),
  };
}

const nulls = (count: number): Buffer => Buffer.alloc(count);
const lengthBefore = (bytes: number[]): Buffer => Buffer.from([bytes.length, 0, 0, 0, ...bytes]);
const RUN = [0xfe, 0xff, 0xff, 0xff, 0x0f]; // 2^31 - 1 times
const HUGE = 2 ** 31 - 1;
const plain = (text: string): Buffer => Buffer.concat([Buffer.from([text.length, 0, 0, 0]), Buffer.from(text)]);

/** Files that are small and stand for much. */
const BOMBS: readonly (() => Pick<FuzzCase, "file" | "bytes"> & { readonly name: string })[] = [
  ...(
    [
      ["rows", { rows: 10n ** 12n, page: plain("a") }],
      ["rows below zero", { rows: -5, page: plain("a") }],
      ["many rows", { rows: 4_000_000, page: nulls(8) }],
      ["values of a page", { pageValues: HUGE, page: plain("a") }],
      ["values of a page below zero", { pageValues: -1, page: plain("a") }],
      ["values of a chunk", { chunkValues: 2n ** 62n, pageValues: HUGE, page: plain("a") }],
      ["unpacked bytes", { codec: 1, unpacked: HUGE, page: plain("a") }],
      ["unpacked bytes, zstd", { codec: 6, unpacked: 2 ** 29, page: plain("a") }],
      ["packed bytes", { packed: HUGE, page: plain("a") }],
      ["packed bytes below zero", { packed: -10, page: plain("a") }],
      ["unpacked bytes below zero", { codec: 1, unpacked: -10, page: plain("a") }],
      ["a chunk beyond the file", { offset: 2 ** 40, page: plain("a") }],
      ["a chunk before the file", { offset: -4, page: plain("a") }],
      ["a chunk larger than the file", { chunkBytes: 2n ** 40n, page: plain("a") }],
      ["a run of levels", { repetition: 1, pageValues: 1, page: lengthBefore([...RUN, 1]) }],
      ["a run of levels for many values", { repetition: 1, rows: 4_000_000, page: lengthBefore([...RUN, 1]) }],
      ["levels longer than the page", { repetition: 1, page: Buffer.from([0xff, 0xff, 0xff, 0x7f, 1]) }],
      [
        "a run of list levels",
        {
          repetition: 2,
          chunkValues: 2 ** 24,
          pageValues: 2 ** 24,
          page: Buffer.concat([lengthBefore([0x80, 0x80, 0x80, 0x10, 0]), lengthBefore([0x80, 0x80, 0x80, 0x10, 1])]),
        },
      ],
      [
        "a run of indices",
        { encoding: 8, pageValues: 1, dictionary: plain("a"), page: Buffer.from([32, ...RUN, 0, 0, 0, 0]) },
      ],
      ["indices of 255 bits", { encoding: 8, dictionary: plain("a"), page: Buffer.from([255, ...RUN]) }],
      [
        "delta blocks of nothing",
        { type: 1, encoding: 5, rows: 1000, page: Buffer.from([0, 0, 0xe8, 7, 0, ...nulls(50)]) },
      ],
      [
        "delta blocks of much",
        {
          type: 2,
          encoding: 5,
          rows: 1000,
          page: Buffer.from([0xff, 0xff, 0xff, 0xff, 7, 0xff, 0xff, 0xff, 0xff, 7, 0xe8, 7, 0, ...nulls(50)]),
        },
      ],
      [
        "texts that repeat",
        {
          encoding: 7,
          rows: 3,
          page: Buffer.from([0x80, 1, 4, 3, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0, ...nulls(60)]),
        },
      ],
      ["a list of the metadata", { listSize: HUGE, page: plain("a") }],
      ["children of the schema", { children: HUGE, page: plain("a") }],
      ["children below zero", { children: -1, page: plain("a") }],
      ["a text longer than the page", { page: Buffer.from([0xff, 0xff, 0xff, 0xff, 1]) }],
      ["gzip of 64 MiB of nothing", { codec: 2, unpacked: 64 * 2 ** 20, page: nulls(64 * 2 ** 20) }],
      ["gzip of more than announced", { codec: 2, unpacked: 100, page: nulls(16 * 2 ** 20) }],
      ["brotli of 64 MiB of nothing", { codec: 4, unpacked: 64 * 2 ** 20, page: nulls(64 * 2 ** 20) }],
      ["brotli of more than announced", { codec: 4, unpacked: 100, page: nulls(16 * 2 ** 20) }],
      ["ten thousand row groups", { groups: 10_000, page: plain("a") }],
      ["a text where a list is expected", { page: plain("a") }],
      ["a number where a list is expected", { type: 1, converted: 17, page: nulls(4) }],
      ["decimals", { type: 6, converted: 5, page: plain("a") }],
      ["JSON that is deep", { converted: 19, page: plain("[".repeat(200)) }],
    ] as const
  ).map(([name, told]) => () => ({ name: `Parquet: ${name}`, file: "a.parquet", bytes: parquetBomb(told) })),
  () => ({
    name: "Parquet: nested lists of the metadata",
    file: "a.parquet",
    bytes: tailed(Buffer.from([0x19, ...Array.from({ length: 40 }, () => [0xf9, 0xff, 0xff, 0xff, 0x0f]).flat()])),
  }),
  () => ({
    name: "Parquet: a number without end",
    file: "a.parquet",
    bytes: tailed(Buffer.concat([Buffer.from([0x15]), Buffer.alloc(100_000, 0x80)])),
  }),
  () => ({ name: "Parquet: structs without end", file: "a.parquet", bytes: tailed(Buffer.alloc(100_000, 0x1c)) }),
  () => ({ name: "JSON: deep lists", file: "a.jsonl", bytes: Buffer.from("[".repeat(1_000_000)) }),
  () => ({ name: "JSON: deep objects", file: "a.jsonl", bytes: Buffer.from('{"a":'.repeat(300_000)) }),
  () => ({
    name: "JSON: a list of a million rows that are none",
    file: "a.json",
    bytes: Buffer.from(`[${"1,".repeat(1_000_000)}1]`),
  }),
  () => ({
    name: "JSON: one row of two million values",
    file: "a.jsonl",
    bytes: Buffer.from(`{"messages":[${"{},".repeat(2_000_000)}{}]}`),
  }),
  () => ({ name: "JSONL: a million empty lines", file: "a.jsonl", bytes: Buffer.alloc(1_000_000, 10) }),
  () => ({ name: "JSONL: one line of 30 MB", file: "a.jsonl", bytes: Buffer.alloc(30_000_000, 0x61) }),
  () => ({ name: "CSV: a million commas", file: "user_1.csv", bytes: Buffer.alloc(1_000_000, 0x2c) }),
  () => ({ name: "CSV: one quote", file: "user_1.csv", bytes: Buffer.from(`${CSV}"${"a\n".repeat(1_000_000)}`) }),
  () => ({
    name: "spaces in a value",
    file: "a.jsonl",
    bytes: Buffer.from(
      JSON.stringify({
        conversations: [
          { from: "human", value: `a${" ".repeat(1_000_000)}b` },
          { from: "gpt", value: `${"```referring\n".repeat(10_000)}${" ".repeat(500_000)}` },
        ],
      }),
    ),
  }),
  () => ({
    name: "a million tags",
    file: "a.jsonl",
    bytes: Buffer.from(
      JSON.stringify({
        image: "images/a.png",
        conversations: [
          { from: "human", value: "<image>".repeat(1_000_000) },
          { from: "gpt", value: "b" },
        ],
      }),
    ),
  }),
  () => ({
    name: "pickle: a deep list",
    file: "user_1.pkl",
    bytes: Buffer.concat([Buffer.alloc(300_000, 0x5d), Buffer.alloc(299_999, 0x61), Buffer.from(".")]),
  }),
  () => ({
    name: "pickle: a deep tuple",
    file: "user_1.pkl",
    bytes: Buffer.concat([Buffer.from("\x80\x02)", "latin1"), Buffer.alloc(300_000, 0x85), Buffer.from(".")]),
  }),
  () => ({ name: "pickle: ten million marks", file: "user_1.pkl", bytes: Buffer.alloc(10_000_000, 0x28) }),
  () => ({
    name: "pickle: twenty million values",
    file: "user_1.pkl",
    bytes: Buffer.concat([Buffer.from("]("), Buffer.alloc(20_000_000, 0x4e), Buffer.from("e.")]),
  }),
  () => ({
    name: "pickle: twenty million lists",
    file: "user_1.pkl",
    bytes: Buffer.concat([Buffer.from("]("), Buffer.alloc(20_000_000, 0x5d), Buffer.from("e.")]),
  }),
  () => ({
    name: "pickle: a million memos",
    file: "user_1.pkl",
    bytes: Buffer.concat([Buffer.from("\x80\x04]", "latin1"), Buffer.alloc(9_000_000, 0x94), Buffer.from(".")]),
  }),
  () => ({
    name: "pickle: doubled",
    file: "user_1.pkl",
    bytes: Buffer.from(
      `]q\0${Array.from({ length: 200 }, (_, i) => `](h${String.fromCharCode(i)}h${String.fromCharCode(i)}eq${String.fromCharCode(i + 1)}`).join("")}.`,
      "latin1",
    ),
  }),
  () => ({
    name: "pickle: a number of a million digits",
    file: "user_1.pkl",
    bytes: Buffer.from(`L${"9".repeat(1_000_000)}L\n.`),
  }),
  () => ({
    name: "pickle: an announced 2 GiB",
    file: "user_1.pkl",
    bytes: Buffer.from("\x80\x03B\xff\xff\xff\x7f.", "latin1"),
  }),
];

function tailed(footer: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(footer.length);
  return Buffer.concat([Buffer.from("PAR1"), footer, length, Buffer.from("PAR1")]);
}

const NAMES = ["a.jsonl", "a.json", "user_1.csv", "a.csv", "a.parquet", "user_1.pkl", "a", "a.txt"];
const KINDS: Readonly<
  Record<
    string,
    { readonly count: number; readonly make: (random: Random) => Pick<FuzzCase, "file" | "bytes"> & Partial<FuzzCase> }
  >
> = {
  messages: { count: 450, make: (random) => jsonCase(MESSAGES, random) },
  conversations: { count: 300, make: (random) => jsonCase(CONVERSATIONS, random) },
  csv: { count: 300, make: csvCase },
  parquet: { count: 600, make: (random) => ({ file: "a.parquet", bytes: damaged(random.pick(parquetFiles), random) }) },
  pickle: { count: 600, make: pickleCase },
  pictures: { count: 150, make: pictureCase },
  paths: { count: 200, make: pathCase },
  garbage: { count: 200, make: (random) => ({ file: random.pick(NAMES), bytes: garbage(random) }) },
  "other formats": {
    count: 150,
    make: (random) => ({
      file: random.pick(NAMES),
      bytes: random.pick([
        ...parquetFiles,
        ...pickleFiles,
        Buffer.from(CSV),
        Buffer.from(textOf(MESSAGES, false)),
        PICTURE,
      ]),
      options: { format: random.pick(["messages", "conversations", "csv", "parquet", "pickle"] as const) },
    }),
  },
};

/** FUZZ_SEED=1 node scripts/test.mjs data/fuzz.test reads other files. */
const SEED = Number(process.env.FUZZ_SEED ?? 20250711);

/** All cases; their bytes are made when asked for. */
export const CASES: readonly { readonly name: string; readonly make: () => FuzzCase }[] = [
  ...BOMBS.map((make, i) => ({ name: `bomb ${i}`, make: () => make() })),
  ...Object.entries(KINDS).flatMap(([kind, { count, make }]) =>
    Array.from({ length: count }, (_, i) => ({
      name: `${kind} ${i}`,
      make: () => ({ name: `${kind} ${i}`, ...make(randomFrom(SEED, kind, i)) }),
    })),
  ),
];
