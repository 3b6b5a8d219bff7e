import assert from "node:assert/strict";
import { test } from "node:test";
import { type PickleValue, readPickle } from "../../src/data/pickle/pickle.ts";
import { readDataset } from "../../src/dataset.ts";
import { UserError } from "../../src/utils/errors.ts";
import { readFixture } from "../text/models.ts";
import { dataFile, fromBase64, refuses } from "./files.ts";

interface Fixture {
  readonly rows: readonly { name: string; pickles: Record<string, string>; expected: unknown }[];
  readonly hostile: readonly { name: string; pickle: string; refused: string }[];
}
const { rows, hostile } = readFixture<Fixture>("data", "pickles.json");

/** A value as the fixture writes it. */
function told(value: PickleValue): unknown {
  if (typeof value === "bigint") return { int: String(value) };
  if (typeof value === "number" && !Number.isFinite(value))
    return { float: Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf" };
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)) return value;
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString("base64") };
  if (Array.isArray(value)) return value.map(told);
  if (typeof value !== "object" || value === null) return value;
  return { dict: Object.entries(value).map(([key, inner]) => [key, told(inner)]) };
}

/** Objects list whole-number keys first, Python in the order they came. */
const sorted = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  if (!("dict" in value)) return value;
  const items = (value.dict as [string, unknown][]).map(([key, inner]) => [key, sorted(inner)] as const);
  return { dict: items.sort(([a], [b]) => (a < b ? -1 : 1)) };
};

for (const { name, pickles, expected } of rows) {
  test(`read as Python wrote it: ${name}`, () => {
    for (const [how, pickle] of Object.entries(pickles))
      assert.deepEqual(sorted(told(readPickle(fromBase64(pickle), how))), sorted(expected), how);
  });
}

test("every refused opcode is named, and nothing runs", () => {
  assert.ok(hostile.length > 60);
  for (const { name, pickle, refused } of hostile) {
    assert.throws(
      () => readPickle(fromBase64(pickle), "u.pkl"),
      (error: Error) => error instanceof UserError && error.message.startsWith(`u.pkl: opcode ${refused} at offset `),
      name,
    );
  }
  const names = new Set(hostile.map(({ refused }) => refused));
  assert.equal(names.size, 19, [...names].join(" "));
});

test("what is shared stays shared, a key __proto__ is a key", () => {
  const value = readPickle(Buffer.from("\x80\x02]q\x00h\x00\x86.", "latin1"), "u.pkl");
  assert.ok(Array.isArray(value) && value[0] === value[1]);
  const dict = readPickle(Buffer.from("}(V__proto__\n}V1\nV2\nu.", "latin1"), "u.pkl");
  assert.deepEqual(Object.keys(dict ?? {}).sort(), ["1", "__proto__"]);
  assert.equal(Object.getPrototypeOf(dict), Object.prototype);
});

const damaged: [name: string, bytes: string, message: RegExp][] = [
  ["nothing", "", /ends without its STOP/],
  ["no stop", "\x80\x04]", /ends without its STOP/],
  ["no opcode", "\x80\x04\xff.", /byte 0xff at offset 2 is no pickle opcode/],
  ["protocol 6", "\x80\x06N.", /protocol 6; expected 0 to 5/],
  ["stop on nothing", ".", /a value is missing/],
  ["stop on a mark", "(.", /a value is missing/],
  ["values left over", "NN.", /1 values are left over/],
  ["a text longer than the file", "X\xff\xff\xff\x7fab.", /a value of 2147483647 bytes is announced where 3 are left/],
  ["a text of 2^63", "\x8d\0\0\0\0\0\0\0\x80.", /announced where 1 are left/],
  ["a frame longer than the file", "\x80\x04\x95\xff\0\0\0\0\0\0\0N.", /a frame of 255 bytes where 2 are left/],
  ["text that is not UTF-8", "\x8c\x02\xff\xfe.", /not UTF-8/],
  ["append to no list", "NNa.", /a list is missing/],
  ["append to nothing", "Na.", /a list is missing/],
  ["items for no dict", "](NNu.", /a dict is missing/],
  ["a key without a value", "}(Nu.", /a key without a value/],
  ["a key that is no text", "}(K\x01Nu.", /a dict key is a number; expected text/],
  ["a mark that is missing", "t.", /a mark is missing/],
  ["a memo never stored", "h\x05.", /memo 5 at offset \d was never stored/],
  ["memo of nothing", "\x94.", /nothing to remember/],
  ["a memo of words", "gx\n.", /memo index "x"; expected a number/],
  ["a number of words", "Iabc\n.", /a whole number is written "abc"/],
  ["a number of too many digits", `L${"9".repeat(5000)}\n.`, /a number of 5000 digits; at most 4300/],
  ["a float of words", "F0x10\n.", /a number is written "0x10"/],
  ["a line without end", "Vabc", /a line does not end/],
  ["an escape cut off", "Va\\u00\n.", /the escape "\\\\u" in a text is damaged/],
  ["an escape beyond Unicode", "V\\U00ffffff\n.", /the escape "\\\\U00ffffff" in a text is damaged/],
  ["a string without quotes", "Sabc\n.", /expected it in quotes/],
  ["too many bytes of a number", `\x8b\x00\x10\0\0${"\x01".repeat(4096)}.`, /a number of 4096 bytes; at most 2048/],
];

