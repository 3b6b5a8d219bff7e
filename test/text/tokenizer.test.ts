import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { UserError } from "../../src/utils/errors.ts";
import { temporaryFolder } from "./folders.ts";
import { readFixture, realProcessor, TINY_MODEL } from "./models.ts";

interface TokenizerFixture {
  vocab_size: number;
  encode: { text: string; ids: number[]; offsets: [number, number][] }[];
  decode: { ids: number[]; text: string; skipped: string }[];
}

const golden = readFixture<TokenizerFixture>("text", "qwen3_tokenizer.json");

/** UTF-16 offset of every code point, and of the end. */
function unitOffsets(text: string): number[] {
  const offsets = [0];
  for (const char of text) offsets.push((offsets.at(-1) ?? 0) + char.length);
  return offsets;
}

test("ids equal Python's on awkward text, and the vocabulary has its size", () => {
  const { tokenizer } = realProcessor();
  assert.equal(tokenizer.vocabSize, golden.vocab_size);
  for (const { text, ids } of golden.encode) assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
});

test("tokens lie where Python says they lie", () => {
  const { tokenizer } = realProcessor();
  for (const { text, offsets } of golden.encode) {
    const units = unitOffsets(text);
    const { starts, ends } = tokenizer.encodeWithOffsets(text);
    const isNormal = text.normalize("NFC") === text;
    // where characters compose, Python leaves the later ones without a token; here the token covers them all
    const expected = isNormal ? offsets.map(([from, to]) => [units[from], units[to]]) : null;
    if (expected)
      assert.deepEqual(
        starts.map((start, i) => [start, ends[i]]),
        expected,
        JSON.stringify(text),
      );
  }
  assert.ok(golden.encode.filter(({ text }) => text.normalize("NFC") === text).length > 80);
});

test("a composed character's token covers all that it was composed of", () => {
  const { tokenizer } = realProcessor();
  for (const piece of ["e\u0301", "\u1112\u1161\u11ab"]) {
    const { starts, ends } = tokenizer.encodeWithOffsets(`<|im_end|>${piece}<|im_end|>1`);
    assert.deepEqual(starts, [0, 10, 10 + piece.length, 20 + piece.length]);
    assert.deepEqual(ends, [10, 10 + piece.length, 20 + piece.length, 21 + piece.length]);
  }
});

test("offsets cover any text without gap or step back", () => {
  const tokenizer = loadTokenizer(TINY_MODEL);
  const piece = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom("<|im_start|>", "e\u0301", "\u1112\u1161", "\ud83d", "\n"),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 6 }), (pieces) => {
      const text = pieces.join("");
      const { ids, starts, ends } = tokenizer.encodeWithOffsets(text);
      assert.deepEqual(ids, tokenizer.encode(text));
      let covered = 0;
      starts.forEach((start, i) => {
        assert.ok(start <= covered && (ends[i] as number) >= covered);
        covered = ends[i] as number;
      });
      assert.equal(covered, text.length);
    }),
    { numRuns: 300, seed: 1 },
  );
});

test("text of ids equals Python's, with and without special tokens, padding rows of the embedding included", () => {
  const { tokenizer } = realProcessor();
  for (const { ids, text, skipped } of golden.decode) {
    assert.equal(tokenizer.decode(ids), text, String(ids));
    assert.equal(tokenizer.decode(ids, { skipSpecialTokens: true }), skipped, String(ids));
  }
  assert.equal(tokenizer.decode([]), "");
});

test("idOf names the file when a token is unknown", () => {
  const { tokenizer } = realProcessor();
  assert.equal(tokenizer.idOf("<|im_end|>"), 151645);
  assert.throws(() => tokenizer.idOf("<|nothing|>"), /tokenizer\.json: the token "<\|nothing\|>" is not in it/);
});

test("a missing or broken tokenizer.json is refused by name", () => {
  const folder = temporaryFolder();
  const file = join(folder, "tokenizer.json");
  const refuses = (message: RegExp) =>
    assert.throws(
      () => loadTokenizer(folder),
      (error: Error) => error instanceof UserError && error.message.startsWith(file) && message.test(error.message),
    );
  refuses(/not found/);
  const whole = readFileSync(join(TINY_MODEL, "tokenizer.json"), "utf8");
  const definition = JSON.parse(whole) as Record<string, unknown>;
  const write = (changes: object) => writeFileSync(file, JSON.stringify({ ...definition, ...changes }));
  writeFileSync(file, whole.slice(0, 1000));
  refuses(/cannot be read as JSON .*download it again/);
  writeFileSync(file, "[]");
  refuses(/expected a JSON object, found a list/);
  write({ model: { type: "Unigram", vocab: [] } });
  refuses(/only byte-level BPE tokenizers/);
  write({ pre_tokenizer: { type: "Whitespace" } });
  refuses(/only byte-level BPE tokenizers/);
  write({ normalizer: { type: "Lowercase" } });
  refuses(/its normalizer is \{"type":"Lowercase"\}; only NFC/);
  write({ added_tokens: [{ id: 1, content: "<x>", lstrip: true }] });
  refuses(/added token .*<x>.* is not supported/);
  write({ model: { type: "BPE" } });
  refuses(/not a usable tokenizer/);
});
