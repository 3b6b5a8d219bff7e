/** How answers are made: by the flags, and where they are silent by the checkpoint's generation_config.json. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { SamplingSettings } from "../eval/choice.ts";
import type { GenerationSettings } from "../eval/generator.ts";
import type { Processor } from "../processor.ts";
import { UserError } from "../utils/errors.ts";
import { type JsonObject, readJsonObject } from "../utils/json.ts";

/** What a checkpoint says of its answers. */
export interface GenerationDefaults {
  /** Tokens that end an answer. */
  readonly stopIds: readonly number[];
  readonly maxNewTokens: number;
  /** How answers are drawn, where that is asked for. */
  readonly sampling: Omit<SamplingSettings, "seed">;
}

const MAX_NEW_TOKENS = 512; // of the original pipeline
const SAMPLING = { temperature: 1, topK: 50, topP: 1 }; // transformers' own, where a checkpoint is silent

/** What would change the choice of tokens and is not built, with the value that leaves it alone. */
const UNBUILT = { repetition_penalty: 1, no_repeat_ngram_size: 0, min_p: 0, typical_p: 1, num_beams: 1 } as const;

/** @throws UserError naming the field that is no token, or no number within its bounds */
export function readGeneration(dir: string, processor: Processor, warn: (message: string) => void): GenerationDefaults {
  const file = join(dir, "generation_config.json");
  const config: JsonObject = existsSync(file) ? readJsonObject(file, "it says where answers end") : {};
  const { eos_token_id: eos, max_new_tokens: most } = config;
  const ids: readonly unknown[] = Array.isArray(eos) ? eos : [eos ?? processor.tokenizer.idOf("<|im_end|>")];
  if (!ids.every((id) => Number.isInteger(id)))
    throw new UserError(`${file}: eos_token_id is ${JSON.stringify(eos)}; expected a token id or a list of them`);
  for (const [name, neutral] of Object.entries(UNBUILT)) {
    const value = config[name] ?? neutral;
    if (value !== neutral) warn(`${file}: ${name} ${JSON.stringify(value)} is not applied: that is not supported`);
  }
  return {
    stopIds: ids as number[],
    maxNewTokens: Number.isInteger(most) ? Number(most) : MAX_NEW_TOKENS,
    sampling: {
      temperature: read(file, config, "temperature", { or: SAMPLING.temperature, isRight: (value) => value > 0 }),
      topK: read(file, config, "top_k", { or: SAMPLING.topK, isRight: (k) => Number.isInteger(k) && k >= 0 }),
      topP: read(file, config, "top_p", { or: SAMPLING.topP, isRight: (p) => p > 0 && p <= 1 }),
    },
  };
}

function read(
  file: string,
  config: JsonObject,
  name: string,
  { or, isRight }: { or: number; isRight: (value: number) => boolean },
): number {
  const value = config[name] ?? or;
  if (typeof value === "number" && isRight(value)) return value;
  throw new UserError(`${file}: ${name} is ${JSON.stringify(value)}, by which no token can be drawn`);
}

/** null: as the checkpoint says. */
export interface GenerationFlags {
  readonly maxNewTokens: number | null;
  /** Draw answers; else the likeliest token is taken each time. */
  readonly sample: boolean;
  readonly temperature: number | null;
  readonly topK: number | null;
  readonly topP: number | null;
  readonly seed: number;
}

export function generationSettings(
  { processor, stopIds, ...own }: GenerationDefaults & { readonly processor: Processor },
  flags: GenerationFlags,
): GenerationSettings {
  const sampling = {
    temperature: flags.temperature ?? own.sampling.temperature,
    topK: flags.topK ?? own.sampling.topK,
    topP: flags.topP ?? own.sampling.topP,
    seed: flags.seed,
  };
  return {
    maxNewTokens: flags.maxNewTokens ?? own.maxNewTokens,
    stopIds,
    padId: processor.padTokenId,
    sampling: flags.sample ? sampling : null,
  };
}
