/** What `evalCheckpoint` is asked to evaluate, or `merge` to merge: a run folder, a checkpoint, an adapter, a whole model, or a hub id. */
import { existsSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { namedBase, refuseOtherBase } from "../train/adapterBase.ts";
import { ADAPTER_CONFIG } from "../train/adapterConfig.ts";
import { type Adapter, readAdapter } from "../train/adapterFiles.ts";
import { listCheckpoints } from "../train/checkpointFolders.ts";
import { UserError } from "../utils/errors.ts";
import { isHubId } from "../utils/hub.ts";
import { fetchModel, type Model, type ModelOptions, openModel } from "./model.ts";

export interface Target {
  /** Where it lies. */
  readonly dir: string;
  readonly model: Model;
  /** Null where it is a model itself. */
  readonly adapter: Adapter | null;
}

export interface TargetOptions extends Omit<ModelOptions, "savedBudget"> {
  /** The base of an adapter, where its own word is not to be taken; null: as the adapter says. */
  readonly model: string | null;
}

/**
 * Opens a target on the base that it belongs to, with the pixel budget that it was saved with.
 * @throws UserError where there is nothing to evaluate, or an adapter's base is missing or another one
 */
export async function openTarget(path: string, options: TargetOptions): Promise<Target> {
  const dir = await folderOf(path, options);
  if (existsSync(join(dir, ADAPTER_CONFIG))) return openOnBase(dir, options);
  if (options.model !== null)
    throw new UserError(`--model names the base of an adapter, and ${path} is a whole model; leave --model out`);
  if (!existsSync(join(dir, "config.json"))) throw nothingIn(path, dir);
  return {
    dir,
    model: await openModel({ ...options, model: dir, savedBudget: trainedHere(dir) ? dir : null }),
    adapter: null,
  };
}

const trainedHere = (dir: string): boolean => existsSync(join(dir, "run_config.json"));

async function folderOf(path: string, { log }: TargetOptions): Promise<string> {
  if (existsSync(path) && statSync(path).isDirectory()) return path;
  if (!isHubId(path))
    throw new UserError(
      `"${path}": not found; expected the folder of a run, a checkpoint, an adapter or a model, or a hub id`,
    );
  return fetchModel(path, log);
}

async function openOnBase(dir: string, options: TargetOptions): Promise<Target> {
  const model = await openModel({
    ...options,
    model: options.model ?? baseOf(dir),
    savedBudget: holdsBudget(dir) ? dir : null,
  });
  refuseOtherBase(dir, model.checkpoint);
  return { dir, model, adapter: readOnBase(dir, model) };
}

/** Whether an adapter's folder says to what size pictures were scaled for it. */
export const holdsBudget = (dir: string): boolean =>
  ["preprocessor_config.json", "processor_config.json"].some((name) => existsSync(join(dir, name)));

function readOnBase(dir: string, { checkpoint }: Model): Adapter {
  try {
    return readAdapter(dir, checkpoint);
  } catch (cause) {
    if (!(cause instanceof UserError)) throw cause;
    const hint = `the base here is ${checkpoint.dir}; where it is another, name it with --model`;
    throw new UserError(`${cause.message}\n${hint}`, { cause });
  }
}

/** @returns null for the embedded model, by which adapters trained here on no named model mean it */
function baseOf(dir: string): string | null {
  const name = namedBase(dir);
  if (name === null && !trainedHere(dir))
    throw new UserError(`${join(dir, ADAPTER_CONFIG)}: names no base_model_name_or_path; name the base with --model`);
  if (name !== null && !existsSync(name) && !isHubId(name))
    throw new UserError(`${join(dir, ADAPTER_CONFIG)}: its base "${name}" is not here; name it with --model`);
  return name;
}

function nothingIn(path: string, dir: string): UserError {
  const [newest] = listCheckpoints(dir).whole;
  if (newest)
    return new UserError(
      `${path}: this run has not ended, so it has no result; name its newest checkpoint, ${newest.dir}`,
    );
  return new UserError(`${path}: holds neither an adapter (${ADAPTER_CONFIG}) nor a model (config.json)`);
}

/** A folder's own name; a checkpoint's with that of its run, a hub id's with its owner. */
export function nameOf(path: string): string {
  if (!existsSync(path)) return path.replaceAll("/", "--");
  const dir = resolve(path);
  return /^checkpoint-\d+$/.test(basename(dir)) ? `${basename(dirname(dir))}-${basename(dir)}` : basename(dir);
}
