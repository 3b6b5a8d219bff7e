/** Checkpoints of a run: `checkpoint-N/` folders that are whole or not there, and the results at the run folder's top. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { type Checkpoint, openCheckpoint } from "../model/checkpoint.ts";
import type { LoraSettings } from "../model/lora.ts";
import { InternalError, messageOf, required, UserError } from "../utils/errors.ts";
import { writeJson } from "../utils/files.ts";
import { isUnfinished, removeFolder, removeUnfinished, replaceFiles, replaceFolder } from "../utils/folders.ts";
import { type JsonObject, readJsonObject } from "../utils/json.ts";
import { readFloat32, readHeader, type TensorEntry, writeSafetensors } from "../utils/safetensors.ts";
import type { PixelBudget } from "../vision/settings.ts";
import { readAdapterConfig } from "./adapterConfig.ts";
import { openAdapterWeights, writeAdapter } from "./adapterFiles.ts";
import { copyProcessorFiles, refuseSameFolder, removeOtherWeights, writeModel } from "./modelFiles.ts";
import type { NamedArrays, ReplicaState } from "./replica.ts";
import { readTrainerState, TRAINER_STATE, type TrainerState, writeTrainerState } from "./trainerState.ts";

const OPTIMIZER = "optimizer.safetensors";
export const RUN_CONFIG = "run_config.json";

type Shapes = ReadonlyMap<string, readonly number[]>;

/** What a run leaves behind: weights, and how they came about. */
export interface RunResult {
  /** Null where whole parameters were trained. */
  readonly lora: LoraSettings | null;
  /** Trained parameters by Hugging Face or PEFT name. */
  readonly values: NamedArrays;
  readonly shapes: Shapes;
  readonly trainerState: TrainerState;
  /** All settings of the run. */
  readonly runConfig: JsonObject;
}

/** All that is needed to go on as if nothing had happened. */
export interface CheckpointContents extends RunResult, ReplicaState {
  /** How far the run is in its data and what else it needs to know: plain data of the caller's. */
  readonly cursor: JsonObject;
}

/** What checkpoints take over unchanged. */
export interface CheckpointSource {
  /** The model that is trained. */
  readonly checkpoint: Checkpoint;
  /** As the user calls it: a hub id or a folder. */
  readonly baseModel: string | null;
  readonly pixelBudget: PixelBudget;
}

const checkpointName = (step: number): string => `checkpoint-${step}`;

/**
 * Writes `checkpoint-N/`, N being the steps done, under a temporary name, flushes it and renames it.
 * @param contents may be views: they must not change until this is done
 * @returns the folder
 * @throws UserError naming the run folder when it cannot be written; what was there stays, and nothing half-written does
 */
export async function saveCheckpoint(
  runDir: string,
  contents: CheckpointContents,
  source: CheckpointSource,
): Promise<string> {
  const name = checkpointName(contents.trainerState.global_step);
  await explained(runDir, name, async () => {
    refuseSameFolder(runDir, source.checkpoint.dir);
    await replaceFolder(join(runDir, name), async (temporary) => {
      await writeResult(temporary, contents, source);
      await writeSafetensors(join(temporary, OPTIMIZER), optimizerTensors(contents));
      await writeTrainerState(temporary, contents.trainerState, contents.cursor); // last: it marks the rest as done
    });
  });
  return join(runDir, name);
}

/**
 * Writes the adapter or the model, with processor files, trainer_state.json and run_config.json, to the run folder itself.
 * Each file there is the old one or the new one; weights of an earlier run that would be read instead are removed.
 * @throws UserError naming the run folder when it cannot be written
 */
export async function saveFinal(runDir: string, result: RunResult, source: CheckpointSource): Promise<void> {
  await explained(runDir, "the result", async () => {
    refuseSameFolder(runDir, source.checkpoint.dir);
    const written = await replaceFiles(runDir, TRAINER_STATE, async (temporary) => {
      await writeResult(temporary, result, source);
      await writeTrainerState(temporary, result.trainerState, null);
    });
    await removeOtherWeights(runDir, written);
  });
}

