/** Settings of where a run reads and writes, and of how it runs. */
import { type Settings, text, toggle, whole } from "../utils/flags.ts";

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
  checkpointDir: text({
    group: FILES,
    shown: "DIR",
    default: null,
    defaultText: "checkpoints/global_agent_lora or _full",
    why: "folder that training writes; a zero-shot evaluation neither reads nor writes it",
  }),
} satisfies Settings;

export const RUN = {
  seed: whole({ group: "Run", min: 0, default: 42, why: "everything random follows from it" }),
  quiet: toggle({ group: "Run", default: false, why: "no progress and no notes; warnings and errors stay" }),
} satisfies Settings;
