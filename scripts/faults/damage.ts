/** What goes wrong around a run, one thing at a time: each must leave a usable older checkpoint and one message. */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { newestCheckpoint } from "../../src/train/checkpointFolders.ts";
import { copyProcessorFiles, writeModel } from "../../src/train/modelFiles.ts";
import {
  differences,
  type Ended,
  emptyFolder,
  FULL,
  finish,
  flagsOf,
  type Kind,
  killAfterSaving,
  LORA,
  MODEL,
  resuming,
  saved,
  start,
  sumsOf,
} from "./runs.ts";

export interface Damage {
  readonly what: string;
  /** "as expected", why it could not be tried here, or what was wrong. */
  readonly outcome: string;
  /** What the run said, paths shortened. */
  readonly message: string;
}

export interface Grounds {
  /** An empty folder. */
  readonly scratch: string;
  /** What uninterrupted runs wrote, by the name of their kind. */
  readonly references: Readonly<Record<string, ReadonlyMap<string, string>>>;
}

type Trial = (grounds: Grounds) => Promise<Pick<Damage, "outcome" | "message">>;

export const AS_EXPECTED = "as expected";
const NOT_HERE = "not tried: ";

const isRoot = process.getuid?.() === 0;

/** Runs each trial. */
export async function tryAll(grounds: Grounds): Promise<Damage[]> {
  const results: Damage[] = [];
  for (const [what, trial] of Object.entries(TRIALS)) {
    const scratch = emptyFolder(grounds.scratch, what.replace(/\W+/g, "-"));
    const result = await trial({ ...grounds, scratch }).catch((thrown: unknown) => ({
      outcome: String(thrown),
      message: "",
    }));
    results.push({
      what,
      ...result,
      message: result.message.replaceAll(`${scratch}/`, "").replaceAll(`${scratch}-model`, "MODEL"),
    });
    process.stderr.write(`${what}: ${result.outcome}\n`);
  }
  return results;
}

const TRIALS: Readonly<Record<string, Trial>> = {
  "full disk during a save (tmpfs of 1 MiB)": async (grounds) =>
    onMount("size=1m", grounds, async (cwd) => {
      const full = await start(flagsOf(LORA), cwd).ended;
      const mended = (): void => mount("-o", "remount,size=64m", cwd);
      return await goesOn({ kind: LORA, cwd, ended: full, expected: /the disk is full/, mended }, grounds);
    }),
  "full disk at the start (tmpfs of 64 KiB)": async (grounds) =>
    onMount("size=64k", grounds, async (cwd) => {
      const { code, stderr } = await start(flagsOf(LORA), cwd).ended;
      const isTold = code === 2 && oneLine(stderr) && /the disk is full|ENOSPC/.test(stderr);
      return { outcome: isTold ? AS_EXPECTED : `ended with ${code}`, message: stderr };
    }),
  "a limit on the size of files (ulimit -f)": async (grounds) => {
    await killAfterSaving(FULL, grounds.scratch, 6);
    const limit = ["bash", "-c", 'ulimit -f 1024 && exec "$0" "$@"']; // blocks of 1 KiB: less than the weights take
    const ended = await start([...flagsOf(FULL), "--resume"], grounds.scratch, limit).ended;
    return await goesOn({ kind: FULL, cwd: grounds.scratch, ended, expected: /larger than allowed/ }, grounds);
  },
  "a file system that turns read-only between two runs": async (grounds) =>
    onMount("size=64m", grounds, async (cwd) => {
      await killAfterSaving(LORA, cwd, 6);
      mount("-o", "remount,ro", cwd);
      const ended = await start([...flagsOf(LORA), "--resume"], cwd).ended;
      const mended = (): void => mount("-o", "remount,rw", cwd);
      return await goesOn({ kind: LORA, cwd, ended, expected: /read-only/, mended }, grounds);
    }),
  "a file system that turns read-only during a run": async (grounds) =>
    onMount("size=64m", grounds, async (cwd) => {
      const run = start(flagsOf(LORA), cwd);
      await saved(run, join(cwd, LORA.runDir), 6);
      mount("-o", "remount,ro", cwd, "-f"); // no file may be open for writing at this moment: tried until it takes
      const ended = await run.ended;
      const mended = (): void => mount("-o", "remount,rw", cwd);
      return await goesOn({ kind: LORA, cwd, ended, expected: /read-only/, mended }, grounds);
    }),
  "a run folder that loses its write permission during a run": permissionLost,
  "one bit of the newest checkpoint's moments": (grounds) => damaged(grounds, "optimizer.safetensors", flipBit),
  "the newest checkpoint's adapter cut off": (grounds) =>
    damaged(grounds, "adapter_model.safetensors", (file) => truncateSync(file, readFileSync(file).length - 100)),
  "one digit of the newest checkpoint's log": (grounds) =>
    damaged(grounds, "trainer_state.json", (file) =>
      writeFileSync(file, readFileSync(file, "utf8").replace(/"loss": (\d)/, '"loss": 1$1')),
    ),
  "the newest checkpoint's settings deleted": (grounds) => damaged(grounds, "run_config.json", (file) => rmSync(file)),
  "a shard of the base model deleted between two runs (LoRA)": (grounds) => shardDeleted(LORA, grounds),
  "a shard of the base model deleted during a run (full)": (grounds) => shardDeletedUnderWay(FULL, grounds),
};

