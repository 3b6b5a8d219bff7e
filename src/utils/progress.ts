/** How far a long task has got: a bar on a terminal, a plain line every few seconds elsewhere, nothing under `--quiet`. */
import { SingleBar } from "cli-progress";
import type { Log } from "./log.ts";

/** What to show beside the count, in this order: `{ loss: 1.25, lr: 2e-3, "tokens/s": 510 }`. Text stands as it is. */
export type ProgressFields = Readonly<Record<string, number | string>>;

export interface Progress {
  update(done: number, fields?: ProgressFields): void;
  /** Leaves the last state on screen. Call it in `finally`; a second call does nothing. */
  stop(): void;
}

export interface ProgressOptions {
  readonly log: Log;
  readonly title: string;
  readonly total: number;
  /** Done before this run, when it is resumed: left out of the forecast of time left. */
  readonly start?: number;
  /** Milliseconds; tests bring their own clock. */
  readonly now?: () => number;
}

const LINE_EVERY_MS = 5_000;

export function startProgress(options: ProgressOptions): Progress {
  if (options.log.isQuiet) return { update: () => undefined, stop: () => undefined };
  return options.log.stream.isTTY ? barProgress(options) : lineProgress(options);
}

function barProgress(options: ProgressOptions): Progress {
  const { log, title, total, start = 0 } = options;
  const timeLeft = forecast(options);
  const bar = new SingleBar({
    format: `${title} {bar} {value}/{total}{text}`,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 24,
    stream: log.stream,
    hideCursor: true,
    linewrap: null, // longer than the terminal is cut by it, not wrapped
    gracefulExit: false, // Ctrl-C belongs to the entries: they save first
    forceRedraw: true,
  });
  bar.start(total, start, { text: "" });
  log.setDisplay({ clear: () => log.stream.write("\r\x1b[K"), draw: () => bar.render() });
  return {
    update: (done, fields = {}) => bar.update(done, { text: suffix(fields, timeLeft(done)) }),
    stop: () => {
      log.setDisplay(null);
      bar.stop();
    },
  };
}

function lineProgress(options: ProgressOptions): Progress {
  const { log, title, total, now = Date.now } = options;
  const timeLeft = forecast(options);
  let latest: string | null = null;
  let writtenAt = Number.NEGATIVE_INFINITY;
  const flush = (): void => {
    if (latest !== null) log.line(latest);
    latest = null;
    writtenAt = now();
  };
  return {
    update: (done, fields = {}) => {
      latest = `${title} ${done}/${total}${suffix(fields, timeLeft(done))}`;
      if (now() - writtenAt >= LINE_EVERY_MS) flush();
    },
    stop: flush,
  };
}

/** Time left from the pace since the start of this run; null while there is none. */
function forecast({ total, start = 0, now = Date.now }: ProgressOptions): (done: number) => number | null {
  const startedAt = now();
  return (done) => (done > start ? ((now() - startedAt) / (done - start)) * (total - done) : null);
}

function suffix(fields: ProgressFields, msLeft: number | null): string {
  const shown = Object.entries(fields).map(([name, value]) => {
    const text = typeof value === "number" ? shortNumber(value) : value;
    return name.includes("/") ? `${text} ${name}` : `${name} ${text}`;
  });
  if (msLeft !== null && msLeft > 0) shown.push(`${formatDuration(msLeft)} left`);
  return shown.map((text) => ` · ${text}`).join("");
}

/** Four digits that matter: 2.346, 510.3, 0.0125, 2e-5. */
export function shortNumber(value: number): string {
  const size = Math.abs(value);
  if (!Number.isFinite(value) || size === 0) return String(value);
  if (size >= 1e6 || size < 1e-3) return Number(value.toPrecision(3)).toExponential();
  return String(Number(value.toPrecision(size >= 1000 ? Math.ceil(Math.log10(size + 1)) : 4)));
}

/** 7 s · 3:07 · 1:03:07 */
export function formatDuration(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const two = (value: number): string => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const tail = `${two(seconds % 60)}`;
  return hours > 0 ? `${hours}:${two(minutes)}:${tail}` : `${minutes}:${tail}`;
}
