/**
 * Every setting of the entries: type, default, bounds, flag and one line of why. Parsed once, whole and frozen; help text,
 * defaults and bounds come from these tables alone. Only entries know these types: lower parts receive values.
 */
import { type Command, type FirstWord, type Impossible, parseCommand } from "./utils/command.ts";
import { messageOf, UserError } from "./utils/errors.ts";
import {
  choice,
  flagOf,
  number,
  readNumber,
  type Setting,
  type Settings,
  type Source,
  text,
  toggle,
  type Values,
  whole,
} from "./utils/flags.ts";

/** Where to compute. A GPU's index is the driver's. */
export type Device = { readonly kind: "gpu"; readonly index: number } | { readonly kind: "cpu" | "webgpu" };

/** Users of the per-user task, both ends included; the embedded users are split in the same way. */
export const USER_SPLIT = { test: [1, 10], train: [11, 73], validation: [74, 83] } as const;

/** The pixel budget of the original per-user pipeline (28 x 28 pixels a token there); a checkpoint may ask for less. */
export const PIXEL_CAP = 1280 * 28 * 28;

/**
 * Defaults that depend on the model and on `--lora`.
 * - The original's 1e-6 hardly moves an adapter (A and B start small: one step changes B by lr, the product by less).
 * - Other models: 1e-4 is a common start for adapters, and a tenth of it where every weight moves; 50 steps of warm-up as
 *   the original.
 * - The embedded model is about a thousand times smaller, and its run is a few hundred steps: wide steps suit it, and 50 steps
 *   of warm-up would be a good part of the run.
 */
const BY_MODEL = {
  embedded: { lora: { lr: 2e-3, warmupSteps: 10 }, full: { lr: 5e-4, warmupSteps: 10 } },
  other: { lora: { lr: 1e-4, warmupSteps: 50 }, full: { lr: 1e-5, warmupSteps: 50 } },
} as const;

const LANGUAGE_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

const FILES = "Model and files";
const COMMON = {
  model: text({
    group: FILES,
    shown: "DIR|hub-id",
    default: null,
    defaultText: "the embedded tiny model",
    why: "Hugging Face folder or hub id of a Qwen3-VL",
  }),
  data: text({
    group: FILES,
    shown: "FILE|DIR",
    default: null,
    defaultText: "the embedded users",
    why: "conversations (JSONL, JSON, Parquet), or a folder of user_<id>.csv or .pkl",
  }),
  out: text({ group: FILES, shown: "DIR", default: "out", why: "folder for answers, scores and summaries" }),
  checkpointDir: text({
    group: FILES,
    shown: "DIR",
    default: null,
    defaultText: "checkpoints/global_agent_lora or _full",
    why: "folder that training writes; a zero-shot evaluation neither reads nor writes it",
  }),
  format: choice({
    group: "Data",
    of: ["messages", "conversations", "csv", "parquet", "pickle"],
    default: null,
    defaultText: "by the file's content",
    why: "how --data is written (docs/data.md shows each)",
  }),
  imageRoot: text({
    group: "Data",
    shown: "DIR",
    default: null,
    defaultText: "the folder of the data file",
    why: "where picture paths start; none may lead out of it",
  }),
  allowRemoteImages: toggle({
    group: "Data",
    default: false,
    why: "download pictures that the data name by http(s)",
  }),
  maxPixels: whole({
    group: "Data",
    min: 1,
    default: null,
    defaultText: `the checkpoint's own, at most ${PIXEL_CAP}`,
    why: "larger pictures are scaled down to this many pixels",
  }),
  minPixels: whole({
    group: "Data",
    min: 1,
    default: null,
    defaultText: "the checkpoint's own",
    why: "smaller pictures are scaled up to this many pixels",
  }),
  maxImageTokens: whole({
    group: "Data",
    min: 1,
    default: null,
    why: "--max-pixels in tokens: larger pictures are scaled down to this many",
  }),
  maxVideoPixels: whole({
    group: "Data",
    min: 1,
    default: null,
    defaultText: "the checkpoint's own",
    why: "larger videos are scaled down to this many pixels, all frames together",
  }),
  limit: whole({ group: "Data", min: 1, default: null, defaultText: "all", why: "at most N samples of each user" }),
  labelMode: choice({
    group: "Data",
    of: ["official", "pigg"],
    default: "official",
    why: "what of an answer is trained: with its end-of-turn token and newline (official), or its text alone (pigg)",
  }),
  seed: whole({ group: "Run", min: 0, default: 42, why: "everything random follows from it" }),
  quiet: toggle({ group: "Run", default: false, why: "no progress and no notes; warnings and errors stay" }),
} satisfies Settings;