async function writeResult(dir: string, result: RunResult, source: CheckpointSource): Promise<void> {
  const { lora, values, shapes, runConfig } = result;
  const { checkpoint, baseModel, pixelBudget } = source;
  const { architecture } = checkpoint;
  if (lora) await writeAdapter(dir, { settings: lora, values, shapes, architecture, baseModel });
  else await writeModel(dir, { checkpoint, values });
  await copyProcessorFiles(checkpoint.dir, dir, pixelBudget);
  await writeJson(join(dir, RUN_CONFIG), runConfig);
}

type Group = "master" | "exp_avg" | "exp_avg_sq";

/** An adapter's file holds its float32 values; a model's may hold rounded ones, so the optimizer's file has them too. */
function optimizerTensors({ lora, values, expAvg, expAvgSq, shapes }: CheckpointContents) {
  const groups: [Group, NamedArrays][] = [
    ["exp_avg", expAvg],
    ["exp_avg_sq", expAvgSq],
  ];
  if (!lora) groups.push(["master", values]);
  return groups.flatMap(([group, arrays]) =>
    [...shapes].map(([parameter, shape]) => {
      const name = `${group}.${parameter}`;
      return { name, shape, dtype: "F32" as const, values: required(arrays.get(parameter), name) };
    }),
  );
}

/** Runs `save`, and tells a failure by the folder, what stands in the way, and what is left to go on from. */
async function explained(runDir: string, what: string, save: () => Promise<void>): Promise<void> {
  try {
    if (existsSync(runDir)) await removeUnfinished(runDir); // first: what it takes up may be needed
    await save();
  } catch (cause) {
    if (cause instanceof InternalError) throw cause;
    const [newest] = listCheckpoints(runDir).whole;
    const left = newest ? `${basename(newest.dir)} is whole and untouched` : "no checkpoint was saved before";
    throw new UserError(`${runDir}: ${what} could not be saved: ${obstacle(cause)}; ${left}`, { cause });
  }
}

const OBSTACLES: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full; free some space, or name another --checkpoint-dir",
  EDQUOT: "the disk quota is used up; free some space, or name another --checkpoint-dir",
  EFBIG: "a file grew larger than allowed here; name another --checkpoint-dir",
  EROFS: "the file system is read-only; name another --checkpoint-dir",
  EACCES: "no permission to write there; name another --checkpoint-dir",
  EPERM: "no permission to write there; name another --checkpoint-dir",
};

function obstacle(thrown: unknown): string {
  for (let cause = thrown; cause instanceof Error; cause = cause.cause) {
    const code = "code" in cause ? String(cause.code) : "";
    if (Object.hasOwn(OBSTACLES, code)) return `${OBSTACLES[code]} (${cause.message})`;
  }
  return messageOf(thrown);
}

export interface FoundCheckpoint {
  readonly dir: string;
  readonly step: number;
}

export interface SkippedCheckpoint {
  readonly dir: string;
  readonly reason: string;
}

/** What a run folder holds, newest first. A checkpoint is whole when all its files are there and as long as they say. */
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

const CHECKPOINT = /^checkpoint-(\d+)(\.tmp-\d+)?$/;

function namesIn(dir: string): string[] {
  if (!existsSync(dir)) return [];
  try {
    return readdirSync(dir);
  } catch (cause) {
    throw new UserError(`${dir}: cannot be read as the folder of a run: ${messageOf(cause)}`, { cause });
  }
}

/** Why a checkpoint cannot be used, or null. */
function faultOf(dir: string, step: number): string | null {
  try {
    const said = openSaved(dir).trainerState.global_step;
    return said === step ? null : `its ${TRAINER_STATE} is of step ${said}`;
  } catch (cause) {
    if (cause instanceof InternalError) throw cause;
    return messageOf(cause).replace(/; download it again$/, "");
  }
}

type Entries = ReadonlyMap<string, TensorEntry>;

interface Saved extends Omit<CheckpointContents, keyof ReplicaState> {
  readonly entries: Readonly<Record<keyof ReplicaState, Entries>>;
}

