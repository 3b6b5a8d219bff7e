/** The commands: which groups of settings each takes, and which combinations are refused. */
import type { Command, FirstWord, Impossible } from "../utils/command.ts";
import { flagOf, type Settings } from "../utils/flags.ts";
import { baseQuant, baseQuantOfRun } from "./baseQuant.ts";
import { DATA, TRAINED_SAMPLES } from "./data.ts";
import { type Device, readDevices } from "./devices.ts";
import { ANSWERING, EVALUATION_AFTER, TARGET } from "./evaluation.ts";
import { MODEL_AND_FILES, RUN } from "./files.ts";
import { ADAPTER } from "./lora.ts";
import { OPTIMIZATION } from "./optimizer.ts";
import { MODEL_PARTS } from "./parts.ts";
import { PERSON_OPTIMIZATION, PERSONAL_AGENTS } from "./person.ts";
import { ALTERNATIVES, personPresetOf, presetOf } from "./presets.ts";
import { SHOWN } from "./preview.ts";
import { CHECKPOINTS } from "./saving.ts";
import { SPLITS } from "./splits.ts";
import { visionCacheGb } from "./visionCache.ts";

/** Settings both of training and of evaluation. */
const COMMON = { ...MODEL_AND_FILES, baseQuant, visionCacheGb, ...DATA, ...RUN } satisfies Settings;

export const TRAINING = {
  ...COMMON,
  ...TRAINED_SAMPLES,
  ...SPLITS,
  ...ADAPTER,
  ...MODEL_PARTS,
  ...OPTIMIZATION,
  ...CHECKPOINTS,
  ...ANSWERING,
  ...EVALUATION_AFTER,
} satisfies Settings;

export const EVALUATION = { ...COMMON, ...ANSWERING } satisfies Settings;

const { checkpointDir: ____, ...READ_ONLY } = COMMON;

/** Of what a run, or somebody else, has saved. */
export const SAVED = {
  ...READ_ONLY,
  model: {
    ...COMMON.model,
    defaultText: "as the adapter says",
    why: "base of the adapter, where it lies elsewhere by now",
  },
  baseQuant: baseQuantOfRun,
  ...TARGET,
  ...ANSWERING,
} satisfies Settings;

const { lora: _, adapter: __, ...PERSON_ADAPTER } = ADAPTER;

/** Personal agents are adapters, and what they start from is the global agent. */
export const PERSON = {
  ...COMMON,
  checkpointDir: { ...COMMON.checkpointDir, defaultText: "checkpoints/personal" },
  baseQuant: { ...baseQuantOfRun, defaultText: "as the global agent was trained" },
  ...PERSONAL_AGENTS,
  ...TRAINED_SAMPLES,
  ...PERSON_ADAPTER,
  ...PERSON_OPTIMIZATION,
  loraplusLrRatio: MODEL_PARTS.loraplusLrRatio,
  saveSteps: CHECKPOINTS.saveSteps,
  onNonFinite: CHECKPOINTS.onNonFinite,
  reportTo: CHECKPOINTS.reportTo,
  ...ANSWERING,
  allowOverlap: {
    ...SPLITS.allowOverlap,
    group: PERSONAL_AGENTS.base.group,
    why: "go on though the global agent was trained on one of these users",
  },
} satisfies Settings;

/** A training command can be previewed by its own flags. */
export const PREVIEW = { ...SHOWN, ...TRAINING } satisfies Settings;

const DEVICE: FirstWord<readonly Device[]> = {
  name: "device",
  about: "is a GPU's number, several (0,1), cpu, cpu,cpu or webgpu; without one, cpu.",
  default: [{ kind: "cpu" }],
  read: readDevices,
};

const PIXEL_ORDER: Impossible<typeof DATA> = {
  when: ({ minPixels, maxPixels }) => minPixels !== null && maxPixels !== null && minPixels > maxPixels,
  message: "--min-pixels is above --max-pixels: no picture could meet both; raise the one or lower the other",
};

const TWO_BUDGETS: Impossible<typeof DATA> = {
  when: ({ maxPixels, maxImageTokens }) => maxPixels !== null && maxImageTokens !== null,
  message: "--max-image-tokens does not go with --max-pixels: both say how large a picture may be; give one of the two",
};

