/** What turns examples into numbers: the tokenizer, chat template and picture settings of one checkpoint. */
import { join } from "node:path";
import { type ChatTemplate, loadChatTemplate } from "./text/chatTemplate.ts";
import { loadTokenizer, type Tokenizer } from "./text/tokenizer.ts";
import { UserError } from "./utils/errors.ts";
import { isJsonObject, readJsonObject } from "./utils/json.ts";
import { type PixelBudget, readVisionSettings, type VisionSettings } from "./vision/settings.ts";

export interface Processor {
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate;
  readonly vision: VisionSettings;
  /** Stands in the text for one block of patches. */
  readonly imageTokenId: number;
  /** Fills up shorter rows of a batch. */
  readonly padTokenId: number;
}

/**
 * Loads all of it from a model folder; `pixelBudget` replaces the checkpoint's own smallest and largest picture.
 * @throws UserError naming the file that is missing, broken or at odds with the others
 */
export function loadProcessor(modelDir: string, pixelBudget: PixelBudget = {}): Processor {
  const tokenizer = loadTokenizer(modelDir);
  return {
    tokenizer,
    chatTemplate: loadChatTemplate(modelDir),
    vision: checkedVision(modelDir, readVisionSettings(modelDir, pixelBudget)),
    imageTokenId: readImageTokenId(modelDir, tokenizer),
    padTokenId: readPadTokenId(modelDir, tokenizer),
  };
}

const readConfig = (modelDir: string) => readJsonObject(join(modelDir, "config.json"), "it describes the model");

function readImageTokenId(modelDir: string, tokenizer: Tokenizer): number {
  const file = join(modelDir, "config.json");
  const { image_token_id: id } = readConfig(modelDir);
  if (typeof id !== "number" || !Number.isInteger(id)) {
    throw new UserError(`${file}: image_token_id is ${JSON.stringify(id)}; expected the id of the token for a picture`);
  }
  if (tokenizer.decode([id]) === "") {
    throw new UserError(`${file}: image_token_id ${id} is not in tokenizer.json; the two are of different models`);
  }
  return id;
}

/** The model's blocks of patches must be the picture settings': else tokens and features would not match. */
function checkedVision(modelDir: string, settings: VisionSettings): VisionSettings {
  const { vision_config: model } = readConfig(modelDir);
  if (!isJsonObject(model)) return settings;
  const { patch_size: patchSize, spatial_merge_size: mergeSize } = model;
  const isSame = (mine: number, theirs: unknown): boolean => theirs === undefined || theirs === mine;
  if (!isSame(settings.patchSize, patchSize) || !isSame(settings.mergeSize, mergeSize)) {
    throw new UserError(
      `${modelDir}: config.json has patch_size ${patchSize} and spatial_merge_size ${mergeSize}, the picture settings have ` +
        `patch_size ${settings.patchSize} and merge_size ${settings.mergeSize}; the two files are of different models`,
    );
  }
  return settings;
}

/** Padding is masked everywhere, so any known token would do where a checkpoint names none: the end of text. */
function readPadTokenId(modelDir: string, tokenizer: Tokenizer): number {
  const { pad_token: pad } = readJsonObject(join(modelDir, "tokenizer_config.json"), "it names the padding token");
  const content = isJsonObject(pad) ? pad.content : pad;
  return tokenizer.idOf(typeof content === "string" ? content : "<|endoftext|>");
}