const ANSWERING = {
  users: {
    group: "Evaluation",
    flag: "u",
    shown: "A B ...",
    takes: "many",
    default: null,
    defaultText: `test users, ${USER_SPLIT.test.join("-")}`,
    why: "users to evaluate: exactly two numbers are a range, one or three and more are a list",
    read: readUsers,
  } satisfies Setting<readonly number[] | null>,
  parse: choice({
    group: "Evaluation",
    of: ["compatible", "strict"],
    default: "compatible",
    why: "an unreadable answer counts as a click at (0, 0) (compatible), or is counted apart (strict)",
  }),
  maxNewTokens: whole({
    group: "Evaluation",
    min: 1,
    default: null,
    defaultText: "the checkpoint's own, else 512",
    why: "longest answer, in tokens",
  }),
} satisfies Settings;

const SPLIT = "Splits";
const users = (told: { readonly defaultText: string; readonly why: string }) =>
  ({ group: SPLIT, shown: "A B ...", takes: "many", default: null, read: readUsers, ...told }) satisfies Setting<
    readonly number[] | null
  >;
const SPLITS = {
  trainUsers: users({
    defaultText: `${USER_SPLIT.train.join("-")} of a folder, of a file all that are not held out`,
    why: "users to train on, given as --u, which names those to evaluate",
  }),
  valUsers: users({
    defaultText: `${USER_SPLIT.validation.join("-")} of a folder, none of a file`,
    why: "users whose samples tell the validation loss",
  }),
  valData: text({ group: SPLIT, shown: "FILE|DIR", default: null, why: "take the validation samples from here" }),
  valFraction: number({
    group: SPLIT,
    above: 0,
    below: 1,
    default: null,
    why: "hold this share of the training samples out for validation, whole episodes (else whole users) together, drawn by --seed",
  }),
  testData: text({
    group: SPLIT,
    shown: "FILE|DIR",
    default: null,
    why: "take the samples to evaluate from here; --u chooses among their users",
  }),
  allowOverlap: toggle({
    group: SPLIT,
    default: false,
    why: "go on though a sample, by its pictures and words, stands in two splits",
  }),
} satisfies Settings;

