/** Settings of merging an adapter into its base, which computes on the CPU and needs no data. */
import { UserError } from "../utils/errors.ts";
import { type FlagCommand, parseFlagCommand } from "../utils/flagCommand.ts";
import { choice, type Setting, type Settings, text, toggle, type Values } from "../utils/flags.ts";
import { MODEL_AND_FILES, RUN } from "./files.ts";

const GROUP = "Merge";

const UNITS: Readonly<Record<string, number>> = {
  ...{ "": 1, B: 1, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 },
  ...{ KIB: 2 ** 10, MIB: 2 ** 20, GIB: 2 ** 30, TIB: 2 ** 40 },
};
const SIZES = "a number of bytes of at least 1, as in 5GB, 500MB or 2GiB";

/** As transformers takes it: GB is 10^9 bytes, GiB 2^30. */
function readSize([word = ""]: readonly string[]): number {
  const [, count, unit = ""] = /^(\d+(?:\.\d+)?) ?([KMGT]?i?B)?$/i.exec(word) ?? [];
  const bytes = Math.floor(Number(count) * (UNITS[unit.toUpperCase()] ?? Number.NaN));
  if (Number.isSafeInteger(bytes) && bytes >= 1) return bytes;
  throw new UserError(`expected ${SIZES}, got "${word}"`);
}

const MERGE = {
  adapter: text({
    group: GROUP,
    shown: "DIR",
    default: null,
    why: "folder of a run, of a checkpoint-N, or of a PEFT adapter",
  }),
  out: text({ group: GROUP, shown: "DIR", default: null, why: "folder of the merged model, new or empty" }),
  model: {
    ...MODEL_AND_FILES.model,
    group: GROUP,
    defaultText: "as the adapter says",
    why: "base of the adapter, where it lies elsewhere by now",
  },
  dtype: choice({
    group: GROUP,
    of: ["float32", "bfloat16", "float16"],
    default: null,
    defaultText: "of each weight as in the base",
    why: "how the weights are stored; they are computed in float32 in any case",
  }),
  maxShardSize: {
    group: GROUP,
    shown: "SIZE",
    takes: "one",
    words: "texts",
    expected: SIZES,
    default: 5e9,
    defaultText: "5GB",
    why: "larger models are cut into files of at most this size, with model.safetensors.index.json",
    read: readSize,
  } satisfies Setting<number>,
  overwrite: toggle({ group: GROUP, default: false, why: "replace the model that stands in --out" }),
  check: toggle({
    group: GROUP,
    default: true,
    why: "leave out the comparison of the merged model with base and adapter, which needs memory for a forward pass",
  }),
  quiet: { ...RUN.quiet, group: GROUP },
} satisfies Settings;

/** `maxShardSize` in bytes. */
export type MergeConfig = Omit<Values<typeof MERGE>, "adapter" | "out"> & {
  readonly adapter: string;
  readonly out: string;
};

const COMMAND: FlagCommand<typeof MERGE> = {
  name: "merge",
  about: "Works an adapter into its base model and writes a whole Hugging Face folder.",
  examples: [
    "npx tsx src/merge.ts --adapter checkpoints/global_agent_lora --out merged",
    "npx tsx src/merge.ts --adapter checkpoints/global_agent_lora/checkpoint-2000 --out merged --dtype float32",
    "npx tsx src/merge.ts --adapter my_peft_adapter --model Qwen/Qwen3-VL-2B-Instruct --out merged --max-shard-size 2GB",
  ],
  settings: MERGE,
  noWords: "--adapter names what is merged, --out where it goes",
  needed: { adapter: "the folder of a run, a checkpoint or a PEFT adapter", out: "the folder of the merged model" },
};

/** @throws UserError naming all faults, or HelpRequested */
export function parseMergeConfig(argv: readonly string[]): MergeConfig {
  const { adapter, out, ...rest } = parseFlagCommand(COMMAND, argv);
  return { adapter: String(adapter), out: String(out), ...rest };
}