interface Stopped {
  readonly kind: Kind;
  readonly cwd: string;
  readonly ended: Ended;
  /** What its one message must say. */
  readonly expected: RegExp;
  /** Takes the obstacle away. */
  readonly mended?: () => void;
  readonly model?: string;
}

/** The run stopped with one message, a checkpoint is usable, and going on from it ends in the bytes of an uninterrupted run. */
async function goesOn({ kind, cwd, ended, expected, mended, model }: Stopped, { references }: Grounds) {
  const faults: string[] = [];
  if (ended.code !== 2) faults.push(`exit code ${ended.code}`);
  if (!oneLine(ended.stderr)) faults.push("not one message");
  if (!expected.test(ended.stderr)) faults.push("another message");
  const { newest } = await newestCheckpoint(join(cwd, kind.runDir));
  if (newest === null) faults.push("no usable checkpoint");
  mended?.();
  await finish(kind, cwd, model);
  faults.push(...comparedWith(references[kind.name], await sumsOf(cwd), model));
  return { outcome: faults.join("; ") || AS_EXPECTED, message: ended.stderr };
}

/** With another folder of the same model the settings name it, so run_config.json differs. */
function comparedWith(
  reference: ReadonlyMap<string, string> | undefined,
  sums: ReadonlyMap<string, string>,
  model?: string,
): string[] {
  const isJudged = (file: string): boolean =>
    model === undefined ||
    !/run_config\.json$|settings\.toml$|SHA256SUMS$|README\.md$|adapter_config\.json$|\.onnx$/.test(file);
  return differences(reference ?? new Map(), sums)
    .filter(isJudged)
    .map((file) => `${file} differs`);
}

const oneLine = (text: string): boolean => text.trim().split("\n").length === 1 && text.trim() !== "";

async function onMount(
  options: string,
  { scratch }: Grounds,
  use: (cwd: string) => ReturnType<Trial>,
): ReturnType<Trial> {
  if (!isRoot) return { outcome: `${NOT_HERE}only root may mount`, message: "" };
  const tried = spawnSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", scratch], { encoding: "utf8" });
  if (tried.status !== 0) return { outcome: `${NOT_HERE}${tried.stderr.trim()}`, message: "" };
  try {
    return await use(scratch);
  } finally {
    spawnSync("umount", ["-l", scratch]);
  }
}

/** Tried again while files are open: a remount waits for none of them. */
function mount(...words: readonly string[]): void {
  for (let tries = 0; tries < 2_000; tries++) {
    if (
      spawnSync(
        "mount",
        words.filter((word) => word !== "-f"),
      ).status === 0
    )
      return;
    if (!words.includes("-f")) break;
  }
  throw new Error(`mount ${words.join(" ")} failed`);
}