/** Reads all but the tensors themselves. @throws UserError when something is missing, cut off or at odds */
function openSaved(dir: string): Saved {
  const { state, cursor } = readTrainerState(dir);
  const runConfig = readJsonObject(join(dir, RUN_CONFIG), "it holds the settings of the run");
  const optimizer = tensorsOf(join(dir, OPTIMIZER));
  const group = (name: Group): Entries => groupOf(optimizer, name);
  const isModel = group("master").size > 0;
  if (isModel) for (const file of weightFiles(openCheckpoint(dir))) tensorsOf(file);
  const lora = isModel ? null : readAdapterConfig(dir);
  const values = isModel ? group("master") : tensorsOf(openAdapterWeights(dir).file);
  const entries = { values, expAvg: group("exp_avg"), expAvgSq: group("exp_avg_sq") };
  refuseOdd(dir, values, entries.expAvg, entries.expAvgSq);
  const shapes = new Map([...values].map(([name, { shape }]) => [name, shape]));
  if (!cursor) throw new UserError(`${join(dir, TRAINER_STATE)}: was not written by this program`);
  return { lora, shapes, trainerState: state, runConfig, cursor, entries };
}

const weightFiles = ({ tensors }: Checkpoint): Set<string> => new Set([...tensors.values()].map(({ file }) => file));

/** A file's tensors; nothing may follow the last of them. */
function tensorsOf(file: string): Entries {
  const { tensors } = readHeader(file);
  const end = Math.max(...[...tensors.values()].map(({ offset, byteLength }) => offset + byteLength));
  const { size } = statSync(file);
  if (tensors.size > 0 && size !== end) throw new UserError(`${file}: has ${size} bytes, its header says ${end}`);
  return tensors;
}

function groupOf(tensors: Entries, group: Group): Entries {
  const prefix = `${group}.`;
  const inGroup = [...tensors].filter(([name]) => name.startsWith(prefix));
  return new Map(inGroup.map(([name, entry]) => [name.slice(prefix.length), entry]));
}

function refuseOdd(dir: string, values: Entries, ...moments: readonly Entries[]): void {
  const written = (entries: Entries): string =>
    [...entries]
      .map(([name, { dtype, shape }]) => `${name} ${dtype} ${shape}`)
      .sort()
      .join();
  if (values.size === 0 || moments.some((entries) => written(entries) !== written(values)))
    throw new UserError(`${join(dir, OPTIMIZER)}: its parameters are not those of the weights beside it`);
}

/**
 * Reads a checkpoint back.
 * @param shapes what trains in this run: a checkpoint of other parameters is refused
 * @throws UserError naming the file that is broken, or the parameter that does not fit
 */
export function loadCheckpoint(dir: string, shapes?: Shapes): CheckpointContents {
  const { entries, ...rest } = openSaved(dir);
  if (shapes) refuseOthers(dir, rest.shapes, shapes);
  const read = (found: Entries): NamedArrays => new Map([...found].map(([name, entry]) => [name, readFloat32(entry)]));
  return { ...rest, values: read(entries.values), expAvg: read(entries.expAvg), expAvgSq: read(entries.expAvgSq) };
}

function refuseOthers(dir: string, saved: Shapes, wanted: Shapes): void {
  const other = [...new Set([...wanted.keys(), ...saved.keys()])].find(
    (name) => saved.get(name)?.join() !== wanted.get(name)?.join(),
  );
  if (other === undefined) return;
  const say = (shape: readonly number[] | undefined): string => (shape ? `[${shape}]` : "nothing");
  throw new UserError(
    `${dir}: does not fit this run: "${other}" is ${say(saved.get(other))} in the checkpoint and ${say(wanted.get(other))} here; use the model and the settings that it was saved with`,
  );
}

/**
 * Deletes whole checkpoints but the newest `keep` and the protected ones, and what was left unfinished.
 * @param protect folders or their names: the best, and the one just saved
 * @returns the names deleted
 * @throws UserError when one cannot be deleted
 */
export async function pruneCheckpoints(
  runDir: string,
  keep: number,
  protect: readonly string[] = [],
): Promise<readonly string[]> {
  const safe = new Set(protect.map((dir) => basename(dir)));
  const names = listCheckpoints(runDir).whole.map(({ dir }) => basename(dir));
  const old = names.slice(keep).filter((name) => !safe.has(name));
  try {
    for (const name of old) await removeFolder(join(runDir, name));
    if (existsSync(runDir)) await removeUnfinished(runDir);
  } catch (cause) {
    throw new UserError(`${runDir}: old checkpoints could not be deleted: ${messageOf(cause)}`, { cause });
  }
  return old;
}
