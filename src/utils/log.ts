/** Lines for people, on stderr: stdout is left to results that other programs read. A log file, where there is one, has all of them. */
import type { Terminal } from "./liveBlock.ts";

/** What a progress display must be for lines to be written above it. */
export interface Redrawable {
  clear(): void;
  draw(): void;
}

/** Where lines are kept, each with its time. */
export interface LogFile {
  write(text: string): void;
}

export interface Log {
  readonly isQuiet: boolean;
  /** Where displays are drawn; null where the stream is no terminal, or one that cannot move its cursor. */
  readonly terminal: ColorTerminal | null;
  /** A note; silent under `--quiet`. */
  line(text: string): void;
  /** Something the user should know even under `--quiet`. */
  warn(text: string): void;
  /** An answer to a key press, told under `--quiet` too. */
  urge(text: string): void;
  /** An answer to what was asked, on stdout. */
  result(text: string): void;
  /** For the log file alone. */
  record(text: string): void;
  /** While a display is set, lines go above it. Null takes it away. */
  setDisplay(display: Redrawable | null): void;
}

export interface ColorTerminal extends Terminal {
  /** False under NO_COLOR. */
  hasColors?(): boolean;
}

export type LogStream = ColorTerminal & { readonly isTTY?: boolean };

export interface LogOptions {
  readonly quiet: boolean;
  readonly stream?: LogStream;
  readonly results?: { write(text: string): unknown };
  readonly file?: LogFile;
  /** Draw nothing, whatever the stream is. */
  readonly isPlain?: boolean;
}

export function createLog(options: LogOptions): Log {
  const { quiet, stream = process.stderr, results = process.stdout, file, isPlain = false } = options;
  let display: Redrawable | null = null;
  const above = (to: { write(text: string): unknown }, text: string): void => {
    display?.clear();
    to.write(`${text}\n`);
    display?.draw();
  };
  const said = (text: string): void => {
    above(stream, text);
    file?.write(text);
  };
  return {
    isQuiet: quiet,
    terminal: stream.isTTY && !isPlain ? stream : null,
    line: (text) => (quiet ? file?.write(text) : said(text)),
    warn: (text) => said(`warning: ${text}`),
    urge: said,
    result: (text) => {
      above(results, text);
      file?.write(text);
    },
    record: (text) => file?.write(text),
    setDisplay: (next) => {
      display = next;
    },
  };
}
