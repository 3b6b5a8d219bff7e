import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { loadProcessor } from "../src/processor.ts";
import { UserError } from "../src/utils/errors.ts";
import { temporaryFolder } from "./text/folders.ts";
import { TINY_MODEL } from "./text/models.ts";

const FILES = [
  "config.json",
  "preprocessor_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "chat_template.jinja",
];

/** A copy of the tiny model folder without weights. */
function modelFolder(): string {
  const folder = temporaryFolder();
  for (const file of FILES) cpSync(join(TINY_MODEL, file), join(folder, file));
  return folder;
}

function change(folder: string, file: string, changes: object): void {
  const path = join(folder, file);
  writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, "utf8")) as object), ...changes }));
}

function refuses(prepare: (folder: string) => void, message: RegExp): void {
  const folder = modelFolder();
  prepare(folder);
  assert.throws(
    () => loadProcessor(folder),
    (error: Error) => error instanceof UserError && error.message.startsWith(folder) && message.test(error.message),
  );
}

test("reads the ids of the picture and padding tokens, and the pixel budget given", () => {
  const processor = loadProcessor(TINY_MODEL, { maxPixels: 32768 });
  assert.equal(processor.imageTokenId, processor.tokenizer.idOf("<|image_pad|>"));
  assert.equal(processor.padTokenId, processor.tokenizer.idOf("<|endoftext|>"));
  assert.deepEqual([processor.vision.minPixels, processor.vision.maxPixels], [4096, 32768]);
});

test("ids of the tokens around pictures and videos come from config.json, else by their names", () => {
  const { tokenizer, ...processor } = loadProcessor(TINY_MODEL);
  assert.equal(processor.videoTokenId, tokenizer.idOf("<|video_pad|>"));
  assert.equal(processor.visionStartId, tokenizer.idOf("<|vision_start|>"));
  assert.equal(processor.visionEndId, tokenizer.idOf("<|vision_end|>"));
  const folder = modelFolder();
  change(folder, "config.json", {
    video_token_id: undefined,
    vision_start_token_id: 5,
    vision_end_token_id: undefined,
  });
  const { videoTokenId, visionStartId, visionEndId } = loadProcessor(folder);
  assert.deepEqual([videoTokenId, visionStartId, visionEndId], [processor.videoTokenId, 5, processor.visionEndId]);
  refuses((broken) => change(broken, "config.json", { video_token_id: "x" }), /config\.json: video_token_id is "x"/);
});

test("the padding token may be written as an object, or be left out", () => {
  const folder = modelFolder();
  change(folder, "tokenizer_config.json", { pad_token: { content: "<|im_end|>" } });
  assert.equal(loadProcessor(folder).padTokenId, loadProcessor(TINY_MODEL).tokenizer.idOf("<|im_end|>"));
  change(folder, "tokenizer_config.json", { pad_token: null });
  assert.equal(loadProcessor(folder).padTokenId, loadProcessor(TINY_MODEL).padTokenId);
});

for (const file of ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]) {
  test(`a folder without ${file} is refused by the file's name`, () => {
    refuses((folder) => rmSync(join(folder, file)), new RegExp(`${file.replace(".", "\\.")}: not found`));
  });
}

test("files at odds with each other are refused", () => {
  refuses(
    (folder) => change(folder, "config.json", { image_token_id: undefined }),
    /config\.json: image_token_id is undefined/,
  );
  refuses(
    (folder) => change(folder, "config.json", { image_token_id: 699 }),
    /image_token_id 699 is not in tokenizer\.json/,
  );
  refuses(
    (folder) => change(folder, "config.json", { vision_config: { patch_size: 14, spatial_merge_size: 2 } }),
    /config\.json has patch_size 14 and spatial_merge_size 2, the picture settings have patch_size 16 and merge_size 2/,
  );
  refuses(
    (folder) => change(folder, "tokenizer_config.json", { pad_token: "<none>" }),
    /the token "<none>" is not in it/,
  );
});
