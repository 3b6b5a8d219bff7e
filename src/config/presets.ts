/** What `--preset NAME` sets. Model and data are never named here: they are the user's. */
import { InternalError } from "../utils/errors.ts";
import type { Values } from "../utils/flags.ts";
import type { Alternatives } from "../utils/layers.ts";
import { type DATA, PIXEL_CAP, type TRAINED_SAMPLES } from "./data.ts";
import type { ANSWERING } from "./evaluation.ts";
import type { PRESETS, RUN } from "./files.ts";
import type { ADAPTER } from "./lora.ts";
import type { OPTIMIZATION } from "./optimizer.ts";
import type { PERSONAL_AGENTS } from "./person.ts";
import type { CHECKPOINTS } from "./saving.ts";
import type { SPLITS } from "./splits.ts";

/** Of each of these groups one setting says it: given in a stronger place, it replaces the others of its group. */
export const ALTERNATIVES: Alternatives = [
  ["epochs", "maxSteps"],
  ["maxPixels", "maxImageTokens"],
  ["valUsers", "valData", "valFraction"],
];

type Tables = typeof DATA &
  typeof TRAINED_SAMPLES &
  typeof SPLITS &
  typeof ADAPTER &
  typeof OPTIMIZATION &
  typeof CHECKPOINTS &
  typeof ANSWERING &
  typeof RUN;
type Preset = Partial<Values<Tables>>;
type PersonPreset = Partial<Values<typeof OPTIMIZATION & typeof PERSONAL_AGENTS>>;
type Name = (typeof PRESETS)[number];

/** Sees every stage at work: training, a checkpoint, a validation loss, answers. */
const DEBUG = {
  ...{ limit: 4, maxSteps: 4, batchSize: 1, accumulation: 2, warmupSteps: 1 },
  ...{ saveSteps: 2, evalSteps: 2, maxNewTokens: 48 },
} satisfies Preset;

/** Of the embedded users, two of each kind are enough. */
const DEBUG_USERS = { trainUsers: [11, 12], valUsers: [74], users: [1, 2] } satisfies Preset;

/** What the embedded model's run does, on any data: one pass over as many samples of each user as an embedded user has. */
const QUICK = { limit: 48, epochs: 1 } satisfies Preset;

/** Of the per-user pipeline (FingerTip-20K, arXiv 2507.21071, and its public repository). Labels and loss as its trainer had them. */
const PAPER = {
  ...{ loraR: 4, loraAlpha: 32, loraDropout: 0.1, maxPixels: PIXEL_CAP, seed: 42 },
  ...{ lr: 1e-6, schedule: "linear", warmupSteps: 50, weightDecay: 0.01, maxGradNorm: 1 },
  ...{ epochs: 1, batchSize: 1, accumulation: 8, labelMode: "pigg", lossNormalization: "microbatch-mean" },
  ...{ saveSteps: 1000, evalSteps: 1000, keep: 3, metricForBestModel: "eval_loss", loadBest: true },
  ...{ maxNewTokens: 512, parse: "compatible" },
} satisfies Preset;

const PRESET_VALUES: Readonly<Record<Name, Preset>> = { debug: DEBUG, quick: QUICK, paper: PAPER };

/** The same of personal agents. How many passes suit one user's data is the model's own default. */
const PERSON_VALUES: Readonly<Record<Name, Preset & PersonPreset>> = {
  debug: { ...DEBUG, folds: 2, foldBy: "step", maxSteps: 2, accumulation: 1 }, // so few samples may be of one episode
  quick: { limit: QUICK.limit },
  paper: { ...PAPER, lr: 2e-5, epochs: 3, accumulation: 4, warmupSteps: 5, folds: 3, foldBy: "step" },
};

/** @param data null for the embedded users */
export function presetOf(preset: string, { data }: { readonly data: string | null }): Preset {
  return withUsers(PRESET_VALUES, preset, data);
}

/** @param data null for the embedded users */
export function personPresetOf(preset: string, { data }: { readonly data: string | null }): Preset & PersonPreset {
  return withUsers(PERSON_VALUES, preset, data);
}

function withUsers<P>(presets: Readonly<Record<Name, P>>, preset: string, data: string | null): P {
  const name = nameOf(preset);
  return { ...presets[name], ...(name === "debug" && data === null ? DEBUG_USERS : {}) };
}

function nameOf(preset: string): Name {
  if (preset === "debug" || preset === "quick" || preset === "paper") return preset;
  throw new InternalError(`no preset is called ${preset}`);
}
