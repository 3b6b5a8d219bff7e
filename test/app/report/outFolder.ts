/** Output folders as the entries write them: the embedded users' own samples and screens, answers drawn by a seed. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { recordSamples } from "../../../src/app/recordSamples.ts";
import { type Example, readDataset } from "../../../src/dataset.ts";
import { ensureEmbeddedData } from "../../../src/embedded/embeddedUsers.ts";
import { type Answer, openBook, openRun, type Truth, userDir } from "../../../src/eval/results.ts";
import { groundingAnswer } from "../../../src/text/groundingPrompt.ts";
import { trainerState, writeTrainerState } from "../../../src/train/trainerState.ts";
import { writeJson } from "../../../src/utils/files.ts";
import { createLog } from "../../../src/utils/log.ts";
import { type Random, randomFrom } from "../../../src/utils/random.ts";

/** Share of right answers, about; the published order. */
export const SKILL = { vanilla: 0.34, global: 0.66, personal: 0.86 } as const;
export type StageName = keyof typeof SKILL;

export interface OutOptions {
  readonly users?: readonly number[];
  readonly stages?: readonly StageName[];
  /** Samples of each user. */
  readonly limit?: number;
  readonly folds?: number;
  readonly steps?: number;
}

const log = createLog({ quiet: true });
const { signal } = new AbortController();

export async function examplesOf(users: readonly number[], limit: number): Promise<Map<number, Example[]>> {
  const folder = await ensureEmbeddedData({ users });
  const examples = await readDataset(folder, { users, limit });
  return new Map(users.map((user) => [user, examples.filter((one) => one.user === String(user))]));
}

/** Fills `out`. @returns what is asked of each user */
export async function writeOut(out: string, options: OutOptions = {}): Promise<Map<number, Example[]>> {
  const { users = [1, 2, 3], stages = ["vanilla", "global", "personal"], limit = 12, folds = 3, steps = 60 } = options;
  const examples = await examplesOf(users, limit);
  if (stages.includes("vanilla")) await writeStage(out, join(out, "qwen3_vanilla"), examples, "vanilla");
  if (stages.includes("global")) {
    await writeStage(out, join(out, "global_agent/test"), examples, "global");
    await writeCurves(join(out, "global_agent"), { steps, validationEvery: 20, seed: 1 });
  }
  if (stages.includes("personal")) await writePersonal(out, examples, folds);
  return examples;
}

async function writeStage(
  out: string,
  dir: string,
  users: ReadonlyMap<number, readonly Example[]>,
  stage: StageName,
): Promise<void> {
  const folders = [...users].map(([user, examples]) => [userDir(dir, user), examples] as const);
  await recordSamples(new Map(folders), { out, log, signal });
  const run = await openRun(dir, { stage });
  for (const [user, examples] of users) {
    const book = await run.openUser(user, examples.map(truthOf));
    for (const example of examples) await book.add(answerOf(example, stage));
    await book.finish();
  }
  await run.finish();
}

async function writePersonal(
  out: string,
  users: ReadonlyMap<number, readonly Example[]>,
  folds: number,
): Promise<void> {
  for (const [user, examples] of users) {
    const folder = userDir(join(out, "personal"), user);
    for (let fold = 0; fold < folds; fold++) {
      const dir = join(folder, `fold_${fold}`);
      const heldOut = examples.filter((_, i) => i % folds === fold);
      await recordSamples(new Map([[dir, heldOut]]), { out, log, signal });
      const book = await openBook(dir, { identity: { fold }, truths: heldOut.map(truthOf) });
      for (const example of heldOut) await book.add(answerOf(example, "personal"));
      await book.finish();
      await writeCurves(dir, { steps: 16, validationEvery: null, seed: 10 * user + fold });
    }
    await writeJson(join(out, `personal/user_${user}_summary.json`), { user, n_folds: folds });
  }
}

const targetOf = ({ target }: Example) => {
  if (!target) throw new Error("an embedded sample without a click point");
  return target;
};

const truthOf = (example: Example): Truth => ({
  gt_coord: targetOf(example).point,
  gt_content: targetOf(example).content,
});

/** Right ones are near; wrong ones hit some other place of the grid. */
export function answerOf(example: Example, stage: StageName): Answer {
  const { point, content } = targetOf(example);
  const random = randomFrom(5, stage, example.id);
  const isRight = random.uniform() < SKILL[stage] + 0.1 * Math.sin(Number(example.user));
  const pred = isRight
    ? point.map((value) => near(value, random))
    : [125 + 250 * random.below(4), 62 + 125 * random.below(8)];
  const [x = 0, y = 0] = pred;
  const said = isRight ? content : random.pick(["red camera icon", "blue mail icon", "back arrow", "green map icon"]);
  return {
    pred_raw: groundingAnswer(said, [x, y]),
    gt_coord: [...point],
    pred_coord: [x, y],
    gt_content: content,
    pred_content: said,
  };
}

const near = (value: number, random: Random): number =>
  Math.max(0, Math.min(1000, Math.round(value + 12 * random.normal())));

interface CurveOptions {
  readonly steps: number;
  readonly validationEvery: number | null;
  readonly seed: number;
}

async function writeCurves(dir: string, { steps, validationEvery, seed }: CurveOptions): Promise<void> {
  mkdirSync(dir, { recursive: true });
  const random = randomFrom(seed, "curve");
  const history = Array.from({ length: steps }, (_, i) => {
    const step = i + 1;
    const loss = 0.25 + 1.6 * Math.exp((-4 * step) / steps) + 0.08 * Math.abs(random.normal());
    const learning_rate = 2e-3 * Math.min(step / 10, 1 - i / steps);
    const row = { step, epoch: step / steps, loss, grad_norm: 1, learning_rate, num_tokens: 900 * step };
    const isValidated = validationEvery !== null && step % validationEvery === 0;
    return isValidated ? [row, { step, epoch: step / steps, eval_loss: loss + 0.05 }] : [row];
  });
  await writeTrainerState(dir, trainerState({ global_step: steps, log_history: history.flat() }), null);
}

/** A folder as another program might leave it: answers and results.txt, nothing else. */
export function writeBare(dir: string, answers: readonly Answer[], accuracy: number): void {
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, "out.json"), JSON.stringify(answers));
  writeFileSync(join(dir, "results.txt"), `{'accuracy': ${accuracy}, 'mean_l2': 1.0, 'median_l2': 1.0}`);
}
