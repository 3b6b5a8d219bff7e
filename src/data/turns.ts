/** The turns of a row in the one form that all formats meet in, before their pictures are looked for. */
import { UserError } from "../utils/errors.ts";
import { isJsonObject, type JsonObject, kindOf } from "../utils/json.ts";
import type { ContentPart, Message } from "./example.ts";
import type { ImageReference, ImageResolver } from "./imageReference.ts";

/** A content part whose picture is named, not found yet; a null reference is a placeholder for one of a column. */
export type RawPart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image"; readonly reference: ImageReference | null }
  | { readonly type: "video"; readonly references: readonly ImageReference[]; readonly fps: number };

export type RawMessage = Omit<Message, "content"> & { readonly content: string | readonly RawPart[] };

/** Tables that went through Arrow hold null where a row has no such field. */
export const isAbsent = (value: unknown): value is undefined | null => value === undefined || value === null;

/** @throws UserError when nobody answers, or a system turn comes late */
export function checkTurns(messages: readonly RawMessage[], where: string): void {
  if (!messages.some(({ role }) => role === "assistant")) {
    throw new UserError(
      `${where}: no assistant turn among ${messages.length} messages; there is nothing to learn from`,
    );
  }
  const system = messages.findLastIndex(({ role }) => role === "system");
  if (system > 0)
    throw new UserError(`${where}, message ${system + 1}: a system turn; only the first message may be one`);
}

/** A turn's own mark of whether it is learnt. */
export function trainMark({ train }: JsonObject, where: string): { readonly train?: boolean } {
  if (isAbsent(train)) return {};
  if (typeof train !== "boolean") throw new UserError(`${where}: train is ${kindOf(train)}; expected true or false`);
  return { train };
}

/**
 * A path or URI as it stands, inside `{"url": ...}` (OpenAI), or a file with its bytes, `{"bytes": ..., "path": ...}`
 * (Hugging Face data sets).
 */
export function referenceOf(value: unknown, where: string): ImageReference {
  if (typeof value === "string") return value;
  if (value instanceof Uint8Array) return { bytes: value, path: null };
  const { bytes, url, path }: JsonObject = isJsonObject(value) ? value : {};
  if (bytes instanceof Uint8Array) return { bytes, path: typeof path === "string" ? path : null };
  const inner = url ?? path;
  if (typeof inner === "string") return inner;
  throw new UserError(
    `${where}: a picture is ${kindOf(value)}; expected a path, a data: URI, {"url": ...} or {"bytes": ..., "path": ...}`,
  );
}

/** The pictures of a row's `images` or `image` column, one or a list; null where the row has neither. */
export function imageColumn({ images, image }: JsonObject, where: string): readonly ImageReference[] | null {
  if (!isAbsent(images) && !isAbsent(image))
    throw new UserError(`${where}: the row has "image" and "images"; expected one of them`);
  const column = images ?? image;
  if (isAbsent(column)) return null;
  const name = isAbsent(images) ? "image" : "images";
  const list: readonly unknown[] = Array.isArray(column) ? column : [column];
  return list.map((entry, i) => referenceOf(entry, `${where}, ${name} entry ${i + 1}`));
}

export interface ResolveOptions {
  /** File and row, for messages. */
  readonly where: string;
  readonly resolveImage: ImageResolver;
}

/** Finds the pictures of the turns. @throws UserError naming the first that is not to be had */
export const resolveTurns = (messages: readonly RawMessage[], options: ResolveOptions): Promise<readonly Message[]> =>
  Promise.all(messages.map((message) => resolved(message, options)));

async function resolved({ content, ...rest }: RawMessage, options: ResolveOptions): Promise<Message> {
  if (typeof content === "string") return { ...rest, content };
  return { ...rest, content: await Promise.all(content.map((part) => resolvedPart(part, options))) };
}

async function resolvedPart(part: RawPart, { where, resolveImage }: ResolveOptions): Promise<ContentPart> {
  if (part.type === "text") return part;
  if (part.type === "video") {
    const frames = part.references.map(async (reference, i) => resolveImage(reference, `${where}, frame ${i + 1}`));
    return { type: "video", video: await Promise.all(frames), fps: part.fps };
  }
  if (part.reference === null) throw new UserError(`${where}: an image part without a picture`);
  return { type: "image", image: await resolveImage(part.reference, where) };
}
