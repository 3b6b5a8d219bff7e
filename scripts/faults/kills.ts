/** Runs killed at random moments, saves included, each followed by --resume: what is left in the end, against a run that was let be. */
import { mkdirSync, readdirSync, watch } from "node:fs";
import { join } from "node:path";
import { listCheckpoints } from "../../src/train/checkpointFolders.ts";
import { type Random, randomFrom } from "../../src/utils/random.ts";
import {
  differences,
  emptyFolder,
  finish,
  flagsOf,
  type Kind,
  pause,
  resuming,
  type Started,
  start,
  sumsOf,
} from "./runs.ts";

export interface Kills {
  readonly kills: number;
  /** How many met which moment, told by what they left. */
  readonly moments: Readonly<Record<Moment, number>>;
  /** Runs that were taken to their end, and the files of each that were compared. */
  readonly runs: number;
  readonly files: number;
  /** Files that differ from those of the run that was let be. */
  readonly differences: readonly string[];
}

type Moment =
  | "starting, or before its first save"
  | "between two saves"
  | "writing a checkpoint"
  | "deleting an old one"
  | "writing the result";

/**
 * Kills `count` times, in as many runs as that takes, and lets each come to its end.
 * @param reference what an uninterrupted run wrote
 */
export async function killMany(
  { kind, count, seed, scratch }: { kind: Kind; count: number; seed: number; scratch: string },
  reference: ReadonlyMap<string, string>,
  uninterruptedMs: number,
): Promise<Kills> {
  const random = randomFrom(seed, "kills", kind.name);
  const moments = {
    "starting, or before its first save": 0,
    "between two saves": 0,
    "writing a checkpoint": 0,
    "deleting an old one": 0,
    "writing the result": 0,
  };
  const faults: string[] = [];
  let [kills, runs, files] = [0, 0, 0];
  while (kills < count) {
    const cwd = emptyFolder(scratch, `${kind.runDir.split("_").at(-1)}-${++runs}`);
    for (; kills < count; kills++) {
      const moment = await killOnce(kind, cwd, random, uninterruptedMs);
      if (moment === null) break; // it came to its end first
      moments[moment]++;
      process.stderr.write(
        `${kind.name}, kill ${kills + 1}: ${moment}, newest ${newestStep(join(cwd, kind.runDir))}\n`,
      );
    }
    await finish(kind, cwd);
    const sums = await sumsOf(cwd);
    files += sums.size;
    faults.push(...differences(sums, reference).map((file) => `run ${runs}: ${file}`));
  }
  return { kills, moments, runs, files, differences: faults };
}

/** @returns the moment that the kill met; null where the run was over before */
async function killOnce(kind: Kind, cwd: string, random: Random, uninterruptedMs: number): Promise<Moment | null> {
  const runDir = join(cwd, kind.runDir);
  mkdirSync(runDir, { recursive: true });
  const before = newestStep(runDir);
  const run = start([...flagsOf(kind), ...resuming(runDir)], cwd);
  const watching = new AbortController();
  // half of the kills at any time, the other half aimed at something that is being written or deleted
  const aimed =
    random.uniform() < 0.5 ? pause(random.uniform() * uninterruptedMs) : inTheMidst(runDir, random, watching.signal);
  await Promise.race([aimed, run.ended]);
  watching.abort();
  const isKilled = run.process.kill("SIGKILL");
  const { code } = await run.ended;
  if (!isKilled || code !== null) return null;
  return momentOf(runDir, run, before);
}

const newestStep = (runDir: string): number => listCheckpoints(runDir).whole[0]?.step ?? 0;

/** Names of what is under way, and about how long each stands. */
const CHECKPOINT = { name: /^checkpoint-\d+\.tmp-/, ms: 20 };
const DELETED = { name: /^old-/, ms: 0 };
const RESULT = { name: /^files\.tmp-/, ms: 10 };
const AIMS = [CHECKPOINT, CHECKPOINT, DELETED, RESULT];

/** Some milliseconds after a temporary name of the chosen kind has appeared a few times. */
async function inTheMidst(runDir: string, random: Random, signal: AbortSignal): Promise<void> {
  const aim = random.pick(AIMS);
  const times = aim === RESULT ? 1 : 1 + random.below(4);
  const after = random.uniform() * aim.ms;
  const seen = new Set<string>();
  await new Promise<void>((reached) => {
    watch(runDir, { signal }, (_, name) => {
      if (name !== null && aim.name.test(name)) seen.add(name);
      if (seen.size >= times) reached();
    });
  });
  if (after > 0) await pause(after); // without it, killed at the very event
}

/** @param before the newest step that was saved when the run started */
function momentOf(runDir: string, run: Started, before: number): Moment {
  const names = readdirSync(runDir);
  const left = (pattern: RegExp): boolean =>
    names.some((name) => pattern.test(name) && name.endsWith(`.tmp-${run.process.pid}`));
  if (left(/^files\./)) return "writing the result";
  if (left(/^checkpoint-/)) return "writing a checkpoint";
  if (left(/^old-/)) return "deleting an old one";
  return newestStep(runDir) > before ? "between two saves" : "starting, or before its first save";
}
