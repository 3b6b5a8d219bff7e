import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { LiveBlock } from "../../src/utils/liveBlock.ts";
import { createLog, type LogStream } from "../../src/utils/log.ts";
import { editDistance, nearestName } from "../../src/utils/nearest.ts";
import { formatDuration, shortNumber, startProgress } from "../../src/utils/progress.ts";
import { pythonDict, pythonFloat } from "../../src/utils/python.ts";
import { formatTable, widthOf } from "../../src/utils/table.ts";

/** A stream that keeps what is written to it. */
function recorder(isTTY: boolean, columns = 120, hasColors = false): { stream: LogStream; written: () => string } {
  let text = "";
  const write = (chunk: string): void => {
    text += chunk;
  };
  return { stream: { write, isTTY, columns, hasColors: () => hasColors }, written: () => text };
}

const visible = (written: string): string => written.replaceAll("\x1b", "␛");

/** What a terminal shows in the end, line by line: it knows the few sequences that displays use. */
function screenOf(written: string): string[] {
  const lines = [""];
  let [row, column] = [0, 0];
  for (const [, up, erase, control, char] of visible(written).matchAll(
    /␛\[(\d+)A|␛\[(J)|␛\[(\??[\d;]*[hlm])|([\s\S])/g,
  )) {
    if (up !== undefined) row -= Number(up);
    else if (erase !== undefined) lines.splice(row, lines.length, (lines[row] ?? "").slice(0, column));
    else if (char === "\r") column = 0;
    else if (char === "\n") [row, column] = [row + 1, 0];
    else if (control === undefined) {
      lines[row] = `${(lines[row] ?? "").slice(0, column)}${char}${(lines[row] ?? "").slice(column + 1)}`;
      column++;
    }
    while (lines.length <= row) lines.push("");
  }
  return lines;
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

/** A training display, its clock in the caller's hands. */
function training(columns: number, hasColors = false) {
  const { stream, written } = recorder(true, columns, hasColors);
  const clock = { ms: 0 };
  const log = createLog({ quiet: false, stream });
  const progress = startProgress({ log, title: "training", total: 60, now: () => clock.ms });
  const update = (step: number): void => {
    clock.ms = step * 500;
    const standing = { loss: 2.5, lr: 0.0002, "grad norm": 0.875, epoch: "0.4" };
    const speed = { "trained tokens/s": 512.34, "samples/s": 8.2, "data wait": "2 %", "peak memory": "1.31 GB" };
    progress.update(step, {}, standing, speed);
  };
  return { log, progress, update, clock, written };
}

test("a terminal gets a block of lines, drawn in place; other lines go above it, and it stays when it is over", () => {
  const { log, progress, update, written } = training(120);
  update(12);
  log.line("step 12: validation loss 2.0000");
  assert.deepEqual(screenOf(written()), [
    "step 12: validation loss 2.0000",
    "training ██████░░░░░░░░░░░░░░░░░░░░░░░░░░ 12/60 20 % · 6 s gone · 24 s left",
    "  loss 2.5 · lr 2e-4 · grad norm 0.875 · epoch 0.4",
    "  512.3 trained tokens/s · 8.2 samples/s · data wait 2 % · peak memory 1.31 GB",
  ]);
  progress.advance(12.75);
  update(60);
  progress.stop();
  progress.stop();
  log.line("after");
  assert.deepEqual(screenOf(written()).slice(1), [
    "training ████████████████████████████████ 60/60 100 % · 30 s gone",
    "  loss 2.5 · lr 2e-4 · grad norm 0.875 · epoch 0.4",
    "  512.3 trained tokens/s · 8.2 samples/s · data wait 2 % · peak memory 1.31 GB",
    "after",
    "",
  ]);
  assert.ok(written().lastIndexOf("\x1b[?25h") > written().lastIndexOf("\x1b[?25l"), "the cursor is shown again");
});

test("a narrow terminal: what belongs together takes more lines, the bar is shorter, nothing is wider than the screen", () => {
  const { progress, update, written } = training(34);
  update(12);
  progress.stop();
  const screen = screenOf(written());
  assert.deepEqual(screen, [
    "training ██░░░░░░░░░░░ 12/60 20 %",
    "  6 s gone · 24 s left",
    "  loss 2.5 · lr 2e-4",
    "    grad norm 0.875 · epoch 0.4",
    "  512.3 trained tokens/s",
    "    8.2 samples/s · data wait 2 %",
    "    peak memory 1.31 GB",
    "",
  ]);
  const tiny = training(12);
  tiny.update(12);
  assert.ok(
    screenOf(tiny.written()).every((line) => line.length <= 11),
    screenOf(tiny.written()).join("|"),
  );
  tiny.progress.stop();
});

test("a terminal made narrower: the lines that it broke are taken away with the others", () => {
  const { stream, written } = recorder(true, 100);
  const terminal = { write: stream.write, columns: 100 };
  const block = new LiveBlock(terminal, false);
  block.draw([[{ text: "x".repeat(90) }], [{ text: "y" }]]);
  terminal.columns = 40; // the first line takes three rows now
  block.clear();
  assert.ok(written().endsWith("\r\x1b[3A\x1b[J"), JSON.stringify(written().slice(-20)));
});

test("a terminal that says it has no columns is taken for one of 80", () => {
  const { progress, update, written } = training(0);
  update(12);
  progress.stop();
  const [bar = "", ...others] = screenOf(written());
  assert.equal(bar, "training ██████░░░░░░░░░░░░░░░░░░░░░░░░░░ 12/60 20 % · 6 s gone · 24 s left");
  assert.equal(others.length, 3, "two lines of fields, and the end");
});

test("colours only where the terminal has them: the text is the same", () => {
  const [plain, coloured] = [training(120), training(120, true)];
  for (const { update, progress } of [plain, coloured]) {
    update(30);
    progress.stop();
  }
  assert.deepEqual(screenOf(coloured.written()), screenOf(plain.written()));
  assert.ok(coloured.written().includes(`\x1b[32m${"█".repeat(16)}\x1b[0m`));
  assert.doesNotMatch(visible(plain.written()), /␛\[\d*m/);
});

test("a terminal that cannot move its cursor gets plain lines", () => {
  const { stream, written } = recorder(true);
  const log = createLog({ quiet: false, stream, isPlain: true });
  const progress = startProgress({ log, title: "evaluate", total: 4, now: () => 0 });
  progress.update(2, { "tokens/s": 80 });
  progress.stop();
  assert.equal(written(), "evaluate 2/4 · 80 tokens/s\n");
});

test("the log file has every line, quiet or not: notes, warnings, results, and the plain lines of a display", () => {
  for (const quiet of [false, true]) {
    const { stream, written } = recorder(true);
    const [kept, results]: string[][] = [[], []];
    const log = createLog({
      ...{ quiet, stream },
      file: { write: (text) => void kept?.push(text) },
      results: { write: (text) => void results?.push(text) },
    });
    log.line("a note");
    log.warn("look");
    const progress = startProgress({ log, title: "evaluate", total: 4, now: () => 0 });
    progress.update(4, { user: 3 });
    progress.stop();
    log.urge("stopping");
    log.result("a table");
    log.record("for the file");
    assert.deepEqual(kept, [
      ...["a note", "warning: look", "evaluate 4/4 · user 3", "stopping", "a table", "for the file"],
    ]);
    assert.deepEqual(results, ["a table\n"]);
    if (quiet) assert.equal(written(), "warning: look\nstopping\n");
  }
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
