/** Which samples are one and the same: the same pictures, byte for byte wherever they lie, and the same words. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { mapAhead } from "../utils/ahead.ts";
import { messageOf, UserError } from "../utils/errors.ts";
import { type ImageSource, nameOf } from "../vision/image.ts";
import { type Example, imagesOf, type Message } from "./example.ts";

const READING_AT_ONCE = 16;

/**
 * Groups of equal samples, each of at least two, in the order of their first. Most samples differ by their words or by the
 * sizes of their pictures' files; only where both agree are pictures read.
 * @throws UserError naming a picture that cannot be read
 */
export async function sameSamples(examples: readonly Example[]): Promise<Example[][]> {
  const pictures = new Pictures();
  const alike = await groupedBy(examples, async (example) => {
    const sizes = await Promise.all(imagesOf(example.messages).map((source) => pictures.size(source)));
    return hashOf([wordsOf(example), sizes]);
  });
  const equal: Example[][] = [];
  for (const group of alike) {
    const byPictures = await groupedBy(group, async ({ messages }) =>
      hashOf(await Promise.all(imagesOf(messages).map((source) => pictures.hash(source)))),
    );
    equal.push(...byPictures);
  }
  return equal;
}

async function groupedBy(
  examples: readonly Example[],
  keyOf: (example: Example) => Promise<string>,
): Promise<Example[][]> {
  const groups = new Map<string, Example[]>();
  for await (const { key, example } of mapAhead(examples, READING_AT_ONCE, async (one) => ({
    key: await keyOf(one),
    example: one,
  }))) {
    const group = groups.get(key);
    if (group) group.push(example);
    else groups.set(key, [example]);
  }
  return [...groups.values()].filter((group) => group.length > 1);
}

const hashOf = (value: unknown): string => createHash("sha256").update(JSON.stringify(value)).digest("base64");

/** All that is said, each picture a mark in its place; text in one part or in several reads the same. */
const wordsOf = ({ messages, tools }: Example): unknown => [messages.map(turnOf), tools ?? null];

function turnOf({ role, content, tool_calls: calls, reasoning_content: reasoning }: Message): unknown {
  const joined: unknown[] = [];
  for (const part of typeof content === "string" ? [content] : content.map(markOf)) {
    const last = joined.at(-1);
    if (typeof part === "string" && typeof last === "string") joined[joined.length - 1] = last + part;
    else joined.push(part);
  }
  return [role, joined, calls ?? null, reasoning ?? null];
}

const markOf = (part: Exclude<Message["content"], string>[number]): unknown => {
  if (part.type === "text") return part.text;
  return part.type === "image" ? ["image"] : ["video", part.video.length, part.fps];
};

/** Size and hash of pictures, each file looked at once. */
class Pictures {
  readonly #sizes = new Map<string, Promise<number>>();
  readonly #hashes = new Map<string, Promise<string>>();

  async size(source: ImageSource): Promise<number> {
    if (source.kind === "bytes") return source.bytes.length;
    return remembered(this.#sizes, source.path, async () => (await stat(source.path)).size);
  }

  async hash(source: ImageSource): Promise<string> {
    if (source.kind === "bytes") return createHash("sha256").update(source.bytes).digest("base64");
    return remembered(this.#hashes, source.path, async () => {
      const hash = createHash("sha256");
      for await (const chunk of createReadStream(source.path)) hash.update(chunk as Uint8Array);
      return hash.digest("base64");
    });
  }
}

function remembered<T>(known: Map<string, Promise<T>>, path: string, look: () => Promise<T>): Promise<T> {
  const found =
    known.get(path) ??
    look().catch((cause: unknown) => {
      const name = nameOf({ kind: "file", path });
      throw new UserError(`${name}: the picture cannot be read (${messageOf(cause)}); check the path`, { cause });
    });
  known.set(path, found);
  return found;
}
