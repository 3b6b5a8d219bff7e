/**
 * Teaches assets/tiny-qwen3vl to see: from random weights to a model that reads a screen of no user and answers in the
 * right form. Everything follows from the seed.
 *
 *     npx tsx scripts/pretrainTiny.ts [--out DIR] [--steps N] [--seed N]
 */
import path from "node:path";
import { parseArgs } from "node:util";
import { openCheckpoint } from "../src/model/checkpoint.ts";
import { startThread } from "../src/runtime/thread.ts";
import { learningRate, type Schedule } from "../src/train/schedule.ts";
import { mapAhead } from "../src/utils/ahead.ts";
import { float32ToBf16 } from "../src/utils/bf16.ts";
import { required } from "../src/utils/errors.ts";
import { writeSafetensors } from "../src/utils/safetensors.ts";
import { Course } from "./pretrain/course.ts";
import type { Drawer } from "./pretrain/drawer.ts";
import { Pupil } from "./pretrain/pupil.ts";
import { TINY_DIR, TINY_SEED, writeTiny } from "./tiny/model.ts";

const LESSONS_A_STEP = 16;
const PEAK = 1.5e-3;
const WARMUP_STEPS = 150;

const { values: flags } = parseArgs({
  options: {
    out: { type: "string", default: TINY_DIR },
    steps: { type: "string", default: "1000" },
    seed: { type: "string", default: String(TINY_SEED) },
  },
});
const out = path.resolve(flags.out);
const totalSteps = Number(flags.steps);
const seed = Number(flags.seed);
const schedule: Schedule = { kind: "cosine", peak: PEAK, warmupSteps: WARMUP_STEPS, totalSteps };

await writeTiny(out, seed);
const checkpoint = openCheckpoint(out);
const pupil = await Pupil.open(checkpoint);
const drawer = startThread<Drawer>(new URL("./pretrain/drawer.ts", import.meta.url), {
  modelDir: out,
  seed,
  lessons: LESSONS_A_STEP,
});
const course = new Course(totalSteps);
const started = performance.now();
const steps = Array.from({ length: totalSteps }, (_, step) => step);
const lessons = mapAhead(steps, 2, (step) => drawer.remote.draw(step, course.levelAt(step)));
let step = 0;
for await (const batch of lessons) {
  const report = await pupil.learn(batch, learningRate(schedule, step));
  step++;
  course.note(report.digitLoss);
  if (step % 20 === 0 || step === 1) {
    const minutes = ((performance.now() - started) / 60_000).toFixed(2);
    const { loss, digitLoss, pointingLoss, namingLoss, gradNorm } = report;
    const figures = [loss, digitLoss, pointingLoss, namingLoss, gradNorm].map((figure) => figure.toFixed(3));
    console.log(
      `${minutes} min step ${step}: ${course.describe(step)} loss, digits, pointing, naming, norm ${figures.join(" ")}`,
    );
  }
  if (step % 250 === 0 || step === totalSteps) await save();
}
await pupil.release();
await drawer.stop();

async function save(): Promise<void> {
  const tensors = [...checkpoint.tensors.values()].map(({ name, shape }) => {
    const values = float32ToBf16(required(pupil.values.get(name), name));
    return { name, shape, dtype: "BF16" as const, values };
  });
  await writeSafetensors(path.join(out, "model.safetensors"), tensors);
}
