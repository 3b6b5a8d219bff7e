/** Settings of answering and scoring. */
import { choice, type Setting, type Settings, toggle, whole } from "../utils/flags.ts";
import { USER_SPLIT } from "./splits.ts";
import { readUsers } from "./words.ts";

export const ANSWERING = {
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

/** Of training alone. */
export const EVALUATION_AFTER = {
  eval: toggle({ group: "Evaluation", default: true, why: "train only: skip the evaluation at the end" }),
} satisfies Settings;
