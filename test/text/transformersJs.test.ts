// The tokenizer against transformers.js, which reads the same files in its own way.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { PreTrainedTokenizer } from "@huggingface/transformers";
import { loadChatTemplate } from "../../src/text/chatTemplate.ts";
import { loadTokenizer } from "../../src/text/tokenizer.ts";

const MODEL = "assets/tiny-qwen3vl";
const readJson = (name: string) => JSON.parse(readFileSync(join(MODEL, name), "utf8"));
const theirs = new PreTrainedTokenizer(readJson("tokenizer.json"), readJson("tokenizer_config.json"));
const messages = [
  { role: "user", content: [{ type: "image" }, { type: "text", text: "open the calendar, bitte — ¿sí? 日本" }] },
  { role: "assistant", content: "```grounding\n[311, 541]\n```" },
];

test("token ids equal those of transformers.js, special tokens in the text included", () => {
  const tokenizer = loadTokenizer(MODEL);
  for (const text of [
    "tap camera now",
    "  spaces\n\n\nand lines ",
    "<|im_start|>assistant\nno",
    "é e\u0301 🙂",
    "12345",
  ]) {
    assert.deepEqual(tokenizer.encode(text), theirs.encode(text, { add_special_tokens: false }), JSON.stringify(text));
  }
});

test("a rendered conversation equals that of transformers.js", () => {
  const template = readFileSync(join(MODEL, "chat_template.jinja"), "utf8");
  const text = theirs.apply_chat_template(messages as never, { tokenize: false, chat_template: template });
  assert.equal(loadChatTemplate(MODEL).render(messages as never, {}), text);
});
