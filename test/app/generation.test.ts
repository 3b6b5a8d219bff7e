// How answers are made: flags before the checkpoint's own settings before transformers' defaults.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { generationSettings, readGeneration } from "../../src/app/generation.ts";
import { loadProcessor } from "../../src/processor.ts";
import { newFolder, scratchFolder, TINY } from "../train/folders.ts";

const scratch = scratchFolder("generation");
const processor = loadProcessor(TINY);
const END = processor.tokenizer.idOf("<|im_end|>");
let folders = 0;
function read(config: object | null, warnings: string[] = []) {
  const dir = newFolder(scratch, `model-${++folders}`);
  if (config) writeFileSync(join(dir, "generation_config.json"), JSON.stringify(config));
  return readGeneration(dir, processor, (message) => warnings.push(message.replace(`${dir}/`, "")));
}
const NO_FLAGS = { maxNewTokens: null, sample: false, temperature: null, topK: null, topP: null, seed: 9 };

test("a checkpoint that is silent ends at the end of a turn and is drawn from as transformers does", () => {
  const silent = { stopIds: [END], maxNewTokens: 512, sampling: { temperature: 1, topK: 50, topP: 1 } };
  assert.deepEqual(read(null), silent);
  assert.deepEqual(read({}), silent);
});

test("Qwen3-VL's own generation_config.json", () => {
  // the file of Qwen/Qwen3-VL-2B-Instruct, whose do_sample we leave to --sample
  const qwen = { bos_token_id: 151643, pad_token_id: 151643, do_sample: true, eos_token_id: [151645, 151643], top_k: 20, top_p: 0.8, repetition_penalty: 1.0, temperature: 0.7, transformers_version: "4.56.0" }; // biome-ignore format: one line
  const warnings: string[] = [];
  const own = read(qwen, warnings);
  assert.deepEqual(own, { stopIds: [151645, 151643], maxNewTokens: 512, sampling: { temperature: 0.7, topK: 20, topP: 0.8 } }); // biome-ignore format: one line
  assert.deepEqual(warnings, []);
  const plain = generationSettings({ ...own, processor }, NO_FLAGS);
  assert.deepEqual(plain, { maxNewTokens: 512, stopIds: [151645, 151643], padId: processor.padTokenId, sampling: null }); // biome-ignore format: one line
  const drawn = generationSettings({ ...own, processor }, { ...NO_FLAGS, sample: true });
  assert.deepEqual(drawn.sampling, { temperature: 0.7, topK: 20, topP: 0.8, seed: 9 });
  const flags = { ...NO_FLAGS, sample: true, temperature: 1.5, topK: 0, maxNewTokens: 7 };
  const asked = generationSettings({ ...own, processor }, flags);
  assert.deepEqual([asked.sampling, asked.maxNewTokens], [{ temperature: 1.5, topK: 0, topP: 0.8, seed: 9 }, 7]);
});

test("what a checkpoint asks for and is not built is said", () => {
  const warnings: string[] = [];
  read({ repetition_penalty: 1.05, min_p: 0, num_beams: 4 }, warnings);
  assert.deepEqual(warnings, [
    "generation_config.json: repetition_penalty 1.05 is not applied: that is not supported",
    "generation_config.json: num_beams 4 is not applied: that is not supported",
  ]);
});

test("values by which nothing can be drawn are refused by name", () => {
  for (const [config, message] of [
    [{ temperature: 0 }, /temperature is 0, by which no token can be drawn$/],
    [{ top_p: 1.2 }, /top_p is 1.2, by which/],
    [{ top_k: "20" }, /top_k is "20", by which/],
    [{ eos_token_id: [1, "x"] }, /eos_token_id is \[1,"x"\]; expected a token id or a list of them$/],
  ] as const)
    assert.throws(() => read(config), { name: "UserError", message });
});
