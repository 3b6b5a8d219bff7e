// config.json in both spellings, and every field that cannot be computed refused by name.
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readArchitecture } from "../../src/model/architecture.ts";
import { UserError } from "../../src/utils/errors.ts";
import { changed, type Json, TINY, withConfig } from "./folders.ts";

const part = (config: Json, name: string): Json => config[name] as Json;
const text = (config: Json): Json => part(config, "text_config");
const vision = (config: Json): Json => part(config, "vision_config");
const rope = (config: Json): Json => part(text(config), "rope_parameters");

test("a config as transformers 5 writes it", () => {
  assert.deepEqual(readArchitecture(TINY), {
    rotaryDtype: "float32",
    text: {
      hiddenSize: 64,
      layers: 3,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      intermediateSize: 160,
      vocabSize: 700,
      rmsNormEps: 1e-6,
      ropeTheta: 5_000_000,
      mropeSection: [4, 2, 2],
      attentionBias: false,
    },
    vision: {
      hiddenSize: 48,
      depth: 3,
      heads: 4,
      intermediateSize: 96,
      positionEmbeddings: 64,
      deepstackIndexes: [0, 2],
      patchSize: 16,
      temporalPatchSize: 2,
      mergeSize: 2,
      channels: 3,
    },
    isHeadTied: true,
    imageTokenId: 432,
  });
});

test("a config as the hub's files have it says the same", () => {
  const dir = withConfig((config) => {
    const { rope_theta, ...scaling } = rope(config);
    delete text(config).rope_parameters;
    delete vision(config).rope_parameters;
    Object.assign(text(config), { rope_scaling: scaling, rope_theta });
  });
  assert.deepEqual(readArchitecture(dir), readArchitecture(TINY));
});

test("where the config is silent: an untied head, head size from the width", () => {
  const { isHeadTied, text: read } = readArchitecture(
    withConfig((config) => {
      delete config.tie_word_embeddings;
      for (const key of ["tie_word_embeddings", "head_dim", "rms_norm_eps"]) delete text(config)[key];
    }),
  );
  assert.deepEqual([isHeadTied, read.headDim, read.rmsNormEps], [false, 16, 1e-6]);
  const onlyText = withConfig((config) => {
    delete config.tie_word_embeddings;
  });
  assert.equal(readArchitecture(onlyText).isHeadTied, true);
});

const refusals: Readonly<Record<string, readonly [(config: Json) => void, RegExp]>> = {
  "a mixture of experts": [
    (config) => {
      config.model_type = "qwen3_vl_moe";
    },
    /config\.json: model_type is "qwen3_vl_moe"; expected "qwen3_vl"/,
  ],
  "no text_config": [(config) => delete config.text_config, /"text_config" is missing/],
  "no vision_config": [(config) => delete config.vision_config, /"vision_config" is missing/],
  "no image token": [
    (config) => delete config.image_token_id,
    /one fault\n {2}"image_token_id" should be a number, it is undefined/,
  ],
  "a width that is text": [
    (config) => Object.assign(text(config), { hidden_size: "64" }),
    /"text_config\.hidden_size" should be a number, it is "64"/,
  ],
  "no layers": [
    (config) => Object.assign(text(config), { num_hidden_layers: 0 }),
    /"text_config\.num_hidden_layers" should be a whole number of at least 1, it is 0/,
  ],
  "another activation": [
    (config) => Object.assign(text(config), { hidden_act: "gelu" }),
    /"text_config\.hidden_act" is "gelu"; only "silu" is supported/,
  ],
  "another vision activation": [
    (config) => Object.assign(vision(config), { hidden_act: "silu" }),
    /"vision_config\.hidden_act" is "silu"; only "gelu_pytorch_tanh" is supported/,
  ],
  "stretched positions": [
    (config) => Object.assign(rope(config), { rope_type: "yarn" }),
    /"text_config\.rope_parameters\.rope_type" is "yarn"; only "default" is supported/,
  ],
  "sections side by side": [
    (config) => Object.assign(rope(config), { mrope_interleaved: false }),
    /mrope_interleaved" is false; only true is supported/,
  ],
  "sections that do not fill the head": [
    (config) => Object.assign(rope(config), { mrope_section: [4, 2, 1] }),
    /mrope_section" should be three numbers that add up to head_dim \/ 2 = 8, it is \[4,2,1\]/,
  ],
  "heads that do not group": [
    (config) => Object.assign(text(config), { num_key_value_heads: 3 }),
    /num_key_value_heads" 3 should divide num_attention_heads 4/,
  ],
  "a tower of another width": [
    (config) => Object.assign(vision(config), { out_hidden_size: 32 }),
    /"vision_config\.out_hidden_size" should equal the text hidden_size 64/,
  ],
  "a position table that is no square": [
    (config) => Object.assign(vision(config), { num_position_embeddings: 60 }),
    /num_position_embeddings" should be a square, it is 60/,
  ],
  "vision heads that cannot turn in two directions": [
    (config) => Object.assign(vision(config), { num_heads: 8 }),
    /"vision_config\.hidden_size" 48 should be a multiple of 4 \* num_heads = 32/,
  ],
  "a DeepStack block that is not there": [
    (config) => Object.assign(vision(config), { deepstack_visual_indexes: [0, 3] }),
    /deepstack_visual_indexes" should be different blocks below depth = 3, it is \[0,3\]/,
  ],
  "more DeepStack outputs than text layers": [
    (config) => {
      Object.assign(text(config), { num_hidden_layers: 1 });
    },
    /2 DeepStack outputs need as many text layers, there are 1/,
  ],
  "vision rotation of another base": [
    (config) => Object.assign(part(vision(config), "rope_parameters"), { rope_theta: 20000 }),
    /"vision_config\.rope_parameters\.rope_theta" is 20000; only 10000 is supported/,
  ],
  "several at once": [
    (config) => {
      Object.assign(text(config), { hidden_act: "relu", vocab_size: null });
    },
    /2 faults\n {2}"text_config\.hidden_act" .*\n {2}"text_config\.vocab_size" should be a number, it is null/,
  ],
};

for (const [name, [change, message]] of Object.entries(refusals)) {
  test(`refused: ${name}`, () => {
    const dir = withConfig(change);
    assert.throws(
      () => readArchitecture(dir),
      (thrown: Error) => {
        assert.ok(thrown instanceof UserError);
        assert.match(thrown.message, message);
        return thrown.message.startsWith(join(dir, "config.json"));
      },
    );
  });
}

test("refused: no config.json, and one that is cut off", () => {
  const missing = changed(TINY, (dir) => rmSync(join(dir, "config.json")));
  assert.throws(
    () => readArchitecture(missing),
    /config\.json: not found; a folder of a Hugging Face Qwen3-VL has one/,
  );
  const cut = changed(TINY, (dir) => writeFileSync(join(dir, "config.json"), '{"model_type": "qwen3'));
  assert.throws(() => readArchitecture(cut), /config\.json: cannot be read as JSON/);
});
