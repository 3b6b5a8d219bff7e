/** How an entry begins and ends: signals, messages and exit codes. */

import { Interrupted, UserError } from "../utils/errors.ts";
import { HelpRequested } from "../utils/flags.ts";

export const EXIT_BUG = 1;
export const EXIT_USER_ERROR = 2;
export const EXIT_INTERRUPTED = 130;

/** `npx` and `tsx` pass Ctrl-C on to a program that the terminal has told already: what follows this soon is no second wish. */
const ONE_KEY_PRESS_MS = 500;

/** What an entry is given beside its arguments. */
export interface EntryContext {
  /** Set at the first Ctrl-C or SIGTERM; the second ends the process at once. */
  readonly signal: AbortSignal;
}

/** Runs `main` and sets the exit code: 0 only when it did all it was asked, 2 for the user's mistakes, 130 when interrupted. */
export async function runEntry(
  main: (argv: readonly string[], context: EntryContext) => Promise<void>,
  argv: readonly string[],
): Promise<void> {
  const controller = new AbortController();
  let firstAt: number | null = null;
  const stop = (signal: NodeJS.Signals): void => {
    if (firstAt !== null && performance.now() - firstAt < ONE_KEY_PRESS_MS) return;
    if (firstAt !== null) {
      endAtOnce(signal);
      return;
    }
    firstAt = performance.now();
    process.stderr.write("\nstopping after the work at hand; once more to stop at once\n");
    controller.abort();
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  process.on("SIGXFSZ", () => undefined); // a file over the limit of its size is then an error of writing, and told as such
  try {
    await main(argv, { signal: controller.signal });
  } catch (thrown) {
    process.exitCode = tell(thrown);
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
  if (process.stderr.isTTY) process.stderr.write("\x1b[?25h\x1b[?7h\n"); // a progress bar hides the cursor and holds lines
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}

function tell(thrown: unknown): number {
  if (thrown instanceof HelpRequested) {
    process.stdout.write(`${thrown.message}\n`);
    return 0;
  }
  if (thrown instanceof UserError) {
    process.stderr.write(`${thrown.message}\n`);
    return EXIT_USER_ERROR;
  }
  if (thrown instanceof Interrupted) {
    process.stderr.write(`${thrown.message}\n`);
    return EXIT_INTERRUPTED;
  }
  process.stderr.write(`${thrown instanceof Error ? thrown.stack : String(thrown)}\n`);
  return EXIT_BUG;
}
