import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Writable } from "node:stream";
import { test } from "node:test";
import { createLog, type LogStream } from "../../src/utils/log.ts";
import { editDistance, nearestName } from "../../src/utils/nearest.ts";
import { formatDuration, shortNumber, startProgress } from "../../src/utils/progress.ts";
import { pythonDict, pythonFloat } from "../../src/utils/python.ts";
import { formatTable, widthOf } from "../../src/utils/table.ts";

/** A stream that keeps what is written to it. */
function recorder(isTTY: boolean): { stream: LogStream; written: () => string } {
  let text = "";
  const stream = new Writable({
    write: (chunk, _, done) => {
      text += String(chunk);
      done();
    },
  });
  const noop = (): boolean => true;
  return {
    stream: Object.assign(stream, { isTTY, columns: 120, cursorTo: noop, clearLine: noop }),
    written: () => text,
  };
}

test("the log writes lines, and under quiet only warnings", () => {
  for (const quiet of [false, true]) {
    const { stream, written } = recorder(false);
    const log = createLog({ quiet, stream });
    log.line("a note");
    log.warn("look");
    assert.equal(written(), quiet ? "warning: look\n" : "a note\nwarning: look\n");
  }
});

test("not a terminal: the first line, then one every five seconds, and the last", () => {
  const { stream, written } = recorder(false);
  let clock = 0;
  const progress = startProgress({
    log: createLog({ quiet: false, stream }),
    title: "train",
    total: 12,
    now: () => clock,
  });
  for (let step = 1; step <= 12; step++) {
    clock = step * 1000;
    progress.update(step, { loss: 3 - step / 7, lr: 0.0001 * step, "tokens/s": 512.34, note: "warm" });
  }
  progress.stop();
  progress.stop();
  assert.deepEqual(written().trimEnd().split("\n"), [
    "train 1/12 · loss 2.857 · lr 1e-4 · 512.3 tokens/s · note warm · 11 s left",
    "train 6/12 · loss 2.143 · lr 6e-4 · 512.3 tokens/s · note warm · 6 s left",
    "train 11/12 · loss 1.429 · lr 0.0011 · 512.3 tokens/s · note warm · 1 s left",
    "train 12/12 · loss 1.286 · lr 0.0012 · 512.3 tokens/s · note warm",
  ]);
});

test("time left counts from where a resumed run began", () => {
  const { stream, written } = recorder(false);
  let clock = 0;
  const log = createLog({ quiet: false, stream });
  const progress = startProgress({ log, title: "train", total: 100, start: 90, now: () => clock });
  clock = 4000;
  progress.update(92);
  assert.equal(written(), "train 92/100 · 16 s left\n");
});

test("a terminal gets a bar, lines go above it, and it ends with a newline", () => {
  const { stream, written } = recorder(true);
  const log = createLog({ quiet: false, stream });
  const progress = startProgress({ log, title: "evaluate", total: 4 });
  try {
    progress.update(2, { "tokens/s": 80 });
    log.line("user 1 is done");
  } finally {
    progress.stop();
    progress.stop();
  }
  assert.match(written(), /evaluate ░{24} 0\/4/);
  assert.ok(written().includes("\r\u001b[Kuser 1 is done\n"), "the bar is cleared before a line");
  assert.match(written(), /user 1 is done\n.*evaluate █{12}░{12} 2\/4 · 80 tokens\/s/s);
  log.line("after");
  assert.ok(written().endsWith("\nafter\n") && !written().endsWith("\u001b[Kafter\n"));
});

test("quiet: no progress at all", () => {
  for (const isTTY of [true, false]) {
    const { stream, written } = recorder(isTTY);
    const progress = startProgress({ log: createLog({ quiet: true, stream }), title: "t", total: 2 });
    progress.update(1);
    progress.stop();
    assert.equal(written(), "");
  }
});

test("numbers and durations for people", () => {
  const numbers = [2.345678, 510.29, 1234.5, 51234.7, 0.0125, 0.002, 0.00002, 0, -3.27182, 1e7, 123456, Number.NaN].map(
    shortNumber,
  );
  assert.deepEqual(numbers, [
    "2.346",
    "510.3",
    "1235",
    "51235",
    "0.0125",
    "0.002",
    "2e-5",
    "0",
    "-3.272",
    "1e+7",
    "123456",
    "NaN",
  ]);
  assert.deepEqual([0, 900, 7000, 59_001, 187_000, 3_787_000].map(formatDuration), [
    "0 s",
    "1 s",
    "7 s",
    "1:00",
    "3:07",
    "1:03:07",
  ]);
});

test("floats equal Python's repr", () => {
  const golden: { floats: [hex: string, repr: string][] } = JSON.parse(
    readFileSync("test/fixtures/utils/python-floats.json", "utf8"),
  );
  assert.ok(golden.floats.length > 60);
  for (const [hex, repr] of golden.floats) assert.equal(pythonFloat(Buffer.from(hex, "hex").readDoubleBE(0)), repr);
  assert.deepEqual([Number.NaN, Infinity, -Infinity].map(pythonFloat), ["nan", "inf", "-inf"]);
  assert.equal(pythonDict({ accuracy: 1, mean_l2: null }), "{'accuracy': 1.0, 'mean_l2': None}");
});

test("tables align by what a terminal shows, wide characters included", () => {
  const table = formatTable(
    [{ name: "app", align: "left" }, { name: "clicks", align: "right" }],
    [["地图", "7"], null, ["café", "12"], ["🎵", ""]],
  ); // biome-ignore format: one row a line
  assert.equal(
    table,
    [
      "┌──────┬────────┐",
      "│ app  │ clicks │",
      "├──────┼────────┤",
      "│ 地图 │      7 │",
      "├──────┼────────┤",
      "│ café │     12 │",
      "│ 🎵   │        │",
      "└──────┴────────┘",
    ].join("\n"),
  );
  assert.deepEqual(["cafe\u0301", "abc", "地", ""].map(widthOf), [4, 3, 2, 0]);
});

test("the nearest name: small slips are found, other words are not", () => {
  assert.deepEqual([editDistance("kitten", "sitting"), editDistance("ab", "ba"), editDistance("", "abc")], [3, 1, 3]);
  const known = ["lora", "lora-r", "shuffle", "max-steps"];
  assert.equal(nearestName("lorra", known), "lora");
  assert.equal(nearestName("shufle", known), "shuffle");
  assert.equal(nearestName("max_steps", known), "max-steps");
  assert.equal(nearestName("learning-rate", known), null);
  assert.equal(nearestName("x", known), null);
});
