/** The evaluations that an output folder holds, as far as they are finished: before training, after it, and per person. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { distanceOf, HIT_DISTANCE } from "../../eval/grounding.ts";
import { type Answer, readAnswers, userDir } from "../../eval/results.ts";
import { readSamples, SAMPLES, type SampleRow } from "../../eval/sampleList.ts";
import { UserError } from "../../utils/errors.ts";
import { readTextIfThere } from "../../utils/files.ts";
import { readJsonObject } from "../../utils/json.ts";
import { readPythonDict } from "../../utils/python.ts";

export const STAGES = ["vanilla", "global", "personal"] as const;
export type StageName = (typeof STAGES)[number];

/** Where each stage lies below the output folder, and what makes it. */
export const STAGE_SOURCES: Readonly<Record<StageName, { readonly dir: string; readonly command: string }>> = {
  vanilla: { dir: "qwen3_vanilla", command: "npx tsx src/vanillaEval.ts 0 --u 1 10" },
  global: { dir: "global_agent/test", command: "npx tsx src/finetuneGlobal.ts 0 --lora" },
  personal: { dir: "personal", command: "npx tsx src/finetunePerson.ts 0 --u 1 10" },
};

/** One sample and what one stage answered. */
export interface Case {
  readonly user: number;
  readonly answer: Answer;
  /** What was asked; null where an older evaluation left no list of samples. */
  readonly sample: SampleRow | null;
  /** In thousandths of the screen's sides; null where strict parsing found no point. */
  readonly distance: number | null;
  readonly isHit: boolean;
}

/** Finished users of a stage. A person's samples are those of all folds, each answered by the model that did not train on it. */
export interface Stage {
  readonly name: StageName;
  readonly users: ReadonlyMap<number, readonly Case[]>;
}

export interface Found {
  readonly stages: readonly Stage[];
  /** What is missing or left out, for people. */
  readonly notes: readonly string[];
}

/** @throws UserError naming the file that is damaged */
export async function readStages(out: string): Promise<Found> {
  const notes: string[] = [];
  const stages: Stage[] = [];
  for (const name of STAGES) {
    const { dir, command } = STAGE_SOURCES[name];
    const users = await readUsers(join(out, dir), name === "personal" ? readPerson : readUser, notes);
    if (users.size > 0) stages.push({ name, users });
    else notes.push(`${name}: no finished user in ${join(out, dir)}; \`${command}\` makes it`);
  }
  return { stages, notes };
}

/** Cases of one user, or why the user is left out. */
type ReadUser = (dir: string, user: number, notes: string[]) => Promise<readonly Case[] | string>;

async function readUsers(dir: string, read: ReadUser, notes: string[]): Promise<Map<number, readonly Case[]>> {
  const users = new Map<number, readonly Case[]>();
  for (const user of numbersIn(dir, "user")) {
    const cases = await read(dir, user, notes);
    if (typeof cases === "string") notes.push(`${userDir(dir, user)}: left out: ${cases}`);
    else users.set(user, cases);
  }
  return users;
}

/** Numbers N of the folders `<word>_N`, ascending. */
function numbersIn(dir: string, word: string): number[] {
  if (!existsSync(dir)) return [];
  const names = readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return names
    .flatMap(({ name }) => (new RegExp(`^${word}_\\d+$`).test(name) ? [Number(name.slice(word.length + 1))] : []))
    .sort((a, b) => a - b);
}

const readUser: ReadUser = (dir, user, notes) => readCases(userDir(dir, user), user, notes);

const readPerson: ReadUser = async (dir, user, notes) => {
  const folder = userDir(dir, user);
  const wanted = foldsToldOf(dir, user);
  if (wanted === null) return `there is no user_${user}_summary.json, so not every fold is done`;
  const folds = numbersIn(folder, "fold");
  if (folds.length !== wanted)
    throw new UserError(
      `${folder}: holds ${folds.length} folds, its summary tells of ${wanted}; remove the folds of the older run, or run finetunePerson again`,
    );
  const cases: Case[] = [];
  for (const fold of folds) {
    const inFold = await readCases(join(folder, `fold_${fold}`), user, notes);
    if (typeof inFold === "string") return `fold ${fold}: ${inFold}`;
    cases.push(...inFold);
  }
  refuseRepeats(folder, cases);
  return cases;
};

/** How many folds the user's summary tells of; null where there is none. */
function foldsToldOf(dir: string, user: number): number | null {
  const name = `user_${user}_summary.json`;
  const file = [join(dir, name), join(userDir(dir, user), name)].find((path) => existsSync(path));
  if (file === undefined) return null;
  const { n_folds: folds } = readJsonObject(file, "it tells how many folds there are");
  if (typeof folds === "number" && Number.isInteger(folds) && folds > 0) return folds;
  throw new UserError(`${file}: n_folds is ${JSON.stringify(folds)}; expected the number of folds`);
}

/** Each sample is held out once: a second answer would count it twice. */
function refuseRepeats(folder: string, cases: readonly Case[]): void {
  const seen = new Set<string>();
  for (const { sample } of cases) {
    if (sample && seen.has(sample.id))
      throw new UserError(
        `${folder}: sample ${sample.id} is held out in two folds; they are of different runs: run finetunePerson again`,
      );
    if (sample) seen.add(sample.id);
  }
}

/** @returns why there is nothing to report, where the evaluation did not end */
async function readCases(folder: string, user: number, notes: string[]): Promise<readonly Case[] | string> {
  const answers = await readAnswers(folder);
  const results = await readTextIfThere(join(folder, "results.txt"));
  if (results === null || answers.length === 0) return `not finished (${answers.length} answers so far)`;
  const samples = await readSamples(folder);
  if (samples && samples.length !== answers.length)
    throw new UserError(
      `${join(folder, SAMPLES)}: tells of ${samples.length} samples, out.json answers ${answers.length}; evaluate again`,
    );
  const cases = answers.map((answer, i) => caseOf(user, answer, samples?.[i] ?? null));
  notes.push(...otherScores(join(folder, "results.txt"), results, cases));
  return cases;
}

function caseOf(user: number, answer: Answer, sample: SampleRow | null): Case {
  const { pred_coord, gt_coord } = answer;
  const distance = pred_coord && distanceOf(pred_coord, gt_coord);
  return { user, answer, sample, distance, isHit: distance !== null && distance <= HIT_DISTANCE };
}

const SAME_SCORE = 1e-9;

/** results.txt is written after out.json, from the same answers: where they differ, one was changed since. */
function otherScores(file: string, text: string, cases: readonly Case[]): string[] {
  const told = readPythonDict(text)?.accuracy;
  if (typeof told !== "number")
    throw new UserError(`${file}: holds no accuracy; expected a line like {'accuracy': 0.5, ...}; evaluate again`);
  const counted = cases.filter(({ isHit }) => isHit).length / cases.length;
  if (Math.abs(told - counted) <= SAME_SCORE) return [];
  return [`${file}: says accuracy ${told}, the answers beside it come to ${counted}; the report counts the answers`];
}
