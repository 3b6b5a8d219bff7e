/** The files of the tiny checkpoint with weights drawn from a seed: where pretraining begins. */
import { copyFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { writeJson } from "../../src/utils/files.ts";
import { elementCount, writeSafetensors } from "../../src/utils/safetensors.ts";
import { trainBpe } from "./bpe.ts";
import { generationConfig, modelConfig, preprocessorConfig, tokenizerConfig, tokenizerJson } from "./configs.ts";
import { everyText } from "./corpus.ts";
import { drawWeights } from "./weights.ts";

export const TINY_DIR = path.resolve(import.meta.dirname, "../../assets/tiny-qwen3vl");
export const TINY_SEED = 2511;
const MOST_TOKENS = 900;
const TEMPLATE = "chat_template.jinja";

/** Writes everything but the card. @returns the number of parameters */
export async function writeTiny(dir: string, seed: number): Promise<number> {
  mkdirSync(dir, { recursive: true });
  if (!existsSync(path.join(dir, TEMPLATE))) copyFileSync(path.join(TINY_DIR, TEMPLATE), path.join(dir, TEMPLATE));
  const bpe = trainBpe(everyText(), MOST_TOKENS);
  const config = modelConfig(bpe);
  const weights = drawWeights(config, seed);
  const template = readFileSync(path.join(dir, TEMPLATE), "utf8");
  const write = (name: string, value: unknown): Promise<void> => writeJson(path.join(dir, name), value);
  await write("config.json", config);
  await write("tokenizer.json", tokenizerJson(bpe));
  await write("tokenizer_config.json", tokenizerConfig(bpe, template));
  await write("preprocessor_config.json", preprocessorConfig);
  await write("generation_config.json", generationConfig(bpe));
  await writeSafetensors(path.join(dir, "model.safetensors"), weights);
  return weights.reduce((sum, { shape }) => sum + elementCount(shape), 0);
}