const NO_LIMIT: Impossible<typeof TRAINED_SAMPLES> = {
  when: ({ maxLength }, given) => given("overlong") && maxLength === null,
  message: "--overlong needs --max-length: without it no sample is too long; add it or leave --overlong out",
};

const TWO_ENDS: Impossible<Pick<typeof PERSON, "maxSteps" | "epochs">> = {
  when: ({ maxSteps }, given) => maxSteps !== null && given("epochs"),
  message: "--epochs does not go with --max-steps: each says when to stop; give one of the two",
};

const SAVING_ALONE: readonly Impossible<typeof CHECKPOINTS>[] = [
  {
    when: ({ resume, resumeAnyway }) => resumeAnyway && resume === null,
    message: "--resume-anyway needs --resume: it says what to go on from; add it or leave --resume-anyway out",
  },
  {
    when: ({ earlyStoppingPatience: patience }, given) => given("earlyStoppingThreshold") && patience === null,
    message:
      "--early-stopping-threshold needs --early-stopping-patience: without it nothing stops early; add it or leave the threshold out",
  },
];

const NEEDS_SAMPLE: readonly Impossible<typeof ANSWERING>[] = (["temperature", "topP", "topK"] as const).map(
  (name) => ({
    when: ({ sample }, given) => given(name) && !sample,
    message: `${flagOf(ANSWERING, name)} needs --sample: without it the likeliest token is taken each time`,
  }),
);

const needsLora = (name: keyof typeof TRAINING): Impossible<typeof TRAINING> => ({
  when: ({ lora }, given) => given(name) && !lora,
  message: `${flagOf(TRAINING, name)} needs --lora: full fine-tuning has no adapter; add --lora or leave it out`,
});

const LORA_ALONE = [
  ...(["loraR", "loraAlpha", "loraDropout", "loraTargets", "adapter"] as const),
  ...(["useRslora", "useDora", "loraplusLrRatio"] as const),
];

export const TRAIN_COMMAND: Command<typeof TRAINING, readonly Device[]> = {
  name: "finetuneGlobal",
  about: "Fine-tunes one model on the training users, then evaluates it on the test users.",
  examples: [
    "npx tsx src/finetuneGlobal.ts 0 --lora                        embedded model and users, GPU 0 or else the CPU",
    "npx tsx src/finetuneGlobal.ts cpu --lora --preset debug       every stage in seconds, on a few samples",
    "npx tsx src/finetuneGlobal.ts --config runs/example.toml      settings from a file; flags beside it count more",
    "npx tsx src/finetuneGlobal.ts cpu --lora --model Qwen/Qwen3-VL-2B-Instruct --data train.jsonl --no-eval",
    "npx tsx src/finetuneGlobal.ts cpu --lora --resume             go on where an interrupted run stopped",
  ],
  first: DEVICE,
  settings: TRAINING,
  alternatives: ALTERNATIVES,
  presetOf,
  impossible: [
    PIXEL_ORDER,
    TWO_BUDGETS,
    NO_LIMIT,
    ...NEEDS_SAMPLE,
    {
      when: (_, given) => (["valUsers", "valData", "valFraction"] as const).filter(given).length > 1,
      message:
        "--val-users, --val-data and --val-fraction each say where validation samples come from; give one of the three",
    },
    ...LORA_ALONE.map(needsLora),
    {
      when: ({ lora, baseQuant }) => baseQuant !== null && !lora,
      message:
        "--base-quant needs --lora: it holds frozen layers in few bits, and full fine-tuning changes the weights themselves; add --lora (parts named by --train stay as stored) or leave --base-quant out",
    },
    {
      when: ({ lora, trainVision, train }) => lora && trainVision === true && train === null,
      message:
        "--train-vision does not go with --lora, which leaves base weights as they are: say --train vision merger to train both whole beside the adapter, or name vision layers in --lora-targets",
    },
    {
      when: ({ trainVision, train }) =>
        train !== null && trainVision !== null && trainVision !== train.includes("vision"),
      message: "--train and --train-vision say different things of the vision tower: give one of the two",
    },
    ...SAVING_ALONE,
    TWO_ENDS,
  ],
};

