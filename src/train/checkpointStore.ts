/** Writes checkpoints of a run: `checkpoint-N/` folders that are whole or not there, and the results at the run folder's top. */
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import type { Checkpoint } from "../model/checkpoint.ts";
import { writeChecksums } from "../utils/checksums.ts";
import { InternalError, required, UserError } from "../utils/errors.ts";
import { writeJson } from "../utils/files.ts";
import { removeUnfinished, replaceFiles, replaceFolder } from "../utils/folders.ts";
import { writeSafetensors } from "../utils/safetensors.ts";
import type { PixelBudget } from "../vision/settings.ts";
import { writeAdapter } from "./adapterFiles.ts";
import { checkpointName, listCheckpoints, putAside } from "./checkpointFolders.ts";
import { type CheckpointContents, type Group, OPTIMIZER, RUN_CONFIG, type RunResult } from "./checkpointReader.ts";
import { copyProcessorFiles, refuseSameFolder, removeOtherWeights, writeModel } from "./modelFiles.ts";
import { MOMENT_GROUPS, type Moment, momentShapes, optimOf } from "./moments.ts";
import { obstacle } from "./obstacles.ts";
import type { NamedArrays } from "./replica.ts";
import { checkedAdapter } from "./savedAdapter.ts";
import { TRAINER_STATE, writeTrainerState } from "./trainerState.ts";

/** What checkpoints take over unchanged. */
export interface CheckpointSource {
  /** The model that is trained. */
  readonly checkpoint: Checkpoint;
  /** As the user calls it: a hub id or a folder. */
  readonly baseModel: string | null;
  readonly pixelBudget: PixelBudget;
}

/**
 * Writes `checkpoint-N/`, N being the steps done, under a temporary name, with the SHA-256 of each file, flushes it and
 * renames it.
 * @param contents may be views: they must not change until this is done
 * @param superseded names of checkpoints of another run, or of a part of this one that is gone back on: they are put aside
 *   before the new one stands, so that none of them is ever taken for the newest of this run
 * @returns the folder
 * @throws UserError naming the run folder when it cannot be written; what was there stays, and nothing half-written does
 */
export async function saveCheckpoint(
  runDir: string,
  contents: CheckpointContents,
  source: CheckpointSource,
  superseded: readonly string[] = [],
): Promise<string> {
  const name = checkpointName(contents.trainerState.global_step);
  await explained(runDir, name, async () => {
    refuseSameFolder(runDir, source.checkpoint.dir);
    await replaceFolder(join(runDir, name), async (temporary) => {
      await writeResult(temporary, contents, source);
      await writeSafetensors(join(temporary, OPTIMIZER), optimizerTensors(contents));
      await writeTrainerState(temporary, contents.trainerState, contents.cursor);
      await writeChecksums(temporary); // last: it marks the rest as done
      await putAside(runDir, superseded);
    });
  });
  return join(runDir, name);
}

/**
 * Writes the adapter or the model, with processor files, trainer_state.json and run_config.json, to the run folder itself.
 * Each file there is the old one or the new one; weights of an earlier run that would be read instead are removed. An
 * adapter is read back before it takes its place.
 * @throws UserError naming the run folder when it cannot be written
 */
export async function saveFinal(runDir: string, result: RunResult, source: CheckpointSource): Promise<void> {
  await explained(runDir, "the result", async () => {
    refuseSameFolder(runDir, source.checkpoint.dir);
    const written = await replaceFiles(runDir, TRAINER_STATE, async (temporary) => {
      await writeResult(temporary, result, source);
      if (result.lora) checkedAdapter(temporary, source.checkpoint, result.average ?? result.values);
      await writeTrainerState(temporary, result.trainerState, null);
    });
    await removeOtherWeights(runDir, written);
  });
}

async function writeResult(dir: string, result: RunResult, source: CheckpointSource): Promise<void> {
  const { lora, shapes, runConfig } = result;
  const values = result.average ?? result.values;
  const { checkpoint, baseModel, pixelBudget } = source;
  const { architecture } = checkpoint;
  if (lora) await writeAdapter(dir, { settings: lora, values, shapes, architecture, baseModel });
  else await writeModel(dir, { checkpoint, values });
  await copyProcessorFiles(checkpoint.dir, dir, pixelBudget);
  await writeJson(join(dir, RUN_CONFIG), runConfig);
}

/** What the files of the weights do not tell: see Group. */
function optimizerTensors({ lora, values, average, moments, shapes }: CheckpointContents) {
  const copies: [Group, NamedArrays][] = [];
  if (!lora || average) copies.push(["master", values]);
  if (average) copies.push(["ema", average]);
  const optim = optimOf(moments.keys());
  const kept = MOMENT_GROUPS.flatMap((group) =>
    [...shapes].flatMap(([parameter, shape]) => {
      const name = `${group}.${parameter}`;
      const values = (): Moment => required(moments.get(group)?.get(parameter), name);
      const own = (optim === null ? [] : momentShapes(optim, shape)).filter((one) => one.group === group);
      return own.map(({ dtype, shape: ofMoment }) => ({ name, dtype, shape: ofMoment, values }));
    }),
  );
  const copied = copies.flatMap(([group, arrays]) =>
    [...shapes].map(([parameter, shape]) => {
      const name = `${group}.${parameter}`;
      return { name, dtype: "F32" as const, shape, values: required(arrays.get(parameter), name) };
    }),
  );
  return [...kept, ...copied];
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
