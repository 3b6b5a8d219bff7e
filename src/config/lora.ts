/** Settings of the adapter. */
import { number, type Setting, type Settings, text, toggle, whole } from "../utils/flags.ts";
import { readTargets } from "./words.ts";

const LANGUAGE_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

const LORA = "LoRA";
export const ADAPTER = {
  lora: toggle({ group: LORA, default: false, why: "train an adapter; without it every weight trains" }),
  loraR: whole({ group: LORA, min: 1, default: 4, why: "rank" }),
  loraAlpha: number({ group: LORA, above: 0, default: 32, why: "the adapter's output is scaled by alpha / r" }),
  loraDropout: number({ group: LORA, min: 0, below: 1, default: 0.1, why: "share of the adapter's inputs dropped" }),
  loraTargets: {
    group: LORA,
    shown: "NAME ...|REGEX",
    takes: "many",
    default: LANGUAGE_PROJECTIONS,
    why: "layers that get an adapter, by PEFT's rules: names match whole or as suffix, one regex matches whole names",
    read: readTargets,
  } satisfies Setting<readonly string[] | string>,
  useRslora: toggle({ group: LORA, default: false, why: "rsLoRA: scale by alpha / sqrt(r) instead" }),
  useDora: toggle({ group: LORA, default: false, why: "DoRA: adapt directions, and the lengths of rows on their own" }),
  adapter: text({ group: LORA, shown: "DIR", default: null, why: "start from this PEFT adapter" }),
} satisfies Settings;
