/** Lines for people, on stderr: stdout is left to results that other programs read. */

/** What a progress display must be for lines to be written above it. */
export interface Redrawable {
  clear(): void;
  draw(): void;
}

export interface Log {
  readonly isQuiet: boolean;
  readonly stream: LogStream;
  /** A note; silent under `--quiet`. */
  line(text: string): void;
  /** Something the user should know even under `--quiet`. */
  warn(text: string): void;
  /** While a display is set, lines go above it. Null takes it away. */
  setDisplay(display: Redrawable | null): void;
}

export type LogStream = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

export function createLog(options: { readonly quiet: boolean; readonly stream?: LogStream }): Log {
  const { quiet, stream = process.stderr } = options;
  let display: Redrawable | null = null;
  const write = (text: string): void => {
    display?.clear();
    stream.write(`${text}\n`);
    display?.draw();
  };
  return {
    isQuiet: quiet,
    stream,
    line: (text) => {
      if (!quiet) write(text);
    },
    warn: (text) => write(`warning: ${text}`),
    setDisplay: (next) => {
      display = next;
    },
  };
}
