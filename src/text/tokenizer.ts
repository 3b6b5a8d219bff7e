/**
 * The checkpoint's own tokenizer: text to token ids, the same ids as Python's, and where each token lies in the text.
 * It stands on @huggingface/tokenizers alone, the part of transformers.js that it needs: a few milliseconds to import.
 */
import { join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { InternalError, messageOf, UserError } from "../utils/errors.ts";
import { isJsonObject, type JsonObject, readJsonObject } from "../utils/json.ts";
import { byteSpansOf } from "./byteSpans.ts";

/** Token ids with their places: token i covers the UTF-16 units [starts[i], ends[i]) of the text. */
export interface TokenizedText {
  readonly ids: readonly number[];
  /** A token that begins inside a character (one of several bytes) starts where the character starts. */
  readonly starts: readonly number[];
  readonly ends: readonly number[];
}

export interface Tokenizer {
  /** Tokens it knows, added ones included; a model's embedding may have more rows. */
  readonly vocabSize: number;
  /** Text to ids; special tokens written in the text are recognised, none is added. */
  encode(text: string): number[];
  encodeWithOffsets(text: string): TokenizedText;
  /** Ids to text; ids beyond the vocabulary (padding rows of an embedding) give nothing, as in Python. */
  decode(ids: Iterable<number>, options?: { readonly skipSpecialTokens?: boolean }): string;
  /** @throws UserError when the tokenizer lacks the token */
  idOf(token: string): number;
}

/** What is used of the library, whose own type files cannot be resolved under this module setting. */
interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[]; tokens: string[] };
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_vocab(): ReadonlyMap<string, number>;
}

interface AddedToken {
  readonly content: string;
  readonly id: number;
}

/**
 * Loads `tokenizer.json` of a model folder: a byte-level BPE, as all Qwen models have.
 * @throws UserError naming the file when it is missing, broken or of another kind
 */
export function loadTokenizer(modelDir: string): Tokenizer {
  const file = join(modelDir, "tokenizer.json");
  const definition = readJsonObject(file, "it holds the model's tokens");
  const addedTokens = checkedAddedTokens(file, definition);
  let tokenizer: Library;
  try {
    tokenizer = new HuggingFaceTokenizer(definition, {});
  } catch (cause) {
    throw new UserError(`${file}: not a usable tokenizer (${messageOf(cause)}); download it again`, { cause });
  }
  const vocabSize = tokenizer.get_vocab().size;
  const added = new Set(addedTokens.map(({ content }) => content));
  const encode = (text: string) => tokenizer.encode(text, { add_special_tokens: false });
  return {
    vocabSize,
    encode: (text) => encode(text).ids,
    encodeWithOffsets(text) {
      const { ids, tokens } = encode(text);
      return { ids, ...offsetsOf(tokens, text, added) };
    },
    decode(ids, { skipSpecialTokens = false } = {}) {
      const known = [...ids].filter((id) => tokenizer.id_to_token(id) !== undefined);
      if (known.length === 0) return ""; // the library refuses an empty list
      return tokenizer.decode(known, { skip_special_tokens: skipSpecialTokens, clean_up_tokenization_spaces: false });
    },
    idOf(token) {
      const id = tokenizer.token_to_id(token);
      if (id === undefined) throw new UserError(`${file}: the token ${JSON.stringify(token)} is not in it`);
      return id;
    },
  };
}

/**
 * The tokens added to the vocabulary, after checking that offsets can be derived: byte-level BPE, NFC or no
 * normalisation, and added tokens that are taken from the text exactly as written.
 */
function checkedAddedTokens(file: string, definition: JsonObject): readonly AddedToken[] {
  const { model, normalizer, pre_tokenizer: preTokenizer, added_tokens: added } = definition;
  const isBytes = isJsonObject(model) && model.type === "BPE" && isByteLevel(preTokenizer);
  if (!isBytes) throw new UserError(`${file}: only byte-level BPE tokenizers, as Qwen's, are supported`);
  if (normalizer !== null && !(isJsonObject(normalizer) && normalizer.type === "NFC")) {
    throw new UserError(`${file}: its normalizer is ${JSON.stringify(normalizer)}; only NFC or none is supported`);
  }
  if (!Array.isArray(added)) throw new UserError(`${file}: "added_tokens" is missing; download it again`);
  for (const token of added as readonly unknown[]) {
    const isWhole = isJsonObject(token) && typeof token.content === "string" && Number.isInteger(token.id);
    if (!isWhole || token.lstrip || token.rstrip || token.single_word) {
      throw new UserError(
        `${file}: the added token ${JSON.stringify(token)} is not supported; expected content and id, and none of lstrip, rstrip and single_word`,
      );
    }
  }
  return added as readonly AddedToken[];
}

function isByteLevel(preTokenizer: unknown): boolean {
  if (!isJsonObject(preTokenizer)) return false;
  if (Array.isArray(preTokenizer.pretokenizers)) return preTokenizer.pretokenizers.some(isByteLevel);
  return preTokenizer.type === "ByteLevel" && !preTokenizer.add_prefix_space;
}

/**
 * Places the tokens of a text. Between two added tokens, which stand in the text as written, each character of a
 * byte-level token is one byte of the normalised text, so lengths alone tell where every token lies.
 */
function offsetsOf(
  tokens: readonly string[],
  text: string,
  added: ReadonlySet<string>,
): { starts: number[]; ends: number[] } {
  const starts: number[] = [];
  const ends: number[] = [];
  let at = 0;
  for (let i = 0; i < tokens.length; ) {
    const token = tokens[i] as string;
    if (added.has(token)) {
      starts.push(at);
      at += token.length;
      ends.push(at);
      i++;
      continue;
    }
    const next = indexOfAdded(tokens, i, added);
    const sectionEnd = next < tokens.length ? text.indexOf(tokens[next] as string, at) : text.length;
    placeSection(tokens.slice(i, next), { text: text.slice(at, sectionEnd), at, starts, ends });
    at = sectionEnd;
    i = next;
  }
  if (at !== text.length) throw new InternalError(`tokens cover ${at} of ${text.length} characters of a text`);
  return { starts, ends };
}

function indexOfAdded(tokens: readonly string[], from: number, added: ReadonlySet<string>): number {
  let i = from;
  while (i < tokens.length && !added.has(tokens[i] as string)) i++;
  return i;
}

function placeSection(
  tokens: readonly string[],
  section: { text: string; at: number; starts: number[]; ends: number[] },
): void {
  const { text, at, starts, ends } = section;
  const spans = byteSpansOf(text);
  let byte = 0;
  for (const { length } of tokens) {
    starts.push(at + (spans.starts[byte] as number));
    ends.push(at + (spans.ends[byte + length - 1] as number));
    byte += length;
  }
  if (byte !== spans.starts.length) {
    throw new InternalError(
      `tokens of ${byte} bytes stand for a text of ${spans.starts.length}: ${JSON.stringify(text)}`,
    );
  }
}
