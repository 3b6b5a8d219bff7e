/** How an entry begins and ends: signals, messages and exit codes. */

import { Interrupted, UserError } from "../utils/errors.ts";
import { HelpRequested } from "../utils/flags.ts";

export const EXIT_BUG = 1;
export const EXIT_USER_ERROR = 2;
export const EXIT_INTERRUPTED = 130;

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
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(EXIT_INTERRUPTED);
    process.stderr.write("\nstopping after the work at hand; once more to stop at once\n");
    controller.abort();
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  try {
    await main(argv, { signal: controller.signal });
  } catch (thrown) {
    process.exitCode = tell(thrown);
  } finally {
    process.off("SIGINT", stop);
    process.off("SIGTERM", stop);
  }
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
