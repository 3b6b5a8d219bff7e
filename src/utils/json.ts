/** JSON files that a user hands us. */
import { existsSync, readFileSync } from "node:fs";
import { messageOf, UserError } from "./errors.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * Reads a file that must hold one JSON object.
 * @param purpose what the file is for, said when it is missing: "it holds the model's words"
 * @throws UserError naming the file when it is missing, not JSON or not an object
 */
export function readJsonObject(file: string, purpose: string): JsonObject {
  if (!existsSync(file)) {
    throw new UserError(
      `${file}: not found; ${purpose}: check the folder, or copy the file from where the others came from`,
    );
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(file, "utf8"));
  } catch (cause) {
    throw new UserError(`${file}: cannot be read as JSON (${messageOf(cause)}); download it again`, { cause });
  }
  if (!isJsonObject(parsed)) throw new UserError(`${file}: expected a JSON object, found ${kindOf(parsed)}`);
  return parsed;
}

/** What a JSON value is, as messages call it; also of the bytes and large numbers that tables hold. */
export function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (value instanceof Uint8Array) return "bytes";
  if (typeof value === "bigint") return String(value);
  if (typeof value === "object") return "an object";
  const text = JSON.stringify(typeof value === "string" ? value.slice(0, 80) : value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
