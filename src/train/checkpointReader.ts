/** Checkpoints read back: all that is needed to go on as if nothing had happened. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Checkpoint, openCheckpoint } from "../model/checkpoint.ts";
import type { LoraSettings } from "../model/lora.ts";
import { UserError } from "../utils/errors.ts";
import { type JsonObject, readJsonObject } from "../utils/json.ts";
import { readFloat32, readHeader, readTensorBytes, type TensorEntry } from "../utils/safetensors.ts";
import { ADAPTER_CONFIG, readAdapterConfig } from "./adapterConfig.ts";
import { ADAPTER_WEIGHTS, openAdapterWeights } from "./adapterFiles.ts";
import { MOMENT_GROUPS, type Moment, type MomentGroup, momentShapes, optimOf } from "./moments.ts";
import type { NamedArrays, ReplicaState } from "./replica.ts";
import { readTrainerState, TRAINER_STATE, type TrainerState } from "./trainerState.ts";

export const OPTIMIZER = "optimizer.safetensors";
export const RUN_CONFIG = "run_config.json";

export type Shapes = ReadonlyMap<string, readonly number[]>;

/** What a run leaves behind: weights, and how they came about. */
export interface RunResult {
  /** Null where whole parameters were trained. */
  readonly lora: LoraSettings | null;
  /** Trained parameters by Hugging Face or PEFT name. */
  readonly values: NamedArrays;
  /** What is saved in their place, where a moving average is kept. */
  readonly average?: NamedArrays | null;
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

/**
 * What optimizer.safetensors holds. An adapter's own file has its float32 values, a model's may have rounded ones, and where
 * an average is kept both hold that: then the values themselves are here as `master`, the average as `ema`.
 */
export type Group = "master" | "ema" | MomentGroup;

type Entries = ReadonlyMap<string, TensorEntry>;

interface Saved extends Omit<CheckpointContents, keyof ReplicaState> {
  readonly entries: {
    readonly values: Entries;
    readonly average: Entries | null;
    readonly moments: ReadonlyMap<MomentGroup, Entries>;
  };
}

/** Reads all but the tensors themselves. @throws UserError when something is missing, cut off or at odds */
export function openSaved(dir: string): Saved {
  const { state, cursor } = readTrainerState(dir);
  const runConfig = readJsonObject(join(dir, RUN_CONFIG), "it holds the settings of the run");
  const optimizer = tensorsOf(join(dir, OPTIMIZER));
  const group = (name: Group): Entries => groupOf(optimizer, name);
  const isModel = ![ADAPTER_CONFIG, ADAPTER_WEIGHTS].some((name) => existsSync(join(dir, name)));
  if (isModel) for (const file of weightFiles(openCheckpoint(dir))) tensorsOf(file);
  const lora = isModel ? null : readAdapterConfig(dir);
  const saved = isModel ? group("master") : adapterTensors(dir);
  const average = group("ema").size > 0 ? group("ema") : null;
  const values = average ? group("master") : saved;
  const moments = new Map(MOMENT_GROUPS.map((name) => [name, group(name)] as const).filter(([, of]) => of.size > 0));
  const entries = { values, average, moments };
  refuseOdd(dir, entries, saved);
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

function adapterTensors(dir: string): Entries {
  const { file, tensors } = openAdapterWeights(dir);
  tensorsOf(file); // all there
  return tensors;
}

function groupOf(tensors: Entries, group: Group): Entries {
  const prefix = `${group}.`;
  const inGroup = [...tensors].filter(([name]) => name.startsWith(prefix));
  return new Map(inGroup.map(([name, entry]) => [name.slice(prefix.length), entry]));
}

function refuseOdd(dir: string, { values, average, moments }: Saved["entries"], saved: Entries): void {
  const copies = [saved, average ?? values].every((entries) => written(entries) === written(values));
  const optim = optimOf(moments.keys());
  const expected = [...values].flatMap(([name, { shape }]) =>
    (optim === null ? [] : momentShapes(optim, shape)).map(
      ({ group, dtype, shape: ofMoment }) => `${group}.${name} ${dtype} ${ofMoment}`,
    ),
  );
  const found = [...moments].flatMap(([group, entries]) => lines(entries).map((line) => `${group}.${line}`));
  if (values.size === 0 || optim === null || !copies || found.sort().join() !== expected.sort().join())
    throw new UserError(`${join(dir, OPTIMIZER)}: its parameters are not those of the weights beside it`);
}

const lines = (entries: Entries): string[] =>
  [...entries].map(([name, { dtype, shape }]) => `${name} ${dtype} ${shape}`);
const written = (entries: Entries): string => lines(entries).sort().join();

/**
 * Reads a checkpoint back.
 * @param shapes what trains in this run: a checkpoint of other parameters is refused
 * @throws UserError naming the file that is broken, or the parameter that does not fit
 */
export function loadCheckpoint(dir: string, shapes?: Shapes): CheckpointContents {
  const { entries, ...rest } = openSaved(dir);
  if (shapes) refuseOthers(dir, rest.shapes, shapes);
  const read = (found: Entries): NamedArrays => new Map([...found].map(([name, entry]) => [name, readFloat32(entry)]));
  return {
    ...rest,
    values: read(entries.values),
    ...(entries.average ? { average: read(entries.average) } : {}),
    moments: new Map([...entries.moments].map(([group, found]) => [group, new Map([...found].map(readMoment))])),
  };
}

const readMoment = ([name, entry]: readonly [string, TensorEntry]): [string, Moment] => [
  name,
  entry.dtype === "U8" ? readTensorBytes(entry) : readFloat32(entry),
];

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