const LORA = "LoRA";
const OPTIMIZER = "Optimizer";
const SAVING = "Saving";
const TRAINING = {
  ...COMMON,
  trainOn: choice({
    group: "Data",
    of: ["all", "last"],
    default: "all",
    why: 'which assistant turns are trained; those marked "train": false in the data never are',
  }),
  maxLength: whole({ group: "Data", min: 1, default: null, why: "most tokens of a training or validation sample" }),
  overlong: choice({
    group: "Data",
    of: ["refuse", "drop", "shrink-images", "cut-left", "cut-right"],
    default: "refuse",
    why: "longer samples: end the run, leave them out, scale their pictures down, or cut off their beginning (all but the system turn) or end",
  }),
  ...SPLITS,
  lora: toggle({ group: LORA, default: false, why: "train an adapter; without it every weight trains" }),
  loraR: whole({ group: LORA, min: 1, default: 4, why: "rank" }),
  loraAlpha: number({ group: LORA, above: 0, default: 32, why: "the adapter's output is scaled by alpha / r" }),
  loraDropout: number({ group: LORA, min: 0, below: 1, default: 0.1, why: "share of the adapter's inputs dropped" }),
  loraTargets: {
    group: LORA,
    shown: "NAME ...|REGEX",
    takes: "many",
    default: LANGUAGE_PROJECTIONS,
    why: "layers that get an adapter, by PEFT's rules: names match whole or as suffix, one regex matches whole names",
    read: readTargets,
  } satisfies Setting<readonly string[] | string>,
  adapter: text({ group: LORA, shown: "DIR", default: null, why: "start from this PEFT adapter" }),
  lr: number({
    group: OPTIMIZER,
    min: 0,
    max: 1,
    default: null,
    defaultText: byModelText("lr"),
    why: "learning rate at its peak",
  }),
  schedule: choice({
    group: OPTIMIZER,
    of: ["linear", "cosine", "constant"],
    default: "linear",
    why: "how the learning rate falls after warm-up",
  }),
  warmupSteps: whole({
    group: OPTIMIZER,
    min: 0,
    default: null,
    defaultText: byModelText("warmupSteps"),
    why: "optimizer steps over which the learning rate rises from 0",
  }),
  weightDecay: number({ group: OPTIMIZER, min: 0, default: 0.01, why: "AdamW's; never on biases and norms" }),
  maxGradNorm: number({ group: OPTIMIZER, min: 0, default: 1, why: "longer gradients are scaled to it; 0 clips none" }),
  epochs: whole({ group: OPTIMIZER, min: 1, default: 1, why: "passes over the training samples" }),
  maxSteps: whole({
    group: OPTIMIZER,
    min: 1,
    default: null,
    why: "stop after N optimizer steps, however many passes that takes",
  }),
  batchSize: whole({ group: OPTIMIZER, min: 1, default: 1, why: "samples in a micro-batch, per device" }),
  accumulation: whole({ group: OPTIMIZER, min: 1, default: 8, why: "micro-batches in an optimizer step" }),
  lossNormalization: choice({
    group: OPTIMIZER,
    of: ["token", "microbatch-mean"],
    default: "token",
    why: "mean over all trained tokens of a step, or of the micro-batches' means as the Hugging Face Trainer does",
  }),
  packing: toggle({
    group: OPTIMIZER,
    default: false,
    why: "lay short samples side by side in rows as long as the longest, without attention across",
  }),
  groupByLength: toggle({
    group: OPTIMIZER,
    default: false,
    why: "put samples of like length into one micro-batch; of use with --batch-size above 1",
  }),
  shuffle: toggle({ group: OPTIMIZER, default: true, why: "keep the samples in the order of the files" }),
  trainVision: toggle({
    group: OPTIMIZER,
    default: null,
    defaultText: "yes without --lora",
    why: "full fine-tuning changes the vision tower too; --no-train-vision freezes it",
  }),
  gradientCheckpointing: toggle({
    group: OPTIMIZER,
    default: false,
    why: "recompute layers to save memory (not supported yet)",
  }),
  baseQuant: choice({
    group: OPTIMIZER,
    of: ["int8", "int4"],
    default: null,
    defaultText: "weights as stored",
    why: "hold the frozen weights in 8 or 4 bits (not supported yet)",
  }),
  saveSteps: whole({ group: SAVING, min: 1, default: 1000, why: "optimizer steps between checkpoints" }),
  evalSteps: whole({ group: SAVING, min: 1, default: 1000, why: "optimizer steps between validation losses" }),
  keep: whole({ group: SAVING, min: 1, default: 3, why: "newest checkpoints kept" }),
  resume: {
    group: SAVING,
    shown: "[DIR]",
    takes: "optional",
    default: null,
    why: "go on from this checkpoint, or from the newest in --checkpoint-dir",
    read: ([dir]) => dir ?? true,
  } satisfies Setting<string | true | null>,
  ...ANSWERING,
  eval: toggle({ group: "Evaluation", default: true, why: "train only: skip the evaluation at the end" }),
} satisfies Settings;

