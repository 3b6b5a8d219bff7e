/** The checkpoints that stand in a run's folder: which are whole, which is the newest, and which may go. */
import { existsSync, readdirSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { checksumFault } from "../utils/checksums.ts";
import { InternalError, messageOf, UserError } from "../utils/errors.ts";
import { isUnfinished, removeFolder, removeUnfinished } from "../utils/folders.ts";
import { openSaved } from "./checkpointReader.ts";
import { obstacle } from "./obstacles.ts";
import { TRAINER_STATE } from "./trainerState.ts";

export interface FoundCheckpoint {
  readonly dir: string;
  readonly step: number;
}

export interface SkippedCheckpoint {
  readonly dir: string;
  readonly reason: string;
}

/**
 * What a run folder holds, newest first. A checkpoint is whole when all its files are there and as long as they say; their
 * bytes are not read.
 */
export function listCheckpoints(runDir: string): { whole: FoundCheckpoint[]; skipped: SkippedCheckpoint[] } {
  const whole: FoundCheckpoint[] = [];
  const skipped: SkippedCheckpoint[] = [];
  for (const { name, step } of checkpointNames(runDir)) {
    const dir = join(runDir, name);
    const reason = isUnfinished(name) ? "saving it was cut short" : faultOf(dir, step);
    if (reason === null) whole.push({ dir, step });
    else skipped.push({ dir, reason });
  }
  return { whole, skipped };
}

function checkpointNames(runDir: string): { name: string; step: number }[] {
  const found = namesIn(runDir).map((name) => ({ name, step: Number(CHECKPOINT.exec(name)?.[1]) }));
  return found.filter(({ step }) => !Number.isNaN(step)).sort((a, b) => b.step - a.step || (a.name < b.name ? -1 : 1));
}

/** @param step steps done */
export const checkpointName = (step: number): string => `checkpoint-${step}`;
const CHECKPOINT = /^checkpoint-(\d+)(\.tmp-\d+)?$/;

function namesIn(dir: string): string[] {
  if (!existsSync(dir)) return [];
  try {
    return readdirSync(dir);
  } catch (cause) {
    throw new UserError(`${dir}: cannot be read as the folder of a run: ${messageOf(cause)}`, { cause });
  }
}

/**
 * The newest checkpoint whose every byte is as it was saved, and what was passed over on the way to it.
 * @throws UserError when the folder cannot be read
 */
export async function newestCheckpoint(
  runDir: string,
): Promise<{ newest: FoundCheckpoint | null; skipped: SkippedCheckpoint[] }> {
  const { whole, skipped } = listCheckpoints(runDir);
  for (const found of whole) {
    const reason = await checksumFault(found.dir);
    if (reason === null) return { newest: found, skipped: skipped.filter(({ dir }) => stepOf(dir) > found.step) };
    skipped.push({ dir: found.dir, reason });
  }
  return { newest: null, skipped };
}

const stepOf = (dir: string): number => Number(CHECKPOINT.exec(basename(dir))?.[1]);

/** Why the files of a checkpoint cannot be used, or null. */
function faultOf(dir: string, step: number): string | null {
  try {
    const said = openSaved(dir).trainerState.global_step;
    return said === step ? null : `its ${TRAINER_STATE} is of step ${said}`;
  } catch (cause) {
    if (cause instanceof InternalError) throw cause;
    return messageOf(cause).replace(/; download it again$/, "");
  }
}

/** Checkpoints that another run left: kept until the first of this one is safe, but under a name that is not resumed from. */
const earlierName = (name: string): string => `earlier-${name}`;
const EARLIER = /^earlier-checkpoint-\d+$/;

/** Renames checkpoints of a run folder to `earlier-checkpoint-N`. */
export async function putAside(runDir: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    await removeFolder(join(runDir, earlierName(name)));
    await rename(join(runDir, name), join(runDir, earlierName(name)));
  }
}

/**
 * Deletes the oldest checkpoints until `keep` are left, the newest and the protected among them and never deleted; also what
 * was put aside, and what was left unfinished. Source of the order: transformers 5.18, rotate_checkpoints.
 * @param protect folders or their names: the best
 * @returns the names deleted
 * @throws UserError when one cannot be deleted
 */
export async function pruneCheckpoints(
  runDir: string,
  keep: number,
  protect: readonly string[] = [],
): Promise<readonly string[]> {
  const names = listCheckpoints(runDir).whole.map(({ dir }) => basename(dir));
  const old = namesToDelete(names, keep, new Set([...names.slice(0, 1), ...protect.map((dir) => basename(dir))]));
  const aside = namesIn(runDir).filter((name) => EARLIER.test(name));
  try {
    for (const name of [...old, ...aside]) await removeFolder(join(runDir, name));
    if (existsSync(runDir)) await removeUnfinished(runDir);
  } catch (cause) {
    throw new UserError(`${runDir}: old checkpoints could not be deleted: ${messageOf(cause)}`, { cause });
  }
  return old;
}

/** Deletes every checkpoint: what the run made of them is enough. @throws UserError when one cannot be deleted */
export async function removeCheckpoints(runDir: string): Promise<void> {
  try {
    for (const { name } of checkpointNames(runDir)) await removeFolder(join(runDir, name));
  } catch (cause) {
    throw new UserError(`${runDir}: checkpoints could not be deleted: ${messageOf(cause)}`, { cause });
  }
}

/** @param names newest first */
function namesToDelete(names: readonly string[], keep: number, safe: ReadonlySet<string>): string[] {
  const excess = Math.max(0, names.length - Math.max(keep, names.filter((name) => safe.has(name)).length));
  return names
    .filter((name) => !safe.has(name))
    .toReversed()
    .slice(0, excess);
}

/**
 * Makes the folder of a run ready at its start: clears away what killed runs left half-written, and sees that it can be
 * written at all, rather than at the first save.
 * @throws UserError naming the folder and what stands in the way
 */
export async function prepareRunFolder(runDir: string): Promise<void> {
  try {
    await mkdir(runDir, { recursive: true });
    for (const dir of [runDir, join(runDir, "artifacts")]) if (existsSync(dir)) await removeUnfinished(dir);
    const probe = join(runDir, `probe.tmp-${process.pid}`);
    await writeFile(probe, "x").finally(() => rm(probe, { force: true }));
  } catch (cause) {
    throw new UserError(`${runDir}: the run cannot write here: ${obstacle(cause)}`, { cause });
  }
}
