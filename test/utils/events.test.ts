// Event files: the bytes that TensorBoard's own classes write, which TensorBoard reads as the fixture tells.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  type EventTime,
  restartEvent,
  type Summary,
  summaryEvent,
  versionEvent,
} from "../../src/utils/tensorBoard/event.ts";
import { crc32c, framed, maskedCrc32c } from "../../src/utils/tensorBoard/record.ts";
import { eventsOf } from "./eventReader.ts";

type GoldenSummary = Summary | { kind: "picture"; tag: string; png: string; width: number; height: number };
interface GoldenEvent extends EventTime {
  readonly version?: true;
  readonly restart?: true;
  readonly summaries?: readonly GoldenSummary[];
}
interface Golden {
  readonly sums: readonly { hex: string; crc32c: number; masked: number }[];
  readonly inputs: readonly (readonly GoldenEvent[])[];
  readonly expected: { files: string[]; read: { scalars: Record<string, [number, number, number][]> } };
}
const golden: Golden = JSON.parse(readFileSync("test/fixtures/utils/events.json", "utf8"));

const summaryOf = (one: GoldenSummary): Summary =>
  one.kind === "picture" ? { ...one, png: Buffer.from(String(one.png), "base64") } : one;

function encoded(event: GoldenEvent): Uint8Array {
  if (event.version) return versionEvent(event.wallTime);
  if (event.restart) return restartEvent(event);
  return summaryEvent(event, (event.summaries ?? []).map(summaryOf));
}

const filesMade = (): Buffer[] => golden.inputs.map((events) => Buffer.concat(events.map(encoded).map(framed)));

test("CRC-32C, plain and masked, equals TensorBoard's", () => {
  assert.ok(golden.sums.length >= 5);
  for (const { hex, crc32c: plain, masked } of golden.sums) {
    const bytes = Buffer.from(hex, "hex");
    assert.deepEqual([crc32c(bytes), maskedCrc32c(bytes)], [plain, masked], hex);
  }
});

test("scalars, texts, pictures and a restart have the bytes that TensorBoard's own classes give them", () => {
  const files = filesMade();
  assert.equal(files.length, 2);
  files.forEach((file, i) => {
    assert.equal(file.toString("base64"), golden.expected.files[i]);
  });
});

test("read here as TensorBoard reads them: what came before a restart and is of its steps does not count", () => {
  const scalars: Record<string, [number, number, number][]> = {};
  for (const event of filesMade().flatMap(eventsOf)) {
    if (event.isRestart)
      for (const [tag, points] of Object.entries(scalars)) scalars[tag] = points.filter(([step]) => step < event.step);
    for (const [tag, value] of Object.entries(event.values))
      if (typeof value === "number") scalars[tag] = [...(scalars[tag] ?? []), [event.step, event.wallTime, value]];
  }
  assert.deepEqual(scalars, golden.expected.read.scalars);
});
