/** Settings of the parts of the model: which train, and how fast each learns. */
import { UserError } from "../utils/errors.ts";
import { number, type Setting, type Settings } from "../utils/flags.ts";

/** What each holds: docs/training.md. */
const PARTS = ["vision", "merger", "llm", "head"] as const;
type Part = (typeof PARTS)[number];

const GROUP = "Parts of the model";
const rate = (what: string) =>
  number({ group: GROUP, min: 0, max: 1, default: null, defaultText: "--lr", why: `learning rate of ${what}` });

export const MODEL_PARTS = {
  train: {
    group: GROUP,
    shown: "PART ...",
    takes: "many",
    words: "texts",
    default: null,
    defaultText: "all; with --lora the adapter alone",
    why: "parts whose own weights train: vision, merger, llm, head; with --lora they train beside the adapter",
    read: readParts,
  } satisfies Setting<readonly Part[] | null>,
  lrVision: rate("the vision tower"),
  lrMerger: rate("the mergers, DeepStack's among them"),
  lrLlm: rate("the language model's layers"),
  lrHead: rate("the head and the embedding"),
  loraplusLrRatio: number({
    group: GROUP,
    above: 0,
    default: null,
    defaultText: "1",
    why: "LoRA+: the adapter's B (and DoRA's magnitudes) learn so many times faster than A",
  }),
  emaDecay: number({
    group: GROUP,
    above: 0,
    below: 1,
    default: null,
    why: "keep a moving average of what trains: it is what is validated, answered with and saved",
  }),
} satisfies Settings;

function readParts(words: readonly string[]): readonly Part[] {
  const given = words.flatMap((word) => word.split(",")).filter((word) => word !== "");
  const strange = given.find((word) => !PARTS.some((part) => part === word));
  if (strange !== undefined) throw new UserError(`expected some of ${PARTS.join(", ")}, got "${strange}"`);
  return PARTS.filter((part) => given.includes(part));
}
