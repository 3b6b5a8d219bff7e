/**
 * The files of an evaluation: `user_N/` with out.json, results.txt and metrics.json, and summary.json beside them.
 * Answers are kept as they come, so that an interrupted evaluation goes on where it stopped.
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { messageOf, UserError } from "../utils/errors.ts";
import { jsonText, readTextIfThere, writeJson, writeWhole } from "../utils/files.ts";
import { removeUnfinished } from "../utils/folders.ts";
import { pythonDict } from "../utils/python.ts";
import { formatTable } from "../utils/table.ts";
import { type Metrics, mean, metricsOf, type Point, type Scored } from "./grounding.ts";

const point = z.tuple([z.number(), z.number()]);
const answerRow = z.object({
  pred_raw: z.string(),
  gt_coord: point,
  pred_coord: point.nullable(),
  gt_content: z.string(),
  pred_content: z.string(),
});

/** One row of out.json. `pred_coord` is null only in strict parsing. */
export type Answer = Readonly<z.infer<typeof answerRow>>;

/** What the data say about a sample: by it the answers of an interrupted run are matched to the samples. */
export interface Truth {
  readonly gt_coord: Point;
  readonly gt_content: string;
}

/** Scores of a run. `macro` is the mean over users, `micro` the score of all answers together. */
export interface Summary {
  readonly users: Readonly<Record<string, Metrics>>;
  readonly macro: Metrics;
  readonly micro: Metrics;
}

/** The answers of one user, in the order of the samples. */
export interface AnswerBook {
  /** Given so far, those of an interrupted run included: go on with sample number `answers.length`. */
  readonly answers: readonly Answer[];
  add(answer: Answer): Promise<void>;
  /** Writes out.json now: before an evaluation is broken off. */
  flush(): Promise<void>;
  /** Writes out.json, results.txt and metrics.json. */
  finish(): Promise<Metrics>;
}

export interface EvaluationRun {
  /** @param truths one for each sample, in order */
  openUser(user: number, truths: readonly Truth[]): Promise<AnswerBook>;
  /** Writes summary.json over the users that were finished. */
  finish(): Promise<Summary>;
}

const WRITE_EVERY_MS = 1_000; // out.json is written whole each time: for thousands of answers not after each

export const userDir = (dir: string, user: number): string => join(dir, `user_${user}`);

/**
 * Starts an evaluation in `dir`, or goes on with one that was interrupted there.
 * @param identity what the answers follow from (weights, adapter, settings) as JSON: answers of another identity are dropped
 */
export async function openRun(dir: string, identity: object, writeEveryMs = WRITE_EVERY_MS): Promise<EvaluationRun> {
  const summaryFile = join(dir, "summary.json");
  const wasFinished = (await readTextIfThere(summaryFile)) !== null; // then this is a new run, not the rest of one
  await makeDir(dir);
  await rm(summaryFile, { force: true });
  const finished = new Map<number, { metrics: Metrics; scored: readonly Scored[] }>();
  return {
    openUser: async (user, truths) => {
      const folder = userDir(dir, user);
      const kept = wasFinished ? [] : await answersToKeep(folder, identity, truths);
      if (kept.length === 0) await startFolder(folder, identity);
      return bookOf({ folder, kept, writeEveryMs, onFinish: (result) => finished.set(user, result) });
    },
    finish: async () => {
      const summary = summaryOf(finished);
      await writeJson(summaryFile, summary);
      return summary;
    },
  };
}

/** The answers to some samples in a folder of their own; those that are there already, of the same identity, are kept. */
export async function openBook(
  folder: string,
  { identity, truths }: { identity: object; truths: readonly Truth[] },
): Promise<AnswerBook> {
  const kept = await answersToKeep(folder, identity, truths);
  if (kept.length === 0) await startFolder(folder, identity);
  return bookOf({ folder, kept, writeEveryMs: WRITE_EVERY_MS, onFinish: () => undefined });
}

/** Makes a folder, or clears one of what a killed process left half-written. */
async function makeDir(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true }).catch((cause) => {
    throw new UserError(`${dir}: cannot be made: ${messageOf(cause)}`, { cause });
  });
  await removeUnfinished(dir);
}

const IDENTITY_FILE = "evaluation.json";

/** A folder without old results; the identity comes last, so that a folder with one holds nothing of another run. */
async function startFolder(folder: string, identity: object): Promise<void> {
  await makeDir(folder);
  for (const name of [IDENTITY_FILE, "out.json", "results.txt", "metrics.json"])
    await rm(join(folder, name), { force: true });
  await writeJson(join(folder, IDENTITY_FILE), identity);
}

