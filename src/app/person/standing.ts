/** How far agents have come in an earlier run of the same settings; what other settings left is cleared away. */
import { existsSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type Answer, readAnswers } from "../../eval/results.ts";
import { newestCheckpoint } from "../../train/checkpointFolders.ts";
import { RUN_CONFIG } from "../../train/checkpointReader.ts";
import { changedSettings } from "../../train/resume.ts";
import { readTrainerState, TRAINER_STATE } from "../../train/trainerState.ts";
import { removeFolder } from "../../utils/folders.ts";
import { type JsonObject, readJsonObject } from "../../utils/json.ts";
import type { Log } from "../../utils/log.ts";
import type { Agent } from "./agents.ts";

export type Standing =
  | { readonly at: "new" | "begun" | "trained" }
  /** With what it answered. */
  | { readonly at: "scored"; readonly answers: readonly Answer[] };

/** Settings of a run that change answers, but no weights. */
const OF_ANSWERS = ["parse", "maxNewTokens", "sample", "temperature", "topP", "topK"];

/**
 * Where each agent stands. Folders that hold another run's agents are emptied, with one warning: as any new run does, this one
 * replaces what lies there.
 */
export async function standings(
  agents: readonly Agent[],
  { saveAdapters, log }: { readonly saveAdapters: boolean; readonly log: Log },
): Promise<Map<Agent, Standing>> {
  const differences = agents.flatMap(({ answersDir, training }) =>
    [answersDir, training.runDir].flatMap((dir) => {
      const saved = settingsIn(dir);
      return saved ? differencesOf(saved, training.runConfig) : [];
    }),
  );
  const [first, ...more] = new Set(differences);
  if (first !== undefined)
    log.warn(
      `agents of an earlier run differ and are trained anew (--out and --checkpoint-dir keep both): ${[first, ...more.slice(0, 3)].join("; ")}${more.length > 3 ? "; ..." : ""}`,
    );
  const found = new Map<Agent, Standing>();
  for (const agent of agents) found.set(agent, await standingOf(agent, saveAdapters));
  await clear(found);
  return found;
}

/** A list of samples is long and follows from the rest: that they differ is enough. */
const differencesOf = (saved: JsonObject, now: JsonObject): string[] =>
  changedSettings(saved, now).map((line) => /^(samples|startsFrom|examples|rows|totalSteps):/.exec(line)?.[1] ?? line);

/** Of the run that ended in a folder, or of its newest checkpoint. */
function settingsIn(dir: string): JsonObject | null {
  const folders = [dir, ...namesIn(dir, /^checkpoint-\d+$/).map((name) => join(dir, name))];
  const file = folders.map((folder) => join(folder, RUN_CONFIG)).find((path) => existsSync(path));
  return file === undefined ? null : readJsonObject(file, "it holds the settings of the run");
}

const namesIn = (dir: string, pattern: RegExp): string[] =>
  existsSync(dir) ? readdirSync(dir).filter((name) => pattern.test(name)) : [];

const isSame = (dir: string, now: JsonObject): boolean => {
  const saved = settingsIn(dir);
  return saved !== null && changedSettings(saved, now).length === 0;
};

/** @param needsAdapter whether an agent without its adapter is to be trained once more */
async function standingOf({ answersDir, training, heldOut }: Agent, needsAdapter: boolean): Promise<Standing> {
  const { runDir, runConfig } = training;
  const isTrained = isSame(runDir, runConfig) && isWhole(runDir);
  if (isSame(answersDir, runConfig) && hasSameAnswering(answersDir, runConfig) && (isTrained || !needsAdapter)) {
    const answers = await readAnswers(answersDir);
    if (answers.length === heldOut.length) return { at: "scored", answers };
  }
  if (isTrained) return { at: "trained" };
  if (!isSame(runDir, runConfig)) return { at: "new" };
  return { at: (await newestCheckpoint(runDir)).newest === null ? "new" : "begun" };
}

function hasSameAnswering(dir: string, now: JsonObject): boolean {
  const saved = settingsIn(dir) ?? {};
  return OF_ANSWERS.every((name) => JSON.stringify(saved[name]) === JSON.stringify(now[name]));
}

/** The trainer's state comes last when a run ends, and says that all its steps are done. */
function isWhole(runDir: string): boolean {
  if (!existsSync(join(runDir, TRAINER_STATE))) return false;
  const { global_step: done, max_steps: all } = readTrainerState(runDir).state;
  return done === all;
}

/** Takes away folds that are of no agent here, or will be made anew. */
async function clear(standings: ReadonlyMap<Agent, Standing>): Promise<void> {
  const users = new Set<string>();
  const kept = new Set<string>();
  for (const [{ answersDir, training }, { at }] of standings) {
    users.add(dirname(answersDir)).add(dirname(training.runDir));
    if (at === "scored" || at === "trained") kept.add(answersDir); // those given so far are judged by the weights they came from
    if (at !== "new") kept.add(training.runDir);
  }
  for (const user of users) {
    const folds = namesIn(user, /^fold_\d+$/).map((name) => join(user, name));
    for (const dir of folds) if (!kept.has(dir)) await removeFolder(dir);
    await rm(join(dirname(user), `${basename(user)}_summary.json`), { force: true });
  }
}
