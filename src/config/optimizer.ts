/** Settings of the optimizer and of its steps. */
import { choice, number, type Settings, toggle, whole } from "../utils/flags.ts";

const EMBEDDED = { warmupSteps: 10, epochs: 2, batchSize: 8, accumulation: 2 } as const;
const OTHER = { warmupSteps: 50, epochs: 1, batchSize: 1, accumulation: 8 } as const;

/**
 * Defaults that depend on the model and on `--lora`.
 * - The original's 1e-6 hardly moves an adapter (A and B start small: one step changes B by lr, the product by less).
 * - Other models: 1e-4 is a common start for adapters, and a tenth of it where every weight moves; 50 steps of warm-up as
 *   the original.
 * - The embedded model is about a thousand times smaller, and its run is a few hundred steps: wide steps suit it, and 50 steps
 *   of warm-up would be a good part of the run. Its samples are short and alike: eight side by side take less time than eight
 *   in turn.
 */
export const BY_MODEL = {
  embedded: { lora: { lr: 2e-3, ...EMBEDDED }, full: { lr: 5e-4, ...EMBEDDED } },
  other: { lora: { lr: 1e-4, ...OTHER }, full: { lr: 1e-5, ...OTHER } },
} as const;

const OPTIMIZER = "Optimizer";
export const OPTIMIZATION = {
  optim: choice({
    group: OPTIMIZER,
    of: ["adamw_torch", "adafactor", "adamw_8bit"],
    default: "adamw_torch",
    why: "by transformers' names; of a weight adafactor remembers next to nothing, adamw_8bit two bytes, adamw_torch eight",
  }),
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
  weightDecay: number({
    group: OPTIMIZER,
    min: 0,
    default: 0.01,
    why: "decoupled from the gradient; never on biases and norms, as transformers",
  }),
  maxGradNorm: number({ group: OPTIMIZER, min: 0, default: 1, why: "longer gradients are scaled to it; 0 clips none" }),
  epochs: whole({
    group: OPTIMIZER,
    min: 1,
    default: null,
    defaultText: byModelText("epochs"),
    why: "passes over the training samples",
  }),
  maxSteps: whole({
    group: OPTIMIZER,
    min: 1,
    default: null,
    why: "stop after N optimizer steps, however many passes that takes",
  }),
  batchSize: whole({
    group: OPTIMIZER,
    min: 1,
    default: null,
    defaultText: byModelText("batchSize"),
    why: "samples in a micro-batch, which one device computes",
  }),
  accumulation: whole({
    group: OPTIMIZER,
    min: 1,
    default: null,
    defaultText: byModelText("accumulation"),
    why: "micro-batches in an optimizer step, dealt to the devices",
  }),
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
    why: "compute each layer again in the backward pass instead of keeping what is inside it: less memory, more time",
  }),
} satisfies Settings;

function byModelText(name: "lr" | keyof typeof OTHER): string {
  const { embedded, other } = BY_MODEL;
  const pair = ({ lora, full }: typeof embedded | typeof other): string =>
    lora[name] === full[name] ? String(lora[name]) : `${lora[name]} with --lora, ${full[name]} without`;
  return `embedded model ${pair(embedded)}; others ${pair(other)}`;
}
