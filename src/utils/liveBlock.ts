/** A few lines at the bottom of a terminal that are drawn anew in place, other lines going above them. */
import { widthOf } from "./table.ts";

/** What is drawn on. */
export interface Terminal {
  write(text: string): unknown;
  readonly columns?: number;
}

/** A stretch of text, and how it looks where the terminal has colours. */
export interface Span {
  readonly text: string;
  readonly look?: keyof typeof LOOKS;
}

const LOOKS = { bold: "\x1b[1m", dim: "\x1b[2m", green: "\x1b[32m" } as const;
const PLAIN = "\x1b[0m";
const HIDE_CURSOR = "\x1b[?25l";
export const SHOW_CURSOR = "\x1b[?25h";
const ERASE_BELOW = "\x1b[J";
const UNKNOWN_WIDTH = 80;

export class LiveBlock {
  readonly #terminal: Terminal;
  readonly #hasColors: boolean;
  /** Widths of the lines on the screen; the cursor stands at the end of the last. */
  #drawn: readonly number[] = [];

  constructor(terminal: Terminal, hasColors: boolean) {
    this.#terminal = terminal;
    this.#hasColors = hasColors;
  }

  /** Columns that a line may take: one is left free, or terminals would go on in the next line. */
  get columns(): number {
    return (this.#terminal.columns || UNKNOWN_WIDTH) - 1; // some pseudo-terminals say 0
  }

  /** Replaces what is drawn, in one piece, so that nothing flickers. Lines longer than the terminal is wide are cut. */
  draw(lines: readonly (readonly Span[])[]): void {
    const fitting = lines.map((line) => cutTo(line, this.columns));
    const painted = fitting.map((line) => line.map((span) => this.#painted(span)).join("")).join("\n");
    this.#terminal.write(`${HIDE_CURSOR}${this.#erasing()}${painted}`);
    this.#drawn = fitting.map((line) => line.reduce((sum, { text }) => sum + widthOf(text), 0));
  }

  /** Takes the block away; the cursor stands where it began. */
  clear(): void {
    this.#terminal.write(this.#erasing());
    this.#drawn = [];
  }

  /** Leaves what is drawn where it is, and what follows below it. */
  end(): void {
    this.#terminal.write(`${this.#drawn.length > 0 ? "\n" : ""}${SHOW_CURSOR}`);
    this.#drawn = [];
  }

  /** A terminal made narrower meanwhile has broken lines into several. */
  #erasing(): string {
    const width = this.columns + 1;
    const rows = this.#drawn.reduce((sum, length) => sum + Math.max(1, Math.ceil(length / width)), 0);
    return `\r${rows > 1 ? `\x1b[${rows - 1}A` : ""}${ERASE_BELOW}`;
  }

  #painted({ text, look }: Span): string {
    return look && this.#hasColors ? `${LOOKS[look]}${text}${PLAIN}` : text;
  }
}

/** @param columns what the line may take */
function cutTo(line: readonly Span[], columns: number): Span[] {
  const kept: Span[] = [];
  let left = columns;
  for (const span of line) {
    const width = widthOf(span.text);
    if (width > left) return [...kept, { ...span, text: headOf(span.text, left) }];
    kept.push(span);
    left -= width;
  }
  return kept;
}

function headOf(text: string, columns: number): string {
  if (columns < 1) return "";
  let head = "";
  for (const char of text) {
    if (widthOf(head + char) > columns - 1) break;
    head += char;
  }
  return `${head}…`;
}

/** Lays items out in lines no longer than `columns`, parted by a dot; what does not fit begins a new line, set in a little. */
export function flow(items: readonly (readonly Span[])[], columns: number, indent = "  "): Span[][] {
  const lines: Span[][] = [];
  let used = 0;
  for (const item of items) {
    const width = item.reduce((sum, { text }) => sum + widthOf(text), 0);
    const last = lines.at(-1);
    if (last && used + SEPARATOR.text.length + width <= columns) {
      last.push(SEPARATOR, ...item);
      used += SEPARATOR.text.length + width;
    } else {
      lines.push(last ? [{ text: indent }, ...item] : [...item]);
      used = (last ? indent.length : 0) + width;
    }
  }
  return lines;
}

const SEPARATOR: Span = { text: " · ", look: "dim" };
