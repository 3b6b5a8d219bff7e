/**
 * metrics.jsonl: a row of log_history a line, and beside it what clock and machine said. It has one row for each that the run has,
 * whatever was trained, broken off and gone back on in between.
 */
import { readFileSync } from "node:fs";
import { isJsonObject, type JsonObject } from "../../utils/json.ts";

export const METRICS = "metrics.jsonl";

export const lineOf = (row: JsonObject): string => `${JSON.stringify(row)}\n`;

/**
 * The rows of `history`, each with what the file knows of it. What the file says of later steps, or of another run, is left
 * out: rows count as the same where all that log_history says of them is.
 */
export function knownRows(file: string, history: readonly JsonObject[]): JsonObject[] {
  const written = new Map(readRows(file).map((row) => [placeOf(row), row]));
  return history.map((row) => {
    const found = written.get(placeOf(row));
    return found && Object.entries(row).every(([key, value]) => isSame(found[key], value)) ? found : row;
  });
}

/** A step has a row of its own, perhaps one for its evaluation, and the last one the end of what a start has trained. */
function placeOf(row: JsonObject): string {
  const kind = "train_runtime" in row ? "end" : "eval_loss" in row ? "evaluation" : "step";
  return `${kind} ${row.step}`;
}

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Whole rows; a kill may have left a part of one. */
function readRows(file: string): JsonObject[] {
  return textOf(file).split("\n").map(parsed).filter(isJsonObject);
}

function textOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // not there, or not readable: log_history tells all but the times
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
