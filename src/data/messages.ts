/** The `messages` of one row: OpenAI's and transformers' ways of writing them, checked. */
import { UserError } from "../utils/errors.ts";
import { isJsonObject, type JsonObject, kindOf } from "../utils/json.ts";
import { ROLES, type Role } from "./example.ts";
import type { ImageReference } from "./imageReference.ts";
import { checkTurns, imageColumn, isAbsent, type RawMessage, type RawPart, referenceOf, trainMark } from "./turns.ts";

const IMAGE_TAG = "<image>";

/**
 * The conversation of one row. Pictures are named in their content parts, or in the row's `images` or `image` column, whose
 * entries stand in order for `{"type": "image"}` placeholders or, where there are none, for `<image>` tags.
 * @throws UserError naming file, row and message
 */
export function turnsOfMessages(row: JsonObject, where: string): readonly RawMessage[] {
  const { messages } = row;
  if (!Array.isArray(messages)) throw new UserError(`${where}: messages is ${kindOf(messages)}; expected a list`);
  const raw = messages.map((message: unknown, i) => rawMessage(message, `${where}, message ${i + 1}`));
  checkTurns(raw, where);
  return placeImages(raw, imageColumn(row, where), where);
}

function rawMessage(message: unknown, where: string): RawMessage {
  if (!isJsonObject(message))
    throw new UserError(`${where}: expected an object with role and content, found ${kindOf(message)}`);
  const { tool_calls: calls, reasoning_content: reasoning } = message;
  if (!isAbsent(calls) && !(Array.isArray(calls) && calls.every(isJsonObject))) {
    throw new UserError(`${where}: tool_calls is ${kindOf(calls)}; expected a list of calls`);
  }
  if (!isAbsent(reasoning) && typeof reasoning !== "string") {
    throw new UserError(`${where}: reasoning_content is ${kindOf(reasoning)}; expected text`);
  }
  return {
    role: roleOf(message, where),
    content: contentOf(message, where),
    ...(isAbsent(calls) ? {} : { tool_calls: calls as readonly object[] }),
    ...(isAbsent(reasoning) ? {} : { reasoning_content: reasoning as string }),
    ...trainMark(message, where),
  };
}

function roleOf({ role }: JsonObject, where: string): Role {
  const known = ROLES.find((name) => name === role);
  if (known === undefined)
    throw new UserError(`${where}: role is ${kindOf(role)}; expected one of ${ROLES.join(", ")}`);
  return known;
}

/** An assistant that only calls tools may have null content, as OpenAI writes it. */
function contentOf({ role, content, tool_calls: calls }: JsonObject, where: string): string | readonly RawPart[] {
  if (typeof content === "string") return content;
  if (isAbsent(content) && role === "assistant" && Array.isArray(calls)) return "";
  if (!Array.isArray(content))
    throw new UserError(`${where}: content is ${kindOf(content)}; expected text or a list of parts`);
  return content.map((part: unknown, i) => rawPart(part, `${where}, part ${i + 1}`));
}

function rawPart(part: unknown, where: string): RawPart {
  if (!isJsonObject(part)) throw new UserError(`${where}: expected an object with a type, found ${kindOf(part)}`);
  if (part.type === "text") {
    if (typeof part.text !== "string") throw new UserError(`${where}: text is ${kindOf(part.text)}; expected text`);
    return { type: "text", text: part.text };
  }
  if (part.type === "image" || part.type === "image_url") {
    const given = [part.image, part.url, part.path, part.image_url].filter((value) => !isAbsent(value));
    if (given.length > 1)
      throw new UserError(`${where}: names its picture ${given.length} times; expected one of image, url, path`);
    return { type: "image", reference: given.length === 0 ? null : referenceOf(given[0], where) };
  }
  if (part.type === "video") return videoPart(part, where);
  throw new UserError(`${where}: type is ${kindOf(part.type)}; expected text, image, image_url or video`);
}

/** Frames and their rate, from which the model is told when each was taken. */
function videoPart({ video, fps }: JsonObject, where: string): RawPart {
  if (!Array.isArray(video) || video.length === 0)
    throw new UserError(
      `${where}: video is ${Array.isArray(video) ? "an empty list" : kindOf(video)}; expected a list of its frames as picture files`,
    );
  if (typeof fps !== "number" || !Number.isFinite(fps) || fps <= 0)
    throw new UserError(
      `${where}: fps is ${kindOf(fps)}; expected how many of the frames make a second, as in "fps": 2`,
    );
  return { type: "video", references: video.map((frame, i) => referenceOf(frame, `${where}, frame ${i + 1}`)), fps };
}

function placeImages(
  messages: readonly RawMessage[],
  column: readonly ImageReference[] | null,
  where: string,
): RawMessage[] {
  const hasPlaceholders = messages.some(({ content }) => typeof content !== "string" && content.some(isPlaceholder));
  if (column === null) {
    refuseLonePlaceholders(messages, hasPlaceholders, where);
    return [...messages];
  }
  const split = hasPlaceholders ? [...messages] : messages.map(splitAtTags);
  let used = 0;
  const filled = split.map((message) =>
    mapParts(message, (part) => (isPlaceholder(part) ? fill(part, column[used++]) : part)),
  );
  if (used !== column.length) {
    const kind = hasPlaceholders ? '{"type": "image"} placeholders' : `${IMAGE_TAG} tags`;
    throw new UserError(`${where}: ${used} ${kind} for ${column.length} images; expected one for each`);
  }
  return filled;
}

const isPlaceholder = (part: RawPart): boolean => part.type === "image" && part.reference === null;

/** A placeholder beyond the column's end stays one; the count that follows refuses it. */
const fill = (part: RawPart, reference: ImageReference | undefined): RawPart =>
  reference === undefined ? part : { type: "image", reference };

const mapParts = (message: RawMessage, change: (part: RawPart) => RawPart): RawMessage =>
  typeof message.content === "string" ? message : { ...message, content: message.content.map(change) };

function refuseLonePlaceholders(messages: readonly RawMessage[], hasPlaceholders: boolean, where: string): void {
  if (hasPlaceholders) {
    throw new UserError(
      `${where}: an image part without image, url or path, and the row has no "images" to take it from`,
    );
  }
  const tagged = messages.findIndex(({ content }) => typeof content === "string" && content.includes(IMAGE_TAG));
  if (tagged >= 0) {
    throw new UserError(
      `${where}, message ${tagged + 1}: an ${IMAGE_TAG} tag, but the row has no "images"; add them, or write the text as a {"type": "text"} part if the tag is meant literally`,
    );
  }
}

/** Cuts text at `<image>` tags; the text around them stays exactly as written. */
function splitAtTags(message: RawMessage): RawMessage {
  const parts: readonly RawPart[] =
    typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content;
  if (!parts.some((part) => part.type === "text" && part.text.includes(IMAGE_TAG))) return message;
  return { ...message, content: parts.flatMap((part) => (part.type === "text" ? splitText(part.text) : [part])) };
}

const splitText = (text: string): RawPart[] =>
  text
    .split(IMAGE_TAG)
    .flatMap((piece, i): RawPart[] => [
      ...(i > 0 ? [{ type: "image" as const, reference: null }] : []),
      { type: "text", text: piece },
    ])
    .filter((part) => part.type !== "text" || part.text !== "");
