/** Training curves that lie beside the answers. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { readTrainerState, TRAINER_STATE } from "../../train/trainerState.ts";
import type { JsonObject } from "../../utils/json.ts";

/** Values by optimizer step. */
export type Curve = readonly (readonly [step: number, value: number])[];

export interface RunCurves {
  readonly name: string;
  readonly loss: Curve;
  readonly validationLoss: Curve;
  readonly learningRate: Curve;
}

export interface Curves {
  readonly global: RunCurves | null;
  /** One for each fold of each person that kept its curves. */
  readonly personal: readonly RunCurves[];
}

/** @throws UserError naming the file that is damaged */
export function readCurves(out: string): Curves {
  const folds = foldersIn(join(out, "personal"), "user").flatMap((user) =>
    foldersIn(join(out, "personal", user), "fold").map((fold) => [user, fold] as const),
  );
  return {
    global: runCurves(join(out, "global_agent"), "global"),
    personal: folds.flatMap(([user, fold]) => {
      const name = `${user}, ${fold}`.replaceAll("_", " ");
      return runCurves(join(out, "personal", user, fold), name) ?? [];
    }),
  };
}

function foldersIn(dir: string, word: string): string[] {
  if (!existsSync(dir)) return [];
  const numbered = readdirSync(dir).filter((name) => new RegExp(`^${word}_\\d+$`).test(name));
  return numbered.sort((a, b) => Number(a.slice(word.length + 1)) - Number(b.slice(word.length + 1)));
}

function runCurves(dir: string, name: string): RunCurves | null {
  if (!existsSync(join(dir, TRAINER_STATE))) return null;
  const rows = readTrainerState(dir).state.log_history;
  return {
    name,
    loss: curveOf(rows, "loss"),
    validationLoss: curveOf(rows, "eval_loss"),
    learningRate: curveOf(rows, "learning_rate"),
  };
}

function curveOf(rows: readonly JsonObject[], field: string): Curve {
  return rows.flatMap(({ step, [field]: value }) =>
    typeof step === "number" && typeof value === "number" ? [[step, value] as const] : [],
  );
}
