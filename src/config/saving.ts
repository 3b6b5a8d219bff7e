/** Settings of checkpoints and of resuming. */
import { type Setting, type Settings, whole } from "../utils/flags.ts";

const SAVING = "Saving";
export const CHECKPOINTS = {
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
} satisfies Settings;
