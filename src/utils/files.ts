/** Writing files whole or not at all. */
import { open, readFile, rename, rm } from "node:fs/promises";
import { messageOf, UserError } from "./errors.ts";

/** Writes to a temporary name beside `file`, flushes, renames: readers see the old text or the new, never a part. */
export async function writeWhole(file: string, contents: string | Uint8Array): Promise<void> {
  const temporary = `${file}.tmp-${process.pid}`;
  try {
    const handle = await open(temporary, "w");
    try {
      await handle.writeFile(contents);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new UserError(`${file}: cannot be written: ${messageOf(cause)}`, { cause });
  }
}

/** Indented JSON with a newline at its end. */
export const jsonText = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

export const writeJson = (file: string, value: unknown): Promise<void> => writeWhole(file, jsonText(value));

/** @returns the text, or null where there is no such file  @throws UserError when it cannot be read */
export async function readTextIfThere(file: string): Promise<string | null> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw new UserError(`${file}: cannot be read: ${messageOf(cause)}`, { cause });
  }
}
