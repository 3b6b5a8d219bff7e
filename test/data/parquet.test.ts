import assert from "node:assert/strict";
import { test } from "node:test";
import { parquetRows } from "../../src/data/parquet/file.ts";
import type { Row } from "../../src/data/rows.ts";
import { readDataset } from "../../src/dataset.ts";
import { readFixture } from "../text/models.ts";
import { dataFile, fromBase64, refuses } from "./files.ts";

const { rows } = readFixture<{ rows: { name: string; file: string; rows: unknown[] }[] }>("data", "parquet.json");
const bytesOf = (name: string): Buffer => fromBase64(rows.find((row) => row.name === name)?.file ?? "");

/** Bytes as the fixture writes them. */
const told = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString("base64") };
  if (Array.isArray(value)) return value.map(told);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, told(inner)]));
};

async function allRows(file: string): Promise<Row[]> {
  const found: Row[] = [];
  for await (const row of parquetRows(file)) found.push(row);
  return found;
}

for (const { name, file, rows: expected } of rows) {
  test(`read as pyarrow wrote it: ${name}`, async () => {
    const path = dataFile("train.parquet", fromBase64(file));
    const found = await allRows(path);
    assert.deepEqual(
      found.map(({ value }) => told(value)),
      expected,
    );
    assert.deepEqual(
      found.map(({ where, number }) => [where, number]),
      expected.map((_, i) => [`${path}, row ${i + 1}`, i + 1]),
    );
  });
}

test("a limit stops before the row groups that are not needed", async () => {
  const whole = bytesOf("none"); // row groups of 3 rows; the second is damaged here
  const damaged = Buffer.from(whole);
  const second = whole.indexOf("answer 3");
  assert.ok(second > 0);
  damaged.fill(0xff, second - 8, second + 8);
  const file = dataFile("train.parquet", damaged);
  const { length } = await readDataset(file, { limit: 3 }).catch((error: Error) => assert.fail(error.message));
  assert.equal(length, 3);
  await refuses(file, /row group 2/);
});

test("cut anywhere: one message, which names the file", async () => {
  const whole = bytesOf("zstd");
  for (let end = 1; end < whole.length; end += 97) {
    await refuses(dataFile("a.parquet", whole.subarray(0, end)), /./, { format: "parquet" });
  }
});

test("files that are no data are refused by name", async () => {
  await refuses(dataFile("a.parquet", ""), /empty file/);
  await refuses(dataFile("a.parquet", "PAR1"), /does not end in PAR1/);
  await refuses(dataFile("a.parquet", "PAR1\xff\xff\xff\x7fPAR1"), /announces \d+ bytes of metadata in a file of \d+/);
  await refuses(dataFile("a.parquet", "PAR1\x00\x00\x00\x00PARE"), /encrypted/);
  await refuses(dataFile("a.parquet", "PAR1\x00\x00\x00\x00PAR1"), /damaged Parquet metadata \(it ends too early/);
});

/** Replaces bytes that stand once in the file. */
function replaced(bytes: Buffer, from: string, to: Uint8Array): Buffer {
  const at = bytes.indexOf(from);
  assert.ok(at >= 0, from);
  const copy = Buffer.from(bytes);
  copy.set(to, at);
  return copy;
}

test("other columns than conversations: the file's own are named", async () => {
  let bytes = bytesOf("none");
  while (bytes.includes("messages")) bytes = replaced(bytes, "messages", Buffer.from("massages"));
  await refuses(
    dataFile("a.parquet", bytes),
    /expected a column "messages" or "conversations", found massages, images, user, extra/,
  );
});

test("text that is not UTF-8 is refused, not repaired", async () => {
  const bytes = replaced(bytesOf("none"), "answer 0", Buffer.from([0xff, 0xfe]));
  await refuses(dataFile("a.parquet", bytes), /row group 1: a text: not UTF-8/);
});
