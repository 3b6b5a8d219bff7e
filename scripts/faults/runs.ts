/** Training runs as child processes in folders of their own, and what they leave, for scripts/faults.ts. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { listCheckpoints } from "../../src/train/checkpointFolders.ts";
import { sha256Of } from "../../src/utils/checksums.ts";

const FIXTURE = resolve("test/fixtures/tiny-qwen3vl");
export const MODEL = join(FIXTURE, "model");
const ENTRY = resolve("src/finetuneGlobal.ts");
const TSX = import.meta.resolve("tsx");

/** What trains: how its flags differ, and where it writes by default. */
export interface Kind {
  readonly name: string;
  readonly flags: readonly string[];
  readonly runDir: string;
}

export const LORA: Kind = {
  name: "LoRA",
  flags: ["--lora", "--lora-dropout", "0.1", "--lr", "2e-2"],
  runDir: "checkpoints/global_agent_lora",
};
export const FULL: Kind = {
  name: "full fine-tuning, vision frozen, with a moving average",
  flags: ["--no-train-vision", "--lr", "5e-3", "--ema-decay", "0.9"],
  runDir: "checkpoints/global_agent_full",
};

/** Everything random is in play, the best step is not the last, and every third step saves. */
export const flagsOf = ({ flags }: Kind, model = MODEL): string[] => [
  ...["cpu", ...flags, "--model", model, "--data", join(FIXTURE, "data/train.jsonl"), "--no-eval", "--quiet"],
  ...["--max-steps", "60", "--accumulation", "4", "--warmup-steps", "5", "--val-fraction", "0.25", "--seed", "5"],
  ...["--save-steps", "3", "--eval-steps", "4", "--keep", "3"],
];

export interface Ended {
  readonly code: number | null;
  readonly stderr: string;
  readonly ms: number;
}

export interface Started {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
}

/** @param before words of a program that starts it, such as setpriv */
export function start(args: readonly string[], cwd: string, before: readonly string[] = []): Started {
  const begun = performance.now();
  const [program = "", ...words] = [...before, process.execPath, "--import", TSX, ENTRY, ...args];
  const child = spawn(program, words, { cwd, stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Ended>((done, fail) => {
    child.on("error", fail);
    child.on("close", (code) => done({ code, stderr, ms: performance.now() - begun }));
  });
  return { process: child, ended };
}

/** `--resume` where there is something to go on from, else nothing. */
export const resuming = (runDir: string): string[] => (listCheckpoints(runDir).whole.length > 0 ? ["--resume"] : []);

/** Runs to the end. @throws Error where it does not get there */
export async function finish(kind: Kind, cwd: string, model?: string): Promise<Ended> {
  const ended = await start([...flagsOf(kind, model), ...resuming(join(cwd, kind.runDir))], cwd).ended;
  if (ended.code !== 0) throw new Error(`ended with ${ended.code}: ${ended.stderr}`);
  return ended;
}

/** Starts a run and kills it as soon as `step` is saved. */
export async function killAfterSaving(kind: Kind, cwd: string, step: number, model?: string): Promise<void> {
  const run = start(flagsOf(kind, model), cwd);
  await saved(run, join(cwd, kind.runDir), step);
  run.process.kill("SIGKILL");
  await run.ended;
}

/** Resolves when `checkpoint-step` stands. @throws Error where the run ends first */
export async function saved(run: Started, runDir: string, step: number): Promise<void> {
  let over: Ended | null = null;
  run.ended.then(
    (ended) => {
      over = ended;
    },
    () => undefined,
  );
  while (!existsSync(join(runDir, `checkpoint-${step}`))) {
    if (over !== null) throw new Error(`ended before step ${step} was saved: ${(over as Ended).stderr}`);
    await pause(2);
  }
}

export const pause = (ms: number): Promise<void> => new Promise((resume) => setTimeout(resume, ms));

export function emptyFolder(parent: string, name: string): string {
  const dir = join(parent, name);
  mkdirSync(dir, { recursive: true });
  return dir;
}

/** Files that tell of times: log files, metrics.jsonl, TensorBoard's events. They differ from run to run, and nothing is read back from them. */
const OF_THE_CLOCK = /(^|\/)(logs\/|runs\/|metrics\.jsonl$)/;

/** SHA-256 of every file below a folder but those of the clock, by its path from there. */
export async function sumsOf(dir: string): Promise<ReadonlyMap<string, string>> {
  const files = readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  const sums = new Map<string, string>();
  for (const file of files) {
    const path = file.slice(dir.length + 1);
    if (!OF_THE_CLOCK.test(path)) sums.set(path, await sha256Of(file));
  }
  return sums;
}

/** Files that are in one but not in the other, or differ. */
export const differences = (a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): string[] =>
  [...new Set([...a.keys(), ...b.keys()])].filter((file) => a.get(file) !== b.get(file));

/** Step of the checkpoint that the run ended with as its result, as trainer_state.json tells. */
export const bestStepOf = (runDir: string): number =>
  JSON.parse(readFileSync(join(runDir, "trainer_state.json"), "utf8")).best_global_step;
