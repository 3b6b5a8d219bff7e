/** TensorBoard's files of a run, in `runs/` of its folder, where transformers puts them: one folder a run, one file a start. */
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { type GrowingFile, growingFile } from "../../utils/growingFile.ts";
import type { JsonObject } from "../../utils/json.ts";
import {
  type EventTime,
  restartEvent,
  type Summary,
  summaryEvent,
  versionEvent,
} from "../../utils/tensorBoard/event.ts";
import { framed } from "../../utils/tensorBoard/record.ts";

const RUNS = "runs";

export const runFolder = (runDir: string, run: string): string => join(runDir, RUNS, run);

/** A name that no run in this folder has: `Nov21_15-33-11_host`, as transformers calls it. Source: trainer_utils.default_logdir. */
export function newRunName(runDir: string, now: Date): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${now.toLocaleString("en-US", { month: "short" })}${two(now.getDate())}`;
  const time = [now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join("-");
  const name = `${day}_${time}_${hostname()}`;
  for (let count = 1; ; count++) {
    const free = count === 1 ? name : `${name}_${count}`;
    if (!existsSync(runFolder(runDir, free))) return free;
  }
}

/** One file of events. */
export interface EventFile {
  add(time: EventTime, summaries: readonly Summary[]): void;
  fault: GrowingFile["fault"];
}

/** @param restart the step from which on this file counts instead of earlier ones in the folder; null: it is the first */
export function newEventFile(dir: string, now: Date, restart: number | null): EventFile {
  const seconds = String(Math.floor(now.getTime() / 1000)).padStart(10, "0");
  const wallTime = now.getTime() / 1000;
  const head = [versionEvent(wallTime), ...(restart === null ? [] : [restartEvent({ step: restart, wallTime })])];
  const file = join(dir, `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.0`);
  const { append, fault } = growingFile(file, Buffer.concat(head.map(framed)));
  return {
    add: (time, summaries) => {
      if (summaries.length > 0) append(framed(summaryEvent(time, summaries)));
    },
    fault,
  };
}

/** Fields that say which row it is, not what was measured. */
const PLACE = new Set(["step", "time", "run"]);

/**
 * The numbers of a row as scalars and its words as texts, by transformers' names: `eval_loss` is eval/loss, all else train/...
 * Source: transformers 5.18, integration_utils.rewrite_logs, TensorBoardCallback.on_log.
 */
export function summariesOf(row: JsonObject): Summary[] {
  return Object.entries(row).flatMap(([key, value]): Summary[] => {
    if (PLACE.has(key)) return [];
    const tag = key.startsWith("eval_") ? `eval/${key.slice("eval_".length)}` : `train/${key}`;
    if (typeof value === "number" || typeof value === "boolean") return [{ kind: "scalar", tag, value: Number(value) }];
    return typeof value === "string" ? [{ kind: "text", tag, text: value }] : [];
  });
}
