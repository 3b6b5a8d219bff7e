/** Settings of checkpoints and of resuming. */
import { choice, number, type Setting, type Settings, toggle, whole } from "../utils/flags.ts";

const SAVING = "Saving";
export const CHECKPOINTS = {
  saveSteps: whole({ group: SAVING, min: 1, default: 1000, why: "optimizer steps between checkpoints" }),
  evalSteps: whole({ group: SAVING, min: 1, default: 1000, why: "optimizer steps between validation losses" }),
  keep: whole({ group: SAVING, min: 1, default: 3, why: "checkpoints kept: the best, and the newest" }),
  metricForBestModel: choice({
    group: SAVING,
    of: ["eval_loss", "eval_accuracy", "eval_mean_l2"],
    default: "eval_loss",
    why: "what the best checkpoint is chosen by, where validation samples are evaluated",
  }),
  loadBest: toggle({
    group: SAVING,
    default: true,
    why: "where evaluations tell which was the best step, the result is that one and not the last",
  }),
  earlyStoppingPatience: whole({
    group: SAVING,
    min: 1,
    default: null,
    why: "end after N evaluations in a row without a better --metric-for-best-model",
  }),
  earlyStoppingThreshold: number({
    group: SAVING,
    min: 0,
    default: 0,
    why: "by how much it must be better to count as such",
  }),
  onNonFinite: choice({
    group: SAVING,
    of: ["stop", "skip"],
    default: "stop",
    why: "a loss or gradient that is not finite ends the run, or its step is left out; the samples are named",
  }),
  reportTo: choice({
    group: SAVING,
    of: ["tensorboard", "none"],
    default: "tensorboard",
    why: "also write TensorBoard's event files, to runs/ in --checkpoint-dir (docs/logging.md)",
  }),
  resume: {
    group: SAVING,
    shown: "[DIR]",
    takes: "optional",
    words: "texts",
    isUnsaved: true,
    default: null,
    why: "go on from this checkpoint, or from the newest in --checkpoint-dir",
    read: ([dir]) => dir ?? true,
  } satisfies Setting<string | true | null>,
  resumeAnyway: toggle({
    group: SAVING,
    isUnsaved: true,
    default: false,
    why: "with --resume: go on though settings that change the arithmetic differ; they are listed",
  }),
} satisfies Settings;