const EVALUATION = { ...COMMON, ...ANSWERING } satisfies Settings;

const PREVIEW_GROUP = "Preview";
/** A training command can be previewed by its own flags. */
const PREVIEW = {
  show: {
    group: PREVIEW_GROUP,
    shown: "N|ID ...",
    takes: "many",
    default: null,
    why: "print N samples, evenly spread, or those of these ids, trained tokens in colour (in [[ ]] where there is none)",
    read: readShow,
  } satisfies Setting<number | readonly string[] | null>,
  json: toggle({
    group: PREVIEW_GROUP,
    default: false,
    why: "print one object a sample and nothing else: id, user, input_ids, labels, image_grid_thw, length",
  }),
  html: text({
    group: PREVIEW_GROUP,
    shown: "FILE",
    default: null,
    why: "write a page with pictures and coloured text",
  }),
  htmlSamples: whole({ group: PREVIEW_GROUP, min: 1, default: 200, why: "samples on that page, the longest first" }),
  gflops: number({
    group: PREVIEW_GROUP,
    above: 0,
    default: null,
    defaultText: "measured, for about a second",
    why: "forecast time for a machine of so many GFLOP/s in float32 matrix products",
  }),
  ...TRAINING,
} satisfies Settings;

interface Parsed<S extends Settings> {
  readonly devices: readonly Device[];
  /** Where each value came from. */
  readonly sources: { readonly [K in keyof S | "devices"]: Source };
}

/** Settings of `vanillaEval`. `users` is null for "the test users". */
export type EvalConfig = Values<typeof EVALUATION> & Parsed<typeof EVALUATION>;

/**
 * Settings of `finetuneGlobal`, those that depend on others worked out. `resume` is true for "the newest";
 * `loraTargets` is a list of names or one regex, as PEFT's target_modules. Plain data: JSON keeps it whole.
 */
export type TrainConfig = Omit<Values<typeof TRAINING>, "lr" | "warmupSteps" | "checkpointDir" | "trainVision"> & {
  readonly lr: number;
  readonly warmupSteps: number;
  readonly checkpointDir: string;
  readonly trainVision: boolean;
} & Parsed<typeof TRAINING>;

/** Settings of `preview`: those of training, and what to show. `show` is a number of samples or their ids. */
export type PreviewConfig = Omit<TrainConfig, "sources"> &
  Pick<Values<typeof PREVIEW>, "show" | "json" | "html" | "htmlSamples" | "gflops"> & {
    readonly sources: Parsed<typeof PREVIEW>["sources"];
  };

/** @throws UserError naming all faults, or HelpRequested */
export function parseTrainConfig(argv: readonly string[]): TrainConfig {
  const { values, first: devices, sources, firstSource } = parseCommand(TRAIN_COMMAND, argv);
  return deepFrozen({ devices, ...values, ...workedOut(values), sources: { devices: firstSource, ...sources } });
}

/** @throws UserError naming all faults, or HelpRequested */
export function parsePreviewConfig(argv: readonly string[]): PreviewConfig {
  const { values, first: devices, sources, firstSource } = parseCommand(PREVIEW_COMMAND, argv);
  return deepFrozen({ devices, ...values, ...workedOut(values), sources: { devices: firstSource, ...sources } });
}

/** Defaults of training that depend on other settings. */
function workedOut(values: Values<typeof TRAINING>) {
  const learning = BY_MODEL[values.model === null ? "embedded" : "other"][values.lora ? "lora" : "full"];
  return {
    lr: values.lr ?? learning.lr,
    warmupSteps: values.warmupSteps ?? learning.warmupSteps,
    checkpointDir: values.checkpointDir ?? `checkpoints/global_agent_${values.lora ? "lora" : "full"}`,
    trainVision: values.trainVision ?? !values.lora,
  };
}

/** @throws UserError naming all faults, or HelpRequested */
export function parseEvalConfig(argv: readonly string[]): EvalConfig {
  const { values, first: devices, sources, firstSource } = parseCommand(EVAL_COMMAND, argv);
  return deepFrozen({ devices, ...values, sources: { devices: firstSource, ...sources } });
}

