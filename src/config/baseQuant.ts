/** The setting of how the frozen weights are held, for commands that train and for those that read what was trained. */
import { choice } from "../utils/flags.ts";

const KINDS = ["int8", "int4"] as const;
const TOLD = {
  group: "Model and files",
  default: null,
  why: "hold the frozen linear layers in few bits: int8 to train, int4 to answer in least memory (docs/quantisation.md)",
} as const;

export const baseQuant = choice({ ...TOLD, of: KINDS, defaultText: "weights as stored" });

/** An adapter is used over the weights that it was trained over; none: over those that are stored. */
export const baseQuantOfRun = choice({ ...TOLD, of: [...KINDS, "none"], defaultText: "as its run was trained" });
