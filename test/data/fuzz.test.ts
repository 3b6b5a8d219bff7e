// Malformed and hostile data files: each is refused with one clear message or read; none crashes, hangs, runs anything or leaves files.
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { freshFolder } from "./files.ts";
import { CASES } from "./fuzz/cases.ts";
import type { Told } from "./fuzz/reader.ts";

const SHARES = 2;
/** For one file, on a busy machine. */
const LIMIT_MS = 20_000;
const HEAP_MB = 1024;
/** Of the process: far more than good files of this size need, far less than what the bad ones announce. */
const MOST_BYTES = 2.5e9;

interface Run {
  readonly folder: string;
  readonly temporary: string;
  readonly told: readonly Told[];
}

/** Reads one share of the cases in a process of its own. @throws where it crashes or a file takes too long */
function run(share: number): Promise<Run> {
  const folder = freshFolder();
  const temporary = freshFolder();
  const reader = fork(join(import.meta.dirname, "fuzz", "reader.ts"), [folder, String(share), String(SHARES)], {
    execArgv: ["--import", "tsx", `--max-old-space-size=${HEAP_MB}`],
    env: { ...process.env, TMPDIR: temporary },
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  return new Promise((resolve, reject) => watch(reader, { folder, temporary }, resolve, reject));
}

function watch(
  reader: ChildProcess,
  place: Omit<Run, "told">,
  resolve: (run: Run) => void,
  reject: (error: Error) => void,
): void {
  const told: Told[] = [];
  let current = "start";
  let printed = "";
  let timer: NodeJS.Timeout | undefined;
  const end = (reason: string): void => {
    clearTimeout(timer);
    reader.kill("SIGKILL");
    reject(new Error(`${current}: ${reason}\n${printed.slice(-2000)}`));
  };
  const wait = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => end(`not done after ${LIMIT_MS} ms`), LIMIT_MS);
  };
  wait();
  for (const stream of [reader.stdout, reader.stderr]) stream?.on("data", (text: Buffer) => (printed += String(text)));
  reader.on("message", (message: Told) => {
    current = message.name;
    wait();
    if (message.outcome !== "begun") told.push(message);
  });
  reader.on("exit", (code, signal) => {
    if (code !== 0) return end(`the process ended with ${signal ?? code}`);
    clearTimeout(timer);
    if (printed !== "") return end("something was printed");
    resolve({ ...place, told });
  });
}

const [runs, failure] = await Promise.all(Array.from({ length: SHARES }, (_, share) => run(share))).then(
  (done) => [done, null] as const,
  (error: Error) => [[] as readonly Run[], error] as const,
);
const told = runs.flatMap((one) => one.told.filter(({ outcome }) => outcome !== "ended"));

test("every file is read or refused: no crash, no hang", () => {
  assert.equal(failure, null, failure?.message);
  assert.ok(CASES.length >= 2000, `${CASES.length} cases`);
  assert.equal(told.length, CASES.length);
  const failed = told.filter(({ outcome }) => outcome === "failed");
  assert.deepEqual(
    failed.map(({ name, message }) => `${name}: ${message}`),
    [],
  );
  for (const one of runs) {
    const peakBytes = one.told.at(-1)?.peakBytes ?? Infinity;
    assert.ok(peakBytes < MOST_BYTES, `${peakBytes} bytes of memory`);
  }
  const slow = told.filter(({ elapsedMs = 0 }) => elapsedMs > LIMIT_MS / 2);
  assert.deepEqual(slow, []);
});

/** What is wrong with a message, if anything is. */
function faultOf({ file = "", message = "" }: Told): string | null {
  const base = file.slice(file.lastIndexOf("/") + 1);
  const named = ["--image-root ", file, `example ${base}:`].some((start) => message.startsWith(start));
  if (!named) return "names no file";
  if (message.length > 1500) return `${message.length} characters`;
  if (/[\p{Cc}\p{Cs}\u2028\u2029]/u.test(message)) return "control characters";
  return /internal|undefined|\[object|TypeError|\bNaN\b.*expected 0/i.test(message) ? "words of the program" : null;
}

test("every refusal is one line and names the file", () => {
  const refused = told.filter(({ outcome }) => outcome === "refused");
  const faults = refused.flatMap((one) => {
    const fault = faultOf(one);
    return fault === null ? [] : [`${one.name}: ${fault}: ${JSON.stringify(one.message?.slice(0, 300))}`];
  });
  assert.deepEqual(faults, []);
});

test("the kinds of damage are met, not only the first check of each reader", () => {
  const refused = told.filter(({ outcome }) => outcome === "refused");
  const messages = refused.map(({ message = "" }) => message);
  const count = (pattern: RegExp): number => messages.filter((message) => pattern.test(message)).length;
  assert.ok(told.length - refused.length > 100, "some damage leaves a file whole");
  assert.ok(count(/, (line|row) \d+/) > 500, `${count(/, (line|row) \d+/)} name a row`);
  assert.ok(count(/opcode \w+ at offset \d+ is refused/) > 80);
  assert.ok(count(/column \S+, page \d+/) > 40, `${count(/column \S+, page \d+/)} pages`);
  assert.ok(count(/outside of/) > 60);
  assert.ok(count(/^example/) > 40, `${count(/^example/)} pictures`);
  const bombs = told.filter(({ name }) => /^(Parquet|JSONL?|CSV|pickle):|^(spaces|a million)/.test(name));
  assert.ok(bombs.length > 50);
});

test("nothing is left behind and nothing was run", () => {
  for (const { folder, temporary } of runs) {
    assert.deepEqual(readdirSync(folder).sort(), ["data", "secret.png"]);
    assert.deepEqual(readdirSync(join(folder, "data")).sort(), [
      "circle.png",
      "dangling.png",
      "images",
      "out",
      "pipe.png",
    ]);
    assert.deepEqual(readdirSync(join(folder, "data", "images")).sort(), ["a.png", "link.png"]);
    const left = readdirSync(temporary).filter((name) => !name.startsWith("tsx-")); // tsx keeps what it compiled
    assert.deepEqual(left, []);
  }
  assert.deepEqual(
    readdirSync(".").filter((name) => name.startsWith("EVIL")),
    [],
  );
});
