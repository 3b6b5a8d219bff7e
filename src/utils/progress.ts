/** How far a long task has got: a few lines drawn in place on a terminal, a plain line every few seconds elsewhere, nothing under `--quiet`. */
import { flow, LiveBlock, type Span } from "./liveBlock.ts";
import type { ColorTerminal, Log } from "./log.ts";

/** What to show beside the count, in this order: `{ loss: 1.25, lr: 2e-3, "tokens/s": 510 }`. Text stands as it is. */
export type ProgressFields = Readonly<Record<string, number | string>>;

export interface Progress {
  /** @param rows fields that belong together: each of these begins a line of its own on a terminal */
  update(done: number, ...rows: readonly ProgressFields[]): void;
  /** Moves the bar on a terminal, with a fraction of a step; what is shown beside it stays. */
  advance(done: number): void;
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
const DRAW_EVERY_MS = 100;
const CLOCK_EVERY_MS = 1_000;

export function startProgress(options: ProgressOptions): Progress {
  const { log } = options;
  const terminal = log.isQuiet ? null : log.terminal;
  const shown = [lineProgress(options, terminal ? log.record : log.line)];
  if (terminal) shown.push(blockProgress(options, terminal));
  return {
    update: (...state) => {
      for (const one of shown) one.update(...state);
    },
    advance: (done) => {
      for (const one of shown) one.advance(done);
    },
    stop: () => {
      for (const one of shown) one.stop();
    },
  };
}

/** @param write shows a line */
function lineProgress(options: ProgressOptions, write: (line: string) => void): Progress {
  const { title, total, now = Date.now } = options;
  const timeLeft = forecast(options);
  let latest: string | null = null;
  let writtenAt = Number.NEGATIVE_INFINITY;
  const flush = (): void => {
    if (latest !== null) write(latest);
    latest = null;
    writtenAt = now();
  };
  return {
    update: (done, ...rows) => {
      const left = timeLeft(done);
      const items = [`${title} ${done}/${total}`, ...rows.flatMap((row) => Object.entries(row)).map(fieldText)];
      if (left !== null && left > 0) items.push(`${formatDuration(left)} left`);
      latest = items.join(" · ");
      if (now() - writtenAt >= LINE_EVERY_MS) flush();
    },
    advance: () => undefined,
    stop: flush,
  };
}

function blockProgress(options: ProgressOptions, terminal: ColorTerminal): Progress {
  const { log, start = 0, now = Date.now } = options;
  const block = new LiveBlock(terminal, terminal.hasColors?.() ?? false);
  const timeLeft = forecast(options);
  const begun = now();
  const state = { done: start, rows: [] as readonly ProgressFields[], left: null as number | null, at: begun };
  let drawnAt = Number.NEGATIVE_INFINITY;
  let isOver = false;
  const draw = (): void => {
    const left = state.left === null ? null : state.left - (now() - state.at);
    block.draw(blockLines(options, { ...state, left, goneMs: now() - begun }, block.columns));
    drawnAt = now();
  };
  const move = (done: number, rows: readonly ProgressFields[]): void => {
    Object.assign(state, { done, rows, left: timeLeft(done), at: now() });
    if (now() - drawnAt >= DRAW_EVERY_MS) draw();
  };
  const clock = setInterval(draw, CLOCK_EVERY_MS).unref();
  draw();
  log.setDisplay({ clear: () => block.clear(), draw });
  return {
    update: (done, ...rows) => move(done, rows),
    advance: (done) => move(done, state.rows),
    stop: () => {
      if (isOver) return;
      isOver = true;
      clearInterval(clock);
      draw();
      log.setDisplay(null);
      block.end();
    },
  };
}

interface BlockState {
  readonly done: number;
  readonly rows: readonly ProgressFields[];
  readonly left: number | null;
  readonly goneMs: number;
}

/** The bar with its times, and the fields below it; the first row stands behind the bar where there is room. */
function blockLines({ title, total }: ProgressOptions, state: BlockState, columns: number): Span[][] {
  const [first = {}, ...others] = state.rows;
  const times = [`${formatDuration(state.goneMs)} gone`];
  if (state.left !== null && state.left > 0) times.push(`${formatDuration(state.left)} left`);
  const head = [
    barItem(title, state.done, total, columns),
    ...times.map((text): Span[] => [{ text }]),
    ...itemsOf(first),
  ];
  const below = others.flatMap((row) => flow(itemsOf(row), columns - INDENT.length).map((line) => [{ text: INDENT }, ...line])); // biome-ignore format: one line
  return [...flow(head, columns), ...below];
}

const INDENT = "  ";
const LONGEST_BAR = 32;
const SHORTEST_BAR = 8;

function barItem(title: string, done: number, total: number, columns: number): Span[] {
  const share = total > 0 ? Math.min(1, done / total) : 1;
  const count = ` ${Math.floor(done)}/${total} ${Math.floor(100 * share)} %`;
  const room = Math.min(LONGEST_BAR, columns - title.length - count.length - 1);
  if (room < SHORTEST_BAR) return [{ text: title, look: "bold" }, { text: count }];
  const full = Math.floor(share * room);
  return [
    { text: `${title} `, look: "bold" },
    { text: "█".repeat(full), look: "green" },
    { text: "░".repeat(room - full), look: "dim" },
    { text: count },
  ];
}

const itemsOf = (row: ProgressFields): Span[][] =>
  Object.entries(row).map(([name, value]) =>
    isUnit(name) ? [{ text: shown(value) }, label(` ${name}`)] : [label(`${name} `), { text: shown(value) }],
  );

const label = (text: string): Span => ({ text, look: "dim" });
const isUnit = (name: string): boolean => name.includes("/");
const shown = (value: number | string): string => (typeof value === "number" ? shortNumber(value) : value);

const fieldText = ([name, value]: [string, number | string]): string =>
  isUnit(name) ? `${shown(value)} ${name}` : `${name} ${shown(value)}`;

/** Time left from the pace since the start of this run; null while there is none. */
function forecast({ total, start = 0, now = Date.now }: ProgressOptions): (done: number) => number | null {
  const startedAt = now();
  return (done) => (done > start ? ((now() - startedAt) / (done - start)) * (total - done) : null);
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