/** One line a setting: `name = value (default)` or `(flag)`. */
export function describeConfig(config: TrainConfig | EvalConfig): string[] {
  const { sources, ...values } = config;
  const from: Readonly<Record<string, Source>> = sources;
  return Object.entries(values).map(([name, value]) => {
    const shown = name === "devices" ? config.devices.map(deviceName).join(",") : JSON.stringify(value);
    return `${name} = ${shown} (${from[name]})`;
  });
}

export const deviceName = (device: Device): string => (device.kind === "gpu" ? String(device.index) : device.kind);

const DEVICE: FirstWord<readonly Device[]> = {
  name: "device",
  about: "is a GPU's number, several (0,1), cpu, cpu,cpu or webgpu; without one, cpu.",
  default: [{ kind: "cpu" }],
  read: readDevices,
};

const PIXEL_ORDER: Impossible<typeof COMMON> = {
  when: ({ minPixels, maxPixels }) => minPixels !== null && maxPixels !== null && minPixels > maxPixels,
  message: "--min-pixels is above --max-pixels: no picture could meet both; raise the one or lower the other",
};

const TWO_BUDGETS: Impossible<typeof COMMON> = {
  when: ({ maxPixels, maxImageTokens }) => maxPixels !== null && maxImageTokens !== null,
  message: "--max-image-tokens does not go with --max-pixels: both say how large a picture may be; give one of the two",
};

const needsLora = (name: keyof typeof TRAINING): Impossible<typeof TRAINING> => ({
  when: ({ lora }, given) => given(name) && !lora,
  message: `${flagOf(TRAINING, name)} needs --lora: full fine-tuning has no adapter; add --lora or leave it out`,
});

const TRAIN_COMMAND: Command<typeof TRAINING, readonly Device[]> = {
  name: "finetuneGlobal",
  about: "Fine-tunes one model on the training users, then evaluates it on the test users.",
  examples: [
    "npx tsx src/finetuneGlobal.ts 0 --lora                        embedded model and users, GPU 0 or else the CPU",
    "npx tsx src/finetuneGlobal.ts cpu --lora --limit 4 --no-eval  a quick look: 4 samples a user, training only",
    "npx tsx src/finetuneGlobal.ts cpu --lora --model Qwen/Qwen3-VL-2B-Instruct --data train.jsonl --no-eval",
    "npx tsx src/finetuneGlobal.ts cpu --lora --resume             go on where an interrupted run stopped",
  ],
  first: DEVICE,
  settings: TRAINING,
  impossible: [
    PIXEL_ORDER,
    TWO_BUDGETS,
    {
      when: ({ maxLength }, given) => given("overlong") && maxLength === null,
      message: "--overlong needs --max-length: without it no sample is too long; add it or leave --overlong out",
    },
    {
      when: (_, given) => (["valUsers", "valData", "valFraction"] as const).filter(given).length > 1,
      message:
        "--val-users, --val-data and --val-fraction each say where validation samples come from; give one of the three",
    },
    ...(["loraR", "loraAlpha", "loraDropout", "loraTargets", "adapter"] as const).map(needsLora),
    {
      when: ({ lora, baseQuant }) => baseQuant !== null && !lora,
      message: "--base-quant needs --lora: full fine-tuning changes the base weights, so they cannot be quantised",
    },
    {
      when: ({ lora, trainVision }) => lora && trainVision === true,
      message:
        "--train-vision does not go with --lora: LoRA leaves every base weight as it is; drop one of the two, or name vision layers in --lora-targets",
    },
    {
      when: ({ maxSteps }, given) => maxSteps !== null && given("epochs"),
      message: "--epochs does not go with --max-steps: each says when to stop; give one of the two",
    },
  ],
};