for (const [name, bytes, message] of damaged) {
  test(`refused: ${name}`, () => {
    assert.throws(
      () => readPickle(Buffer.from(bytes, "latin1"), "u.pkl"),
      (error: Error) =>
        error instanceof UserError && message.test(error.message) && error.message.startsWith("u.pkl: "),
    );
  });
}

const text = (value: string): string => `\x8c${String.fromCharCode(value.length)}${value}`;
const put = (index: number): string => `q${String.fromCharCode(index)}`;
const get = (index: number): string => `h${String.fromCharCode(index)}`;
const list = (...items: string[]): string => `](${items.join("")}e`;
const message = (role: string): string => `}(${text("role")}${text(role)}${text("content")}${text("x")}u`;
const pickled = (body: string, name = "user_1.pkl"): string => dataFile(name, Buffer.from(`${body}.`, "latin1"));

test("bombs: lists that contain themselves, doubled lists, one message a million times", async () => {
  const itself = `]${put(0)}${get(0)}a`;
  await refuses(pickled(itself), /row 1: nested more than 64 deep, or contains itself/);
  await refuses(pickled(list(list(itself))), /row 1: nested more than 64 deep, or contains itself/);
  const doubled = Array.from({ length: 40 }, (_, i) => `${list(get(i), get(i))}${put(i + 1)}0`).join("");
  await refuses(pickled(`N${put(0)}0${doubled}${list(list(get(40)))}`), /row 1: more than 1000000 values in a row/);
  const one = `${message("user")}${put(1)}0`;
  const many = list(get(1).repeat(200_000));
  await refuses(pickled(`${one}${list(many)}`), /row 1: no assistant turn among 200000 messages/);
  // each row is within bounds, all together are far more than the file could hold
  const rows = `${one}${list(get(1).repeat(100_000), message("assistant"))}${put(2)}0${list(get(2).repeat(50_000))}`;
  await refuses(pickled(rows), /row \d+: more than 1000000 values in a row, or far more in the rows than in the file/);
});

test("samples of the task: the system asks as user, the answer's point is the target, --format pickle whatever the name", async () => {
  const { rows: files } = readFixture<{ rows: { name: string; file: string }[] }>("data", "formats.json");
  const pickled = files.find(({ name }) => name === "protocol4/user_7.pkl");
  assert.ok(pickled);
  const file = dataFile("user_7.pkl", fromBase64(pickled.file));
  const [example] = await readDataset(file);
  assert.equal(example?.id, "user_7.pkl:1");
  assert.equal(example?.user, "7");
  assert.deepEqual(
    example?.messages.map(({ role }) => role),
    ["user", "assistant"],
  );
  assert.deepEqual(example?.target, { point: [311, 541], content: "gear icon" });
  const other = dataFile("samples.bin", fromBase64(pickled.file));
  assert.equal((await readDataset(other, { format: "pickle" })).length, 1);
  assert.equal((await readDataset(other))[0]?.user, null);
});

test("pickles that hold no samples", async () => {
  const large = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
  await refuses(pickled("}"), /holds an object; expected a list of samples/);
  await refuses(pickled(large), /holds a number; expected a list/);
  await refuses(pickled("]"), /empty file; expected rows/);
  await refuses(dataFile("user_1.pkl", ""), /empty file; expected rows/);
  await refuses(pickled(list("N")), /row 1: expected an object with "messages" or "conversations", found null/);
  await refuses(pickled(list(list(large))), /row 1: the number 9223372036854775807 is too large/);
});
