/** How an entry begins and ends: signals, messages and exit codes. */

import { Interrupted, messageOf, UserError } from "../utils/errors.ts";
import { HelpRequested } from "../utils/flags.ts";
import { SHOW_CURSOR } from "../utils/liveBlock.ts";
import type { Log } from "../utils/log.ts";
import { formatDuration } from "../utils/progress.ts";
import { type LogSettings, type OpenLog, openLog } from "./logFile.ts";

export const EXIT_BUG = 1;
export const EXIT_USER_ERROR = 2;
export const EXIT_INTERRUPTED = 130;

/** `npx` and `tsx` pass Ctrl-C on to a program that the terminal has told already: what follows this soon is no second wish. */
const ONE_KEY_PRESS_MS = 500;

/** What an entry is given beside its arguments. */
export interface EntryContext {
  /** Set at the first Ctrl-C or SIGTERM; the second ends the process at once. */
  readonly signal: AbortSignal;
  /** The log of this start, `name` being what its file begins with: how it ends is told there too. */
  readonly openLog: (settings: LogSettings, name: string) => Log;
}

/** Runs `main` and sets the exit code: 0 only when it did all it was asked, 2 for the user's mistakes, 130 when interrupted. */
export async function runEntry(
  main: (argv: readonly string[], context: EntryContext) => Promise<void>,
  argv: readonly string[],
): Promise<void> {
  const controller = new AbortController();
  const begun = performance.now();
  let opened: OpenLog | null = null;
  const open = (settings: LogSettings, name: string): Log => {
    opened = openLog(settings, name);
    return opened.log;
  };
  let firstAt: number | null = null;
  const stop = (signal: NodeJS.Signals): void => {
    if (firstAt !== null && performance.now() - firstAt < ONE_KEY_PRESS_MS) return;
    if (firstAt !== null) {
      endAtOnce(signal);
      return;
    }
    firstAt = performance.now();
    const text = "stopping after the work at hand; once more to stop at once";
    if (opened) opened.log.urge(text);
    else process.stderr.write(`\n${text}\n`);
    controller.abort();
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  process.on("SIGXFSZ", () => undefined); // a file over the limit of its size is then an error of writing, and told as such
  try {
    await main(argv, { signal: controller.signal, openLog: open });
    noteEnd(opened, { code: 0, elapsedMs: performance.now() - begun });
  } catch (thrown) {
    const code = tell(thrown);
    process.exitCode = code;
    noteEnd(opened, { code, thrown, elapsedMs: performance.now() - begun });
  } finally {
    process.off("SIGINT", stop);
    process.off("SIGTERM", stop);
  }
}

/**
 * Dies of the signal itself, which shells report as 130 for Ctrl-C. `process.exit` would cut the engine's thread off inside
 * the runtime's native code, which aborts the process with a crash report.
 */
function endAtOnce(signal: NodeJS.Signals): void {
  if (process.stderr.isTTY) process.stderr.write(`${SHOW_CURSOR}\n`); // displays hide it
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}

interface Ending {
  readonly code: number;
  readonly thrown?: unknown;
  readonly elapsedMs: number;
}

/** A file that holds less than it should is told where nothing else went wrong. */
function noteEnd(opened: OpenLog | null, { code, thrown, elapsedMs }: Ending): void {
  if (!opened) return;
  const { log, file } = opened;
  if (thrown !== undefined) file.write(textOf(thrown));
  file.write(`ended with exit code ${code} after ${formatDuration(elapsedMs)}`);
  const fault = file.fault();
  if (code === 0 && fault !== null) log.warn(`${file.file}: holds no more than what came before ${fault}`);
}

/** A mistake or an interruption is told in a sentence, a bug with where it was. */
function textOf(thrown: unknown): string {
  if (thrown instanceof UserError || thrown instanceof Interrupted) return messageOf(thrown);
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}

function tell(thrown: unknown): number {
  if (thrown instanceof HelpRequested) {
    process.stdout.write(`${thrown.message}\n`);
    return 0;
  }
  process.stderr.write(`${textOf(thrown)}\n`);
  if (thrown instanceof UserError) return EXIT_USER_ERROR;
  return thrown instanceof Interrupted ? EXIT_INTERRUPTED : EXIT_BUG;
}
