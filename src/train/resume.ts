/** Going on from a checkpoint: which one, with which settings, and where it leaves the run. */
import { dirname, resolve } from "node:path";
import type { RemoteEngine } from "../engine/start.ts";
import { checksumFault } from "../utils/checksums.ts";
import { InternalError, UserError } from "../utils/errors.ts";
import type { JsonObject } from "../utils/json.ts";
import type { Log } from "../utils/log.ts";
import { newestCheckpoint } from "./checkpointFolders.ts";
import { loadCheckpoint } from "./checkpointReader.ts";
import { checkpointsAbove, type Standing } from "./standing.ts";

/** Settings that may differ between a run and its continuation: they change what is shown, written and kept, not the arithmetic. */
const FREE_SETTINGS = new Set([
  "devices",
  "config",
  "preset",
  "out",
  "checkpointDir",
  "logDir",
  "reportTo",
  "quiet",
  "keep",
  "saveSteps",
  "evalSteps",
  "evalGenerate",
  "metricForBestModel",
  "loadBest",
  "earlyStoppingPatience",
  "earlyStoppingThreshold",
  "onNonFinite",
  "eval",
  "users",
  "testData",
  "parse",
  "maxNewTokens",
  "sample",
  "temperature",
  "topP",
  "topK",
  "evalBatchSize",
  "visionCacheGb",
  "base", // a path: what lay there is told apart by its weights
  "saveAdapters",
  "sources",
]);

export interface ResumeOptions {
  readonly runDir: string;
  /** All settings of the run as it is started now. */
  readonly runConfig: JsonObject;
  /** Go on though settings differ. */
  readonly anyway: boolean;
  readonly log: Log;
}

/**
 * Puts a checkpoint's state into the engine.
 * @param from a checkpoint folder, or true for the newest in the run folder whose bytes are as they were saved
 * @throws UserError where there is none, it is damaged, or it was trained with other settings
 */
export async function resumeRun(engine: RemoteEngine, from: string | true, options: ResumeOptions): Promise<Standing> {
  const { runDir, log } = options;
  const dir = from === true ? await newestIn(runDir, log) : from;
  const checkpoint = loadCheckpoint(dir, await engine.trainableShapes());
  const fault = from === true ? null : await checksumFault(dir);
  if (fault !== null) throw new UserError(`--resume ${dir}: ${fault}; name another checkpoint`);
  const { values, average, moments, trainerState: state, runConfig, cursor } = checkpoint;
  refuseChanges(dir, runConfig, options);
  await engine.setState({ values, average: average ?? null, moments });
  log.line(`going on from ${dir}, after step ${state.global_step}`);
  const isOwn = dirname(resolve(dir)) === resolve(runDir);
  return {
    step: state.global_step,
    skipped: countIn(dir, cursor, "skipped"),
    epoch: state.epoch,
    tokens: countIn(dir, cursor, "tokens"),
    history: [...state.log_history],
    savedStep: isOwn ? state.global_step : 0, // one from elsewhere is saved here too
    superseded: checkpointsAbove(runDir, isOwn ? state.global_step : 0),
    formerBest: state.best_model_checkpoint,
  };
}

function countIn(dir: string, cursor: JsonObject, name: string): number {
  const value = cursor[name];
  if (typeof value !== "number") throw new InternalError(`${dir}: the cursor has no number "${name}"`);
  return value;
}

async function newestIn(runDir: string, log: Log): Promise<string> {
  const { newest, skipped } = await newestCheckpoint(runDir);
  for (const { dir, reason } of skipped) log.warn(`--resume skips ${dir}: ${reason.replaceAll(`${dir}/`, "")}`);
  if (newest) return newest.dir;
  throw new UserError(
    `--resume: no whole checkpoint in ${runDir}; leave --resume out to start anew, or name a checkpoint folder`,
  );
}

/** Settings that change the arithmetic and differ, one sentence each. @param free others that may differ too */
export function changedSettings(saved: JsonObject, now: JsonObject, free: readonly string[] = []): string[] {
  const names = new Set([...Object.keys(saved), ...Object.keys(now)]);
  return [...names]
    .filter((name) => !FREE_SETTINGS.has(name) && !free.includes(name))
    .filter((name) => JSON.stringify(saved[name]) !== JSON.stringify(now[name]))
    .map((name) => `${name}: ${said(saved[name])} there, ${said(now[name])} here`);
}

function refuseChanges(dir: string, saved: JsonObject, { runConfig: now, anyway, log }: ResumeOptions): void {
  const changed = changedSettings(saved, now);
  if (changed.length === 0) return;
  const lines = changed.map((line) => `  ${line}`).join("\n");
  if (!anyway)
    throw new UserError(
      `${dir}: was trained with other settings; give the same flags to go on, or --resume-anyway\n${lines}`,
    );
  log.warn(`going on with other settings than ${dir} was trained with\n${lines}`);
}

const said = (value: unknown): string => (value === undefined ? "not set" : JSON.stringify(value));
