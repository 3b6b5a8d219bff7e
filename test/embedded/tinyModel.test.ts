import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { trainBpe } from "../../scripts/tiny/bpe.ts";
import { modelConfig, preprocessorConfig, tokenizerJson } from "../../scripts/tiny/configs.ts";
import { everyText } from "../../scripts/tiny/corpus.ts";
import { drawWeights, weightShapes } from "../../scripts/tiny/weights.ts";
import { APPS, CONTROLS } from "../../src/embedded/apps.ts";
import { ALIASES } from "../../src/embedded/commands.ts";
import { samplesOf, USERS } from "../../src/embedded/users.ts";
import { groundingAnswer, groundingPrompt } from "../../src/text/groundingPrompt.ts";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { readHeader } from "../../src/utils/safetensors.ts";

const MODEL = path.resolve(import.meta.dirname, "../../assets/tiny-qwen3vl");
const FIXTURE = path.resolve(import.meta.dirname, "../fixtures/embedded/tiny.json");

interface Facts {
  readonly expected: {
    readonly shapes: Readonly<Record<string, readonly number[]>>;
    readonly image_grid_thw: readonly number[];
    readonly texts: readonly { text: string; ids: readonly number[] }[];
  };
}
const { expected } = JSON.parse(readFileSync(FIXTURE, "utf8")) as Facts;
const readJson = (name: string): unknown => JSON.parse(readFileSync(path.join(MODEL, name), "utf8"));
const tokenizer = loadTokenizer(MODEL);
const bpe = trainBpe(everyText(), 900);

test("every weight has the name and shape that transformers gives it, in bfloat16", () => {
  const { tensors } = readHeader(path.join(MODEL, "model.safetensors"));
  const stored = Object.fromEntries([...tensors].map(([name, { shape }]) => [name, shape]));
  assert.deepEqual(stored, expected.shapes);
  assert.deepEqual(weightShapes(modelConfig(bpe)), expected.shapes);
  assert.ok([...tensors.values()].every(({ dtype }) => dtype === "BF16"));
});

test("token ids equal Python's, on prompts, answers and other languages", () => {
  for (const { text, ids } of expected.texts) {
    assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
    assert.equal(tokenizer.decode(ids), text.normalize("NFC"));
  }
});

test("the scripts make the committed tokenizer and settings again", () => {
  assert.deepEqual(readJson("tokenizer.json"), tokenizerJson(bpe));
  assert.deepEqual(readJson("config.json"), modelConfig(bpe));
  assert.deepEqual(readJson("preprocessor_config.json"), preprocessorConfig);
});

test("first weights follow from the seed: the same again, other seeds, other weights", () => {
  const config = modelConfig(bpe);
  const [once, again, other] = [2511, 2511, 2512].map((seed) => drawWeights(config, seed));
  assert.deepEqual(once, again);
  once?.forEach(({ name, shape, values }, i) => {
    if (shape.length > 1) assert.notDeepEqual(values, other?.[i]?.values, name);
  });
});

test("every word of the users is one token, digits stand alone, and nothing falls apart into bytes", () => {
  const names = [...APPS, ...CONTROLS].flatMap(({ name, synonym }) => [name, synonym]);
  for (const word of [...names, ...ALIASES.flatMap((alias) => alias.split(" "))])
    assert.equal(tokenizer.encode(` ${word}`).length, 1, word);
  for (const { name } of APPS) assert.equal(tokenizer.encode(name).length, 1, name);
  assert.equal(tokenizer.encode("1000").length, 4);
  for (let user = 1; user <= USERS; user++)
    for (const { command, referring, point } of samplesOf(user)) {
      const words = command.split(" ").length;
      assert.equal(tokenizer.encode(` ${command}`).length, words, command);
      assert.equal(tokenizer.encode(groundingPrompt(command)).length, 74 + words, command);
      const text = groundingAnswer(referring, point);
      const ids = tokenizer.encode(text);
      assert.ok(ids.length <= 24, `${text} takes ${ids.length} tokens`);
      assert.equal(tokenizer.decode(ids), text);
    }
});

test("a screen keeps its size in transformers: 16 x 8 patches", () =>
  assert.deepEqual(expected.image_grid_thw, [1, 16, 8]));