async function answersToKeep(folder: string, identity: object, truths: readonly Truth[]): Promise<readonly Answer[]> {
  const text = await readTextIfThere(join(folder, IDENTITY_FILE));
  if (text?.trim() !== jsonText(identity).trim()) return [];
  const answers = await readAnswers(folder);
  const isPrefix = answers.length <= truths.length && answers.every((answer, i) => isAbout(answer, truths[i]));
  return isPrefix ? answers : [];
}

const isAbout = (answer: Answer, truth: Truth | undefined): boolean =>
  answer.gt_content === truth?.gt_content && isDeepStrictEqual(answer.gt_coord, truth.gt_coord);

function bookOf(of: {
  folder: string;
  kept: readonly Answer[];
  writeEveryMs: number;
  onFinish: (result: { metrics: Metrics; scored: readonly Scored[] }) => void;
}): AnswerBook {
  const answers = [...of.kept];
  let writtenAt = Number.NEGATIVE_INFINITY;
  return {
    answers,
    add: async (answer) => {
      answers.push(answer);
      if (performance.now() - writtenAt < of.writeEveryMs) return;
      await writeAnswers(of.folder, answers);
      writtenAt = performance.now();
    },
    flush: () => writeAnswers(of.folder, answers),
    finish: async () => {
      const scored = answers.map(scoredOf);
      const metrics = metricsOf(scored);
      await writeAnswers(of.folder, answers);
      await writeScores(of.folder, metrics);
      of.onFinish({ metrics, scored });
      return metrics;
    },
  };
}

export const scoredOf = ({ pred_coord, gt_coord }: Answer): Scored => ({ predicted: pred_coord, truth: gt_coord });

const writeAnswers = (folder: string, answers: readonly Answer[]): Promise<void> =>
  writeJson(join(folder, "out.json"), answers);

async function writeScores(folder: string, metrics: Metrics): Promise<void> {
  const { accuracy, mean_l2, median_l2 } = metrics;
  await writeWhole(join(folder, "results.txt"), pythonDict({ accuracy, mean_l2, median_l2 }));
  await writeJson(join(folder, "metrics.json"), metrics);
}

/** @returns the rows of out.json, none where there is no file  @throws UserError naming file and row when it is damaged */
export async function readAnswers(folder: string): Promise<Answer[]> {
  const file = join(folder, "out.json");
  const text = await readTextIfThere(file);
  if (text === null) return [];
  try {
    return z.array(answerRow).parse(JSON.parse(text));
  } catch (cause) {
    const issue = cause instanceof z.ZodError ? cause.issues[0] : undefined;
    const where = issue ? `row ${issue.path.join(".")}: ${issue.message}` : messageOf(cause);
    throw new UserError(`${file}: not a list of answers (${where}); move it away to evaluate anew`, { cause });
  }
}

/** @param users with at least one answer each */
export function summaryOf(users: ReadonlyMap<number, { metrics: Metrics; scored: readonly Scored[] }>): Summary {
  const sorted = [...users].sort(([a], [b]) => a - b);
  const micro = metricsOf(sorted.flatMap(([, { scored }]) => scored));
  return {
    users: Object.fromEntries(sorted.map(([user, { metrics }]) => [String(user), metrics])),
    macro: { ...macroOf(sorted.map(([, { metrics }]) => metrics)), n: micro.n, failures: micro.failures },
    micro,
  };
}

function macroOf(users: readonly Metrics[]): Pick<Metrics, "accuracy" | "mean_l2" | "median_l2"> {
  const meanOf = (values: readonly (number | null)[]): number | null => {
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? null : mean(known);
  };
  return {
    accuracy: mean(users.map(({ accuracy }) => accuracy)),
    mean_l2: meanOf(users.map(({ mean_l2 }) => mean_l2)),
    median_l2: meanOf(users.map(({ median_l2 }) => median_l2)),
  };
}

/** The table at the end of a run: one row a user, then the averages. */
export function formatSummary({ users, macro, micro }: Summary): string {
  const hasFailures = micro.failures > 0;
  const columns = ["user", "n", "accuracy", "mean L2", "median L2", ...(hasFailures ? ["unread"] : [])];
  const row = (name: string, metrics: Metrics): string[] => [
    name,
    String(metrics.n),
    `${(metrics.accuracy * 100).toFixed(2)} %`,
    metrics.mean_l2?.toFixed(1) ?? "-",
    metrics.median_l2?.toFixed(1) ?? "-",
    ...(hasFailures ? [String(metrics.failures)] : []),
  ];
  return formatTable(
    columns.map((name, i) => ({ name, align: i === 0 ? "left" : "right" })),
    [
      ...Object.entries(users).map(([user, metrics]) => row(user, metrics)),
      null,
      row("macro average", macro),
      row("all answers", micro),
    ],
  );
}
