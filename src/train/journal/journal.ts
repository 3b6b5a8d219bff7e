/** What a run tells while it trains: metrics.jsonl, and TensorBoard's events. Nothing is read back from it but by itself, when it goes on. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { growingFile } from "../../utils/growingFile.ts";
import type { JsonObject } from "../../utils/json.ts";
import type { Summary } from "../../utils/tensorBoard/event.ts";
import { type EventFile, newEventFile, newRunName, runFolder, summariesOf } from "./eventFile.ts";
import { knownRows, lineOf, METRICS } from "./metricsFile.ts";

/** Programs that the rows are also told to, by transformers' name for the setting. */
export type ReportTo = "tensorboard" | "none";

export interface JournalOptions {
  readonly runDir: string;
  readonly reportTo: ReportTo;
  /** log_history up to where the run goes on; empty where it begins. */
  readonly history: readonly JsonObject[];
  /** Steps done. */
  readonly step: number;
  /** Tests bring their own clock. */
  readonly now?: () => Date;
}

export interface Journal {
  /** @param row of log_history  @param figures beside it */
  note(row: JsonObject, figures: JsonObject): void;
  /** Texts and pictures, for TensorBoard alone. */
  show(step: number, summaries: readonly Summary[]): void;
  /** Whether TensorBoard is told, and knows nothing of this run yet but its rows. */
  readonly isNew: boolean;
  /** What could not be written, once. */
  faults(): string[];
}

/** Rows of steps after `step`, which the run goes back on, are dropped from the file, and no longer shown by TensorBoard. */
export function openJournal({ runDir, reportTo, history, step, now = () => new Date() }: JournalOptions): Journal {
  const file = join(runDir, METRICS);
  const known = history.length > 0 ? knownRows(file, history) : [];
  const earlier = sharedRun(known);
  const isNew = earlier === null || !existsSync(runFolder(runDir, earlier));
  const run = isNew ? newRunName(runDir, now()) : earlier;
  const metrics = growingFile(file, known.map(lineOf).join(""));
  const events = reportTo === "none" ? null : newEventFile(runFolder(runDir, run), now(), isNew ? null : step + 1);
  if (isNew && events) for (const row of known) addRow(events, row, now());
  const files = [metrics, ...(events ? [{ ...events, file: runFolder(runDir, run) }] : [])];
  const told = new Set<string>();
  return {
    isNew: isNew && events !== null,
    note: (row, figures) => {
      const time = now();
      metrics.append(lineOf({ ...row, ...figures, time: time.toISOString(), run }));
      if (events) addRow(events, { ...row, ...figures }, time);
    },
    show: (at, summaries) => events?.add({ step: at, wallTime: now().getTime() / 1000 }, summaries),
    faults: () =>
      files.flatMap((one) => {
        const fault = one.fault();
        if (fault === null || told.has(one.file)) return [];
        told.add(one.file);
        return [`${one.file}: holds no more than what came before ${fault}`];
      }),
  };
}

/** The run that all rows are of; null where it is not known of one of them. */
function sharedRun(rows: readonly JsonObject[]): string | null {
  const run = rows.at(-1)?.run;
  return typeof run === "string" && rows.every((row) => row.run === run) ? run : null;
}

function addRow(events: EventFile, row: JsonObject, now: Date): void {
  const written = typeof row.time === "string" ? Date.parse(row.time) : Number.NaN;
  const wallTime = (Number.isNaN(written) ? now.getTime() : written) / 1000;
  events.add({ step: Number(row.step), wallTime }, summariesOf(row));
}
