/** Settings of personal agents: what they start from, how a user's samples are cut, and defaults of so little data. */
import { choice, type Settings, text, toggle, whole } from "../utils/flags.ts";
import { OPTIMIZATION } from "./optimizer.ts";

/**
 * Defaults that depend on the model. Others: the original's. The embedded users have 48 samples each, of which two folds are
 * learnt from: one wide micro-batch a step is fastest, and eight passes bind a user's own words without forgetting what
 * all users share.
 */
export const PERSON_BY_MODEL = {
  embedded: { lr: 7e-4, warmupSteps: 2, epochs: 8, batchSize: 8, accumulation: 1 },
  other: { lr: 2e-5, warmupSteps: 5, epochs: 3, batchSize: 1, accumulation: 4 },
} as const;

const PERSONAL = "Personal agents";
export const PERSONAL_AGENTS = {
  base: text({
    group: PERSONAL,
    shown: "DIR|none",
    default: null,
    defaultText: "checkpoints/global_agent_lora, else _full",
    why: "the global agent to start from: its adapter is trained on, on a whole model a new adapter is put; none: the plain model",
  }),
  folds: whole({ group: PERSONAL, min: 2, default: 3, why: "parts of a user's samples; each is held out once" }),
  foldBy: choice({
    group: PERSONAL,
    of: ["episode", "step"],
    default: "episode",
    why: "held out are whole episodes, or single steps drawn as the original's Python draws them (steps of one episode on both sides)",
  }),
  saveAdapters: toggle({
    group: PERSONAL,
    default: true,
    why: "keep each fold's adapter; without it, adapters go when their fold is scored",
  }),
} satisfies Settings;

type ByModel = keyof typeof PERSON_BY_MODEL.embedded;
const byModel = (name: ByModel) => ({
  default: null,
  defaultText: `embedded model ${PERSON_BY_MODEL.embedded[name]}; others ${PERSON_BY_MODEL.other[name]}`,
});

const { trainVision: _, ...rest } = OPTIMIZATION;

/** Those of the optimizer, with defaults for one user's data. A frozen tower is encoded once a user, so it never trains whole. */
export const PERSON_OPTIMIZATION = {
  ...rest,
  lr: { ...rest.lr, ...byModel("lr") },
  warmupSteps: { ...rest.warmupSteps, ...byModel("warmupSteps") },
  epochs: { ...rest.epochs, ...byModel("epochs") },
  batchSize: { ...rest.batchSize, ...byModel("batchSize") },
  accumulation: { ...rest.accumulation, ...byModel("accumulation") },
} satisfies Settings;
