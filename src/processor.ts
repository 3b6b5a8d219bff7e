/** What turns examples into numbers: the tokenizer, chat template and picture settings of one checkpoint. */
import { join } from "node:path";
import { type ChatTemplate, loadChatTemplate } from "./text/chatTemplate.ts";
import { loadTokenizer, type Tokenizer } from "./text/tokenizer.ts";
import type { VisualIds } from "./text/visuals.ts";
import { UserError } from "./utils/errors.ts";
import { isJsonObject, readJsonObject } from "./utils/json.ts";
import { type PixelBudget, readVisionSettings, type VisionSettings } from "./vision/settings.ts";
import { readVideoBudget, type VideoBudget } from "./vision/videoBudget.ts";

export interface Processor extends VisualIds {
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate;
  readonly vision: VisionSettings;
  readonly video: VideoBudget;
  /** Fills up shorter rows of a batch. */
  readonly padTokenId: number;
}

/**
 * Loads all of it from a model folder; `pixelBudget` replaces the checkpoint's own limits on pictures and videos.
 * @throws UserError naming the file that is missing, broken or at odds with the others
 */
export function loadProcessor(modelDir: string, pixelBudget: PixelBudget = {}): Processor {
  const tokenizer = loadTokenizer(modelDir);
  const vision = checkedVision(modelDir, readVisionSettings(modelDir, pixelBudget));
  return {
    tokenizer,
    chatTemplate: loadChatTemplate(modelDir),
    vision,
    video: readVideoBudget(modelDir, vision, pixelBudget),
    ...readVisualIds(modelDir, tokenizer),
    padTokenId: readPadTokenId(modelDir, tokenizer),
  };
}

const readConfig = (modelDir: string) => readJsonObject(join(modelDir, "config.json"), "it describes the model");

function readVisualIds(modelDir: string, tokenizer: Tokenizer): VisualIds {
  const config = readConfig(modelDir);
  const file = join(modelDir, "config.json");
  const read = (key: string, id: unknown): number => {
    if (typeof id !== "number" || !Number.isInteger(id))
      throw new UserError(`${file}: ${key} is ${JSON.stringify(id)}; expected the id of a token`);
    if (tokenizer.decode([id]) === "")
      throw new UserError(`${file}: ${key} ${id} is not in tokenizer.json; the two are of different models`);
    return id;
  };
  return {
    imageTokenId: read("image_token_id", config.image_token_id),
    videoTokenId: read("video_token_id", config.video_token_id ?? tokenizer.idOf("<|video_pad|>")),
    visionStartId: read("vision_start_token_id", config.vision_start_token_id ?? tokenizer.idOf("<|vision_start|>")),
    visionEndId: read("vision_end_token_id", config.vision_end_token_id ?? tokenizer.idOf("<|vision_end|>")),
  };
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
