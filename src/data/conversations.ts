/**
 * The `conversations` of one row, as LLaVA and the official Qwen-VL scripts write them:
 * `{"image": "a.png", "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]}`.
 *
 * Source: QwenLM/Qwen3-VL at 23d3cce0fad276c7ffb0497d825ec5c0fedc19b0, qwen-vl-finetune/qwenvl/data/data_processor.py,
 * _build_messages: a human's value is cut at every `<image>`; each piece of text is stripped as by Python's str.strip and
 * left out where nothing remains; pictures are taken in order, and none may be missing or left over. An answer is one text,
 * kept exactly, tags included. There every turn that is not the human's is an answer; here "user" and "assistant" are
 * read as they say, "system" becomes a system turn, and other names are refused.
 */
import { UserError } from "../utils/errors.ts";
import { isJsonObject, type JsonObject, kindOf } from "../utils/json.ts";
import { pythonStrip } from "../utils/python.ts";
import type { Role } from "./example.ts";
import type { ImageReference } from "./imageReference.ts";
import { checkTurns, imageColumn, isAbsent, type RawMessage, type RawPart, trainMark } from "./turns.ts";

const ROLE_OF: ReadonlyMap<unknown, Role> = new Map([
  ["human", "user"],
  ["user", "user"],
  ["gpt", "assistant"],
  ["assistant", "assistant"],
  ["system", "system"],
]);

/** @throws UserError naming file, row and turn */
export function turnsOfConversation(row: JsonObject, where: string): readonly RawMessage[] {
  const { conversations, video } = row;
  if (!Array.isArray(conversations))
    throw new UserError(`${where}: conversations is ${kindOf(conversations)}; expected a list`);
  if (!isAbsent(video) && !(Array.isArray(video) && video.length === 0)) refuseVideo(where);
  const pictures = imagesOfRow(row, where);
  const messages = conversations.map((turn: unknown, i) => turnOf(turn, pictures, `${where}, turn ${i + 1}`));
  if (pictures.left.length > 0)
    throw new UserError(
      `${where}: ${pictures.count - pictures.left.length} <image> tags for ${pictures.count} images; expected one for each`,
    );
  checkTurns(messages, where);
  return messages;
}

/** The pictures that no tag has taken yet. */
interface Pictures {
  readonly count: number;
  readonly left: ImageReference[];
}

/** As in the official script, an empty text or list of pictures means none. */
function imagesOfRow(row: JsonObject, where: string): Pictures {
  const left = [...(imageColumn(row.image === "" ? { ...row, image: null } : row, where) ?? [])];
  return { count: left.length, left };
}

function turnOf(turn: unknown, pictures: Pictures, where: string): RawMessage {
  if (!isJsonObject(turn))
    throw new UserError(`${where}: expected an object with from and value, found ${kindOf(turn)}`);
  const { from, value } = turn;
  const role = ROLE_OF.get(from);
  if (role === undefined)
    throw new UserError(`${where}: from is ${kindOf(from)}; expected human, user, gpt, assistant or system`);
  if (typeof value !== "string") throw new UserError(`${where}: value is ${kindOf(value)}; expected text`);
  const content = role === "user" ? questionParts(value, pictures, where) : [{ type: "text" as const, text: value }];
  return { role, content, ...trainMark(turn, where) };
}

function questionParts(value: string, pictures: Pictures, where: string): RawPart[] {
  if (value.includes("<video>")) refuseVideo(where);
  return value.split("<image>").flatMap((piece, i): RawPart[] => {
    const text = pythonStrip(piece);
    const words: RawPart[] = text === "" ? [] : [{ type: "text", text }];
    return i === 0 ? words : [{ type: "image", reference: nextPicture(pictures, where) }, ...words];
  });
}

function nextPicture({ left, count }: Pictures, where: string): ImageReference {
  const next = left.shift();
  if (next !== undefined) return next;
  throw new UserError(`${where}: an <image> tag more than the row's ${count} images; expected one for each`);
}

function refuseVideo(where: string): never {
  throw new UserError(
    `${where}: a video file; videos are read as their frames: write "messages" with {"type": "video", "video": [frames], "fps": 2}`,
  );
}