const PREVIEW_COMMAND: Command<typeof PREVIEW, readonly Device[]> = {
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

const EVAL_COMMAND: Command<typeof EVALUATION, readonly Device[]> = {
  name: "vanillaEval",
  about: "Evaluates a model as it is (zero-shot), user by user.",
  examples: [
    "npx tsx src/vanillaEval.ts 0 --u 1 10                         users 1 to 10, GPU 0 or else the CPU",
    "npx tsx src/vanillaEval.ts cpu --u 3                          one user",
    "npx tsx src/vanillaEval.ts cpu --model Qwen/Qwen3-VL-2B-Instruct --data users/ --u 1 2 5 --limit 20",
  ],
  first: DEVICE,
  settings: EVALUATION,
  impossible: [PIXEL_ORDER, TWO_BUDGETS],
};

/** `0` · `0,1` · `cpu` · `cpu,cpu` · `webgpu`. @throws UserError for other words, mixed kinds, a card named twice */
export function readDevices(word: string): Device[] {
  const devices = word.split(",").map(readDevice);
  const kinds = new Set(devices.map(({ kind }) => kind));
  if (kinds.size > 1)
    throw new UserError(`"${word}" mixes kinds of device; the slowest would set the pace: use one kind`);
  if (new Set(devices.map(deviceName)).size < devices.length && !kinds.has("cpu")) {
    throw new UserError(`"${word}" names a device twice; only cpu may stand more than once`);
  }
  return devices;
}

function readDevice(name: string): Device {
  if (name === "cpu" || name === "webgpu") return { kind: name };
  if (/^\d{1,4}$/.test(name)) return { kind: "gpu", index: Number(name) };
  throw new UserError(`expected a GPU's number, cpu or webgpu, or several joined by commas, got "${name}"`);
}

const MOST_USERS = 100_000;

/** Exactly two numbers are a range, both ends included, in the direction given; otherwise the list, each user once. */
export function readUsers(words: readonly string[]): readonly number[] {
  const ids = words.map((word) => readNumber(word, { min: 0 }, true));
  const [from, to] = ids;
  if (ids.length !== 2 || from === undefined || to === undefined) return [...new Set(ids)];
  const count = Math.abs(to - from) + 1;
  if (count > MOST_USERS) throw new UserError(`${from} to ${to} are ${count} users; expected at most ${MOST_USERS}`);
  return Array.from({ length: count }, (_, i) => from + Math.sign(to - from) * i);
}

/** One whole number: so many samples. Anything else: ids of samples. */
function readShow(words: readonly string[]): number | readonly string[] {
  const [first = ""] = words;
  return words.length === 1 && /^\d+$/.test(first) ? readNumber(first, { min: 1 }, true) : words;
}

const REGEX_SIGNS = /[\\^$|?*+()[\]{}]/; // not the dot: it also separates the parts of a plain module name

/** PEFT's target_modules: several names (or one) are a list, a single text with regex signs is a regex. */
export function readTargets(words: readonly string[]): readonly string[] | string {
  const [first = "", ...rest] = words;
  if (rest.length === 0 && first.toLowerCase() === "all-linear") return "all-linear";
  const isRegex = words.some((word) => REGEX_SIGNS.test(word));
  if (!isRegex) return words.flatMap((word) => word.split(",")).filter((name) => name !== "");
  if (rest.length > 0) throw new UserError(`a regex stands alone, got ${words.length} values: ${words.join(" ")}`);
  try {
    new RegExp(first);
  } catch (cause) {
    throw new UserError(`expected names or a regex, got "${first}": ${messageOf(cause)}`, { cause });
  }
  return first;
}

function byModelText(name: "lr" | "warmupSteps"): string {
  const { embedded, other } = BY_MODEL;
  const pair = ({ lora, full }: typeof embedded | typeof other): string =>
    lora[name] === full[name] ? String(lora[name]) : `${lora[name]} with --lora, ${full[name]} without`;
  return `embedded model ${pair(embedded)}; others ${pair(other)}`;
}

function deepFrozen<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === "object" && inner !== null) deepFrozen(inner);
  return Object.freeze(value);
}
