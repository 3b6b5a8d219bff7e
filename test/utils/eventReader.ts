// Reads TensorBoard's event files, sums checked, for tests alone.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { maskedCrc32c } from "../../src/utils/tensorBoard/record.ts";
import { decode, type Fields, messages, texts, wholes } from "../graph/protobuf.ts";

export interface ReadEvent {
  readonly step: number;
  readonly wallTime: number;
  readonly version: string | null;
  readonly isRestart: boolean;
  /** By tag: a number, a text, or a picture's width and height. */
  readonly values: Readonly<Record<string, unknown>>;
}

/** Each record, its length and its bytes against their sums. */
export function recordsOf(file: Uint8Array): Uint8Array[] {
  const bytes = Buffer.from(file);
  const records: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    assert.equal(bytes.readUInt32LE(at + 8), maskedCrc32c(bytes.subarray(at, at + 8)), "sum of the length");
    const record = bytes.subarray(at + 12, at + 12 + length);
    assert.equal(bytes.readUInt32LE(at + 12 + length), maskedCrc32c(record), "sum of the record");
    records.push(record);
    at += 16 + length;
  }
  return records;
}

export const eventsOf = (file: Uint8Array): ReadEvent[] => recordsOf(file).map((record) => eventIn(decode(record)));

function eventIn(event: Fields): ReadEvent {
  const [summary] = messages(event, 5);
  const [wallTime] = event.get(1) ?? [];
  return {
    step: wholes(event, 2)[0] ?? 0,
    wallTime: Buffer.from(wallTime as Uint8Array).readDoubleLE(),
    version: texts(event, 3)[0] ?? null,
    isRestart: messages(event, 7).some((session) => wholes(session, 1)[0] === 1),
    values: Object.fromEntries(summary ? messages(summary, 1).map(valueIn) : []),
  };
}

function valueIn(value: Fields): [string, unknown] {
  const tag = texts(value, 1)[0] ?? "";
  const [scalar] = value.get(2) ?? [];
  const [picture] = messages(value, 4);
  const [tensor] = messages(value, 8);
  if (scalar !== undefined) return [tag, Buffer.from(scalar as Uint8Array).readFloatLE()];
  if (picture) return [tag, [wholes(picture, 2)[0], wholes(picture, 1)[0]]];
  return [tag, tensor && texts(tensor, 8)[0]];
}

/** All events of a folder, file by file in TensorBoard's order. */
export const eventsIn = (dir: string): ReadEvent[][] =>
  readdirSync(dir)
    .filter((name) => name.includes("tfevents"))
    .sort()
    .map((name) => eventsOf(readFileSync(join(dir, name))));
