/** Data files for tests, in folders that go away at their end. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after } from "node:test";
import { type DatasetOptions, type Example, readDataset } from "../../src/dataset.ts";
import { UserError } from "../../src/utils/errors.ts";
import { readFixture } from "../text/models.ts";

const folders: string[] = [];
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

export function freshFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "qwen3-vl-data-")));
  folders.push(folder);
  return folder;
}

export const fromBase64 = (text: string): Buffer => Buffer.from(text, "base64");

/** A picture of 64x96, red, green, blue and white. */
export const PICTURE = fromBase64(readFixture<{ picture: string }>("data", "formats.json").picture);

/** Writes files into a folder. @returns the folder */
export function folderOf(files: Readonly<Record<string, string | Uint8Array>>, folder = freshFolder()): string {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return folder;
}

/** Writes one data file and beside it the picture images/a.png. @returns the data file */
export const dataFile = (name: string, content: string | Uint8Array): string =>
  join(folderOf({ [name]: content, "images/a.png": PICTURE }), name);

export const rowsOf = (...values: unknown[]): string => values.map((value) => JSON.stringify(value)).join("\n");

/** Asserts a UserError that begins with the file's path. @returns its message */
export async function refuses(file: string, message: RegExp, options: DatasetOptions = {}): Promise<string> {
  const thrown: unknown = await readDataset(file, options).then(
    () => assert.fail(`${file} was read`),
    (error: unknown) => error,
  );
  assert.ok(thrown instanceof UserError, thrown instanceof Error ? thrown.stack : String(thrown));
  assert.match(thrown.message, message);
  assert.ok(thrown.message.startsWith(file), thrown.message);
  return thrown.message;
}

/** The example with its pictures replaced by their bytes, so that examples compare however pictures were named. */
export function withBytes({ messages, ...rest }: Example): object {
  const part = (value: unknown): unknown => {
    if (typeof value !== "object" || value === null) return value;
    if ("kind" in value && value.kind === "file" && "path" in value)
      return readFileSync(String(value.path)).toString("base64");
    if ("kind" in value && value.kind === "bytes" && "bytes" in value)
      return Buffer.from(value.bytes as Uint8Array).toString("base64");
    if (Array.isArray(value)) return value.map(part);
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, part(inner)]));
  };
  return { ...rest, messages: part(messages) };
}
