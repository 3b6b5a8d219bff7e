import assert from "node:assert/strict";
import { test } from "node:test";
import { groundingAnswer, groundingPrompt } from "../../src/text/groundingPrompt.ts";
import { readFixture } from "./models.ts";

test("question and answer are the task's, to the letter", () => {
  type Part = { text?: string };
  const { cases } = readFixture<{ cases: { messages: { content: Part[] }[] }[] }>("chat", "qwen3vl_conversations.json");
  const [question, answer] = cases[0]?.messages ?? [];
  assert.equal(groundingPrompt("open the cart"), question?.content[1]?.text);
  assert.equal(groundingAnswer("blue plus button", [311, 541]), answer?.content[0]?.text);
});
