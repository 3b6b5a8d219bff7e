/** Settings of who trains, validates and is tested. */
import { number, type Setting, type Settings, text, toggle } from "../utils/flags.ts";
import { readUsers } from "./words.ts";

/** Users of the per-user task, both ends included; the embedded users are split in the same way. */
export const USER_SPLIT = { test: [1, 10], train: [11, 73], validation: [74, 83] } as const;

const SPLIT = "Splits";
const users = (told: { readonly defaultText: string; readonly why: string }) =>
  ({
    group: SPLIT,
    shown: "A B ...",
    takes: "many",
    words: "numbers",
    default: null,
    read: readUsers,
    ...told,
  }) satisfies Setting<readonly number[] | null>;
export const SPLITS = {
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
