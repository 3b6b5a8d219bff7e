import assert from "node:assert/strict";
import { test } from "node:test";
import { showTokens } from "../../src/text/showTokens.ts";

/** One token a character. */
const tokenizer = { decode: (ids: Iterable<number>) => String.fromCodePoint(...ids) };

function encodedOf(text: string, learnt: string): { inputIds: Int32Array; labels: Int32Array } {
  const inputIds = Int32Array.from(text, (char) => char.codePointAt(0) ?? 0);
  const labels = inputIds.map((id, i) => (learnt[i] === "x" ? id : -9));
  return { inputIds, labels };
}

const options = { tokenizer, imageTokenId: "#".charCodeAt(0), ignore: -9 };

test("without colours, learnt tokens stand in brackets and image tokens are counted", () => {
  const shown = showTokens(encodedOf("see ###: ok\nno", "         xxx  "), { ...options, isColoured: false });
  assert.equal(shown, "see # x 3: [[ok\u21b5\n]]no");
});

test("with colours, every line is painted by itself", () => {
  const shown = showTokens(encodedOf("q\na\nb", "   xx"), { ...options, isColoured: true });
  assert.equal(shown, "\x1b[2mq\u21b5\x1b[0m\n\x1b[2ma\x1b[0m\x1b[1;32m\u21b5\x1b[0m\n\x1b[1;32mb\x1b[0m");
});

test("text cannot steer the terminal", () => {
  const shown = showTokens(encodedOf("\x1b[2J\u202ea\r", ""), { ...options, isColoured: false });
  assert.equal(shown, "\\u{1b}[2J\\u{202e}a\\u{d}");
});
