/** The log of one start of a program: on stderr, and with times in a file of its own that says under what it ran and how it ended. */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { type GrowingFile, growingFile } from "../utils/growingFile.ts";
import { createLog, type Log, type LogFile } from "../utils/log.ts";

export interface LogSettings {
  readonly quiet: boolean;
  /** Folder of the log files. */
  readonly logDir: string;
}

/** A log file that is open. */
export interface OpenLog {
  readonly log: Log;
  readonly file: LogFile & Pick<GrowingFile, "file" | "fault">;
}

/** Opens `logDir/<name>_<YYYYMMDD_HHMMSS>.log`. A file that cannot be written ends no run: ask `fault` in the end. */
export function openLog({ quiet, logDir }: LogSettings, name: string): OpenLog {
  const path = freeName(logDir, `${name}_${stampOf(new Date())}`);
  const growing = growingFile(path);
  const write = (text: string): void => {
    const time = timeOf(new Date());
    const lines = text.replace(/\n$/, "").split("\n");
    growing.append(lines.map((line) => `${time} ${line}\n`).join(""));
  };
  const file = { file: path, write, fault: growing.fault };
  write(`command: ${process.argv.slice(1).map(quoted).join(" ")}`);
  write(`versions: ${versions().join(", ")}`);
  write(`machine: ${machine()}`);
  return { log: createLog({ quiet, file, isPlain: process.env.TERM === "dumb" }), file };
}

/** Two starts in one second have two files. */
function freeName(dir: string, name: string): string {
  for (let count = 1; ; count++) {
    const file = join(dir, `${name}${count === 1 ? "" : `_${count}`}.log`);
    if (!existsSync(file)) return file;
  }
}

const two = (value: number): string => String(value).padStart(2, "0");
const dayOf = (at: Date): string[] => [String(at.getFullYear()), two(at.getMonth() + 1), two(at.getDate())];
const hourOf = (at: Date): string[] => [at.getHours(), at.getMinutes(), at.getSeconds()].map(two);

/** 20260131_090507, by the clock on the wall. */
const stampOf = (at: Date): string => `${dayOf(at).join("")}_${hourOf(at).join("")}`;

/** 2026-01-31 09:05:07.123 */
const timeOf = (at: Date): string =>
  `${dayOf(at).join("-")} ${hourOf(at).join(":")}.${String(at.getMilliseconds()).padStart(3, "0")}`;

const quoted = (word: string): string => (/^[\w./:=,@%+-]+$/.test(word) ? word : JSON.stringify(word));

/** Of what a number may depend on. */
function versions(): string[] {
  const own: { name: string; version: string } = JSON.parse(
    readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
  );
  const require = createRequire(import.meta.url);
  const packages = ["onnxruntime-node", "sharp", "@huggingface/tokenizers", "@huggingface/jinja"].map(
    (name) => `${name} ${versionOf(require, name)}`,
  );
  return [`${own.name} ${own.version}`, `node ${process.version}`, ...packages];
}

/** Packages may hide their package.json from import, not from reading. */
function versionOf(require: NodeJS.Require, name: string): string {
  const folders = require.resolve.paths(name) ?? [];
  const file = folders.map((folder) => join(folder, name, "package.json")).find((path) => existsSync(path));
  return file === undefined ? "not found" : JSON.parse(readFileSync(file, "utf8")).version;
}

function machine(): string {
  const [cpu] = cpus();
  const memory = `${(totalmem() / 1e9).toFixed(1)} GB`;
  return `${process.platform} ${process.arch}, ${cpus().length} x ${cpu?.model.trim() ?? "CPU"}, ${memory}`;
}