/** root, but bound by the permissions of files as anybody is. */
const WITHOUT_POWERS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

async function permissionLost(grounds: Grounds): ReturnType<Trial> {
  const { scratch } = grounds;
  const run = start(flagsOf(LORA), scratch, isRoot ? WITHOUT_POWERS : []);
  const runDir = join(scratch, LORA.runDir);
  await saved(run, runDir, 6);
  chmodSync(runDir, 0o555);
  const ended = await run.ended;
  const mended = (): void => chmodSync(runDir, 0o755);
  return await goesOn({ kind: LORA, cwd: scratch, ended, expected: /no permission/, mended }, grounds);
}

function flipBit(file: string): void {
  const bytes = readFileSync(file);
  const at = Math.floor(0.6 * bytes.length);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(file, bytes);
}

/** A file of the newest checkpoint is damaged: --resume says so and goes on from the one before. */
async function damaged(
  { scratch, references }: Grounds,
  name: string,
  damage: (file: string) => void,
): ReturnType<Trial> {
  await killAfterSaving(LORA, scratch, 9);
  const runDir = join(scratch, LORA.runDir);
  const { newest } = await newestCheckpoint(runDir);
  if (newest === null) return { outcome: "no checkpoint to damage", message: "" };
  damage(join(newest.dir, name));
  const { code, stderr } = await start([...flagsOf(LORA), ...resuming(runDir)], scratch).ended;
  const faults = comparedWith(references[LORA.name], await sumsOf(scratch));
  if (code !== 0) faults.push(`exit code ${code}`);
  if (!oneLine(stderr) || !stderr.includes(`checkpoint-${newest.step}`) || !stderr.includes(name))
    faults.push("not told in one message");
  return { outcome: faults.join("; ") || AS_EXPECTED, message: stderr };
}

/** The tiny model in several files. */
async function shardedModel(dir: string): Promise<string> {
  await writeModel(dir, { checkpoint: openCheckpoint(MODEL), values: new Map(), maxShardBytes: 600_000 });
  await copyProcessorFiles(MODEL, dir);
  return dir;
}

const SHARD = "model-00002-of-00004.safetensors";

async function shardDeleted(kind: Kind, grounds: Grounds): ReturnType<Trial> {
  const model = await shardedModel(`${grounds.scratch}-model`);
  await killAfterSaving(kind, grounds.scratch, 6, model);
  renameSync(join(model, SHARD), join(model, "away"));
  const ended = await start([...flagsOf(kind, model), "--resume"], grounds.scratch).ended;
  const mended = (): void => renameSync(join(model, "away"), join(model, SHARD));
  return await goesOn({ kind, cwd: grounds.scratch, ended, expected: new RegExp(SHARD), mended, model }, grounds);
}

async function shardDeletedUnderWay(kind: Kind, grounds: Grounds): ReturnType<Trial> {
  const model = await shardedModel(`${grounds.scratch}-model`);
  const run = start(flagsOf(kind, model), grounds.scratch);
  await saved(run, join(grounds.scratch, kind.runDir), 6);
  const shard = shardOfVision(model);
  renameSync(join(model, shard), join(model, "away"));
  const ended = await run.ended;
  const mended = (): void => renameSync(join(model, "away"), join(model, shard));
  return await goesOn({ kind, cwd: grounds.scratch, ended, expected: new RegExp(shard), mended, model }, grounds);
}

/** A file that saving copies frozen weights from. */
function shardOfVision(model: string): string {
  const index: { weight_map: Record<string, string> } = JSON.parse(
    readFileSync(join(model, "model.safetensors.index.json"), "utf8"),
  );
  const shard = Object.entries(index.weight_map).find(([name]) => name.startsWith("model.visual."))?.[1];
  if (shard === undefined || !existsSync(join(model, shard))) throw new Error(`${model}: no shard of the vision tower`);
  return shard;
}
