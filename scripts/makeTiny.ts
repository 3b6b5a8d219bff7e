/**
 * Makes assets/tiny-qwen3vl: a Qwen3-VL of about two million parameters in Hugging Face form, weights drawn from a seed.
 * The chat template and the card stand there already; everything else is written.
 *
 *     npx tsx scripts/makeTiny.ts
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { writeJson } from "../src/utils/files.ts";
import { elementCount, writeSafetensors } from "../src/utils/safetensors.ts";
import { trainBpe } from "./tiny/bpe.ts";
import { generationConfig, modelConfig, preprocessorConfig, tokenizerConfig, tokenizerJson } from "./tiny/configs.ts";
import { everyText } from "./tiny/corpus.ts";
import { drawWeights } from "./tiny/weights.ts";

const OUT = path.resolve(import.meta.dirname, "../assets/tiny-qwen3vl");
const SEED = 2511;
const MOST_TOKENS = 900;

const bpe = trainBpe(everyText(), MOST_TOKENS);
const config = modelConfig(bpe);
const weights = drawWeights(config, SEED);
const template = readFileSync(path.join(OUT, "chat_template.jinja"), "utf8");
const write = (name: string, value: unknown): Promise<void> => writeJson(path.join(OUT, name), value);
await write("config.json", config);
await write("tokenizer.json", tokenizerJson(bpe));
await write("tokenizer_config.json", tokenizerConfig(bpe, template));
await write("preprocessor_config.json", preprocessorConfig);
await write("generation_config.json", generationConfig(bpe));
await writeSafetensors(path.join(OUT, "model.safetensors"), weights);
const parameters = weights.reduce((sum, { shape }) => sum + elementCount(shape), 0);
console.log(`${parameters} parameters, ${bpe.tokens.length} learnt tokens, seed ${SEED}`);