export const PERSON_COMMAND: Command<typeof PERSON, readonly Device[]> = {
  name: "finetunePerson",
  about:
    "Trains agents of single users on top of the global one, K folds each, and scores each on the samples held out.",
  examples: [
    "npx tsx src/finetunePerson.ts 0                               after finetuneGlobal: users 1 to 10, three folds each",
    "npx tsx src/finetunePerson.ts cpu --u 3 --fold-by step        one user, cut as the original cuts",
    "npx tsx src/finetunePerson.ts cpu --model Qwen/Qwen3-VL-2B-Instruct --data users/ --base checkpoints/global_agent_lora",
  ],
  first: DEVICE,
  settings: PERSON,
  alternatives: ALTERNATIVES,
  presetOf: personPresetOf,
  impossible: [PIXEL_ORDER, TWO_BUDGETS, NO_LIMIT, TWO_ENDS, ...NEEDS_SAMPLE],
};

export const PREVIEW_COMMAND: Command<typeof PREVIEW, readonly Device[]> = {
  name: "preview",
  about:
    "Shows what a training command would train on and what that takes: headers of pictures and tokens, no weights.",
  examples: [
    "npx tsx src/preview.ts cpu --lora                             embedded model and users, split as in training",
    "npx tsx src/preview.ts cpu --lora --model DIR --data train.jsonl --show 3",
    "npx tsx src/preview.ts cpu --model DIR --data users/ --html page.html",
    "npx tsx src/preview.ts cpu --model DIR --data train.jsonl --json  one object a sample, for other programs",
  ],
  first: DEVICE,
  settings: PREVIEW,
  alternatives: ALTERNATIVES,
  presetOf,
  impossible: [
    ...TRAIN_COMMAND.impossible,
    {
      when: ({ json, show, html }) => json && (show !== null || html !== null),
      message: "--json prints nothing but its objects; leave --show and --html to a run of their own",
    },
    {
      when: ({ html }, given) => given("htmlSamples") && html === null,
      message: "--html-samples needs --html FILE; add it or leave --html-samples out",
    },
  ],
};

export const EVAL_COMMAND: Command<typeof EVALUATION, readonly Device[]> = {
  name: "vanillaEval",
  about: "Evaluates a model as it is (zero-shot), user by user.",
  examples: [
    "npx tsx src/vanillaEval.ts 0 --u 1 10                         users 1 to 10, GPU 0 or else the CPU",
    "npx tsx src/vanillaEval.ts cpu --u 3                          one user",
    "npx tsx src/vanillaEval.ts cpu --preset debug                 4 samples of two users, short answers",
    "npx tsx src/vanillaEval.ts cpu --model Qwen/Qwen3-VL-2B-Instruct --data users/ --u 1 2 5 --limit 20",
  ],
  first: DEVICE,
  settings: EVALUATION,
  alternatives: ALTERNATIVES,
  presetOf,
  impossible: [PIXEL_ORDER, TWO_BUDGETS, ...NEEDS_SAMPLE],
};

export const SAVED_COMMAND: Command<typeof SAVED, readonly Device[]> = {
  name: "evalCheckpoint",
  about: "Evaluates what a run has saved, or any adapter or model, user by user.",
  examples: [
    "npx tsx src/evalCheckpoint.ts 0 checkpoints/global_agent_lora --u 1 10",
    "npx tsx src/evalCheckpoint.ts cpu checkpoints/global_agent_lora/checkpoint-2000 --data users/ --limit 20",
    "npx tsx src/evalCheckpoint.ts cpu my_peft_adapter --model Qwen/Qwen3-VL-2B-Instruct",
    "npx tsx src/evalCheckpoint.ts cpu Qwen/Qwen3-VL-2B-Instruct --name qwen",
  ],
  first: DEVICE,
  operand: {
    name: "path",
    about: "is the folder of a run, of a checkpoint-N, of a PEFT adapter or of a model, or a hub id.",
  },
  settings: SAVED,
  alternatives: ALTERNATIVES,
  presetOf,
  impossible: [PIXEL_ORDER, TWO_BUDGETS, ...NEEDS_SAMPLE],
};
