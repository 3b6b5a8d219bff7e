/** The entries as a user runs them: child processes in a folder of their own, with the tiny model and its data. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { readHeader, readTensorBytes } from "../../src/utils/safetensors.ts";
import { newFolder, scratchFolder } from "../train/folders.ts";

export { copyWith, readJson } from "../train/folders.ts";

export const FIXTURE = resolve("test/fixtures/tiny-qwen3vl");
export const MODEL = join(FIXTURE, "model");
export const DATA = join(FIXTURE, "data/train.jsonl");
export const ADAPTER = join(FIXTURE, "adapter_init");

export type EntryName =
  | "finetuneGlobal"
  | "finetunePerson"
  | "vanillaEval"
  | "evalCheckpoint"
  | "merge"
  | "preview"
  | "report";

export interface Ended {
  /** null where a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningEntry {
  /** Resolves when stderr holds the text; rejects when the process ends without it. */
  sees(text: string): Promise<void>;
  /** Ctrl-C. */
  interrupt(): void;
  /** SIGKILL: nothing is saved, nothing is told. */
  kill(): void;
  readonly ended: Promise<Ended>;
}

/** Goes when the tests of the file are done. */
export const scratch = scratchFolder("entries");

/** An empty working folder. */
let folders = 0;
export const workingFolder = (): string => newFolder(scratch, `run-${++folders}`);

/** @param env beside what this process has */
export function startEntry(
  name: EntryName,
  args: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>> = {},
): RunningEntry {
  const command = ["--import", import.meta.resolve("tsx"), resolve(`src/${name}.ts`), ...args];
  const child = spawn(process.execPath, command, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const written = { stdout: "", stderr: "" };
  const waiting = new Set<() => void>();
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("utf8").on("data", (text: string) => {
      written[stream] += text;
      for (const look of waiting) look();
    });
  }
  const ended = new Promise<Ended>((done, fail) => {
    child.on("error", fail);
    child.on("close", (code, signal) => done({ code, signal, ...written }));
  });
  return {
    sees: (text) => seen({ text, ended, waiting, stderr: () => written.stderr }),
    interrupt: () => send(child, "SIGINT"),
    kill: () => send(child, "SIGKILL"),
    ended,
  };
}

export const runEntry = (name: EntryName, args: readonly string[], cwd: string): Promise<Ended> =>
  startEntry(name, args, cwd).ended;

interface Watch {
  readonly text: string;
  readonly ended: Promise<Ended>;
  readonly waiting: Set<() => void>;
  readonly stderr: () => string;
}

function seen({ text, ended, waiting, stderr }: Watch): Promise<void> {
  return new Promise((found, fail) => {
    const look = (): void => {
      if (!stderr().includes(text)) return;
      waiting.delete(look);
      found();
    };
    waiting.add(look);
    ended.then(
      ({ code, signal }) => fail(new Error(`ended with ${code ?? signal} before it said "${text}":\n${stderr()}`)),
      fail,
    );
    look();
  });
}

function send(child: ChildProcess, signal: NodeJS.Signals): void {
  if (!child.kill(signal)) throw new Error(`the process had ended before it could be sent ${signal}`);
}

/** Files that tell of times, and so differ from run to run: they are looked at by name. */
const OF_THE_CLOCK = /(^|\/)(logs\/|runs\/|metrics\.jsonl$)/;

/** Every file below a folder but those of the clock, by path from there, sorted. */
export const filesIn = (dir: string): string[] =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .filter((file) => !OF_THE_CLOCK.test(file))
    .sort();

/** Text of every file below a folder. */
export const contentsOf = (dir: string): Record<string, string> =>
  Object.fromEntries(filesIn(dir).map((file) => [file, readFileSync(join(dir, file), "latin1")]));

/** Bytes of every tensor of a safetensors file, by name. */
export const tensorsOf = (file: string): ReadonlyMap<string, Uint8Array> =>
  new Map([...readHeader(file).tensors].map(([name, entry]) => [name, readTensorBytes(entry)]));
