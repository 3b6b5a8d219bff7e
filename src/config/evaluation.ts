/** Settings of answering and scoring. */
import { choice, number, type Setting, type Settings, text, toggle, whole } from "../utils/flags.ts";
import { USER_SPLIT } from "./splits.ts";
import { readUsers } from "./words.ts";

export const ANSWERING = {
  users: {
    group: "Evaluation",
    flag: "u",
    shown: "A B ...",
    takes: "many",
    words: "numbers",
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
  sample: toggle({
    group: "Evaluation",
    default: false,
    why: "draw answers, by --seed, sample and place; else the likeliest token is taken each time",
  }),
  temperature: number({
    group: "Evaluation",
    above: 0,
    default: null,
    defaultText: "the checkpoint's own, else 1",
    why: "with --sample: above 1 more varied answers, below 1 less",
  }),
  topP: number({
    group: "Evaluation",
    above: 0,
    max: 1,
    default: null,
    defaultText: "the checkpoint's own, else 1",
    why: "with --sample: draw among the likeliest tokens that together have this probability",
  }),
  topK: whole({
    group: "Evaluation",
    min: 0,
    default: null,
    defaultText: "the checkpoint's own, else 50",
    why: "with --sample: draw among the N likeliest tokens; 0 for all",
  }),
  evalBatchSize: whole({
    group: "Evaluation",
    min: 1,
    default: 8,
    why: "samples answered at once; it changes time and memory, not the answers",
  }),
} satisfies Settings;

/** Of training alone. */
export const EVALUATION_AFTER = {
  eval: toggle({ group: "Evaluation", default: true, why: "train only: skip the evaluation at the end" }),
  evalGenerate: whole({
    group: "Evaluation",
    min: 1,
    default: null,
    why: "beside each validation loss, answer N validation samples: eval_accuracy, eval_mean_l2, eval_median_l2",
  }),
} satisfies Settings;

/** Of evalCheckpoint alone. */
export const TARGET = {
  name: text({
    group: "Evaluation",
    shown: "NAME",
    default: null,
    defaultText: "the last part of PATH",
    why: "folder in --out for the answers",
  }),
} satisfies Settings;
