/** Notices a step that takes far longer than those before it, while it is still under way. */
import { medianOf } from "./spikes.ts";

const TIMES = 10;
/** Steps that the median is taken of, and the fewest for which it says something. */
const WINDOW = 50;
const FEWEST = 5;
/** Shorter waits are the machine's own hiccups, whatever the median. */
const LEAST_MS = 1_000;

/** @param medianMs of the steps before  @param elapsedMs of this one so far */
export type SlowStep = (step: number, elapsedMs: number, medianMs: number) => void;

export class Watchdog {
  readonly #report: SlowStep;
  readonly #durations: number[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(report: SlowStep) {
    this.#report = report;
  }

  /** A step begins: it is reported once, should it take ten times the median, and a second. */
  begin(step: number): void {
    this.end();
    if (this.#durations.length < FEWEST) return;
    const median = medianOf(this.#durations);
    const patience = Math.max(TIMES * median, LEAST_MS);
    this.#timer = setTimeout(() => this.#report(step, patience, median), patience).unref();
  }

  /** The step that began is over. @param elapsedMs what it took, where it was done */
  end(elapsedMs?: number): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    if (elapsedMs === undefined) return;
    this.#durations.push(elapsedMs);
    if (this.#durations.length > WINDOW) this.#durations.shift();
  }
}
