/** Lets a person see which tokens are learnt: in colour on a terminal, in [[ ]] elsewhere. */
import { isVisualToken } from "./mrope.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface ShowOptions {
  readonly tokenizer: Pick<Tokenizer, "decode">;
  /** Runs of these tokens are shown as one, with their number. */
  readonly imageTokenId: number;
  readonly videoTokenId?: number;
  /** The label of a token that is not learnt. */
  readonly ignore: number;
  /** Default: whether standard output is a terminal, unless NO_COLOR is set. */
  readonly isColoured?: boolean;
}

const GREEN = "\x1b[1;32m";
const DIM = "\x1b[2m";
const RESET = "\x1b[0m";

interface Run {
  readonly ids: number[];
  readonly kind: "learnt" | "context" | "image";
}

/** A stretch of one kind, as a person reads it. */
export interface ShownRun {
  readonly kind: Run["kind"];
  readonly text: string;
}

/**
 * The text of one encoded example, its learnt tokens marked. Control characters are written out, so that no text can
 * steer the terminal; newlines stay, with a visible mark.
 * @param encoded inputIds [T] and labels [T]
 */
export function showTokens(
  encoded: { readonly inputIds: Int32Array; readonly labels: Int32Array },
  options: ShowOptions,
): string {
  const isColoured = options.isColoured ?? (process.stdout.isTTY === true && !process.env.NO_COLOR);
  return shownRuns(encoded, options)
    .map((run) => paint(run, isColoured))
    .join("");
}

/** The same, for pages that paint it in their own way. */
export const shownRuns = (
  encoded: { readonly inputIds: Int32Array; readonly labels: Int32Array },
  options: Omit<ShowOptions, "isColoured">,
): ShownRun[] => runsOf(encoded, options).map((run) => ({ kind: run.kind, text: textOf(run, options.tokenizer) }));

function runsOf(
  { inputIds, labels }: { readonly inputIds: Int32Array; readonly labels: Int32Array },
  { ignore, ...visual }: Omit<ShowOptions, "isColoured">,
): Run[] {
  const runs: Run[] = [];
  inputIds.forEach((id, t) => {
    const kind = labels[t] !== ignore ? "learnt" : isVisualToken(id, visual) ? "image" : "context";
    const last = runs.at(-1);
    if (last?.kind === kind) last.ids.push(id);
    else runs.push({ ids: [id], kind });
  });
  return runs;
}

function textOf({ ids, kind }: Run, tokenizer: Pick<Tokenizer, "decode">): string {
  if (kind === "image") return `${tokenizer.decode(ids.slice(0, 1))} x ${ids.length}`;
  return visible(tokenizer.decode(ids));
}

const visible = (text: string): string =>
  text
    .replace(/[\p{Cc}\p{Bidi_Control}]/gu, (char) => (char === "\n" ? char : escaped(char)))
    .replaceAll("\n", "\u21b5\n");

const escaped = (char: string): string => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`;

function paint({ kind, text }: ShownRun, isColoured: boolean): string {
  if (!isColoured) return kind === "learnt" ? `[[${text}]]` : text;
  // each line is painted by itself: pagers forget a colour at the end of a line
  const colour = kind === "learnt" ? GREEN : DIM;
  return text
    .split("\n")
    .map((line) => (line === "" ? "" : `${colour}${line}${RESET}`))
    .join("\n");
}
