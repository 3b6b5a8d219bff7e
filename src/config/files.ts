/** Settings of where a run reads and writes, and of how it runs. */
import { choice, type Settings, text, toggle, whole } from "../utils/flags.ts";

/** Sets of settings that go by a name; `presets.ts` says what they hold. */
export const PRESETS = ["debug", "quick", "paper"] as const;

const FILES = "Model and files";
export const MODEL_AND_FILES = {
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
  logDir: text({ group: FILES, shown: "DIR", default: "logs", why: "folder for a log file of each start" }),
  checkpointDir: text({
    group: FILES,
    shown: "DIR",
    default: null,
    defaultText: "checkpoints/global_agent_lora or _full",
    why: "folder that training writes; a zero-shot evaluation neither reads nor writes it",
  }),
} satisfies Settings;

export const RUN = {
  config: text({
    group: "Run",
    shown: "FILE.toml",
    default: null,
    isUnsaved: true,
    why: "settings by the names of their flags; a flag beside it counts more (docs/settings.md)",
  }),
  preset: choice({
    group: "Run",
    of: PRESETS,
    default: null,
    isUnsaved: true,
    why: "settings for seeing all stages in seconds (debug), for one pass over little data (quick), or those published with the per-user pipeline (paper)",
  }),
  seed: whole({ group: "Run", min: 0, default: 42, why: "everything random follows from it" }),
  quiet: toggle({ group: "Run", default: false, why: "no progress and no notes; warnings and errors stay" }),
} satisfies Settings;
