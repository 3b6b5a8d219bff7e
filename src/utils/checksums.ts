/** SHA-256 of every file of a folder, in the form that `sha256sum -c SHA256SUMS` checks. */
import { createHash } from "node:crypto";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { messageOf, UserError } from "./errors.ts";
import { readTextIfThere, writeWhole } from "./files.ts";

export const CHECKSUMS = "SHA256SUMS";

/** Writes SHA256SUMS over the files that stand in `dir` itself. @throws UserError when it cannot be written */
export async function writeChecksums(dir: string): Promise<void> {
  const names = (await readdir(dir)).filter((name) => name !== CHECKSUMS).sort();
  const lines: string[] = [];
  for (const name of names) lines.push(`${await sha256Of(join(dir, name))}  ${name}\n`);
  await writeWhole(join(dir, CHECKSUMS), lines.join(""));
}

/** Why the files of `dir` are not those that SHA256SUMS was written for, or null. Files that it does not name are not judged. */
export async function checksumFault(dir: string): Promise<string | null> {
  const file = join(dir, CHECKSUMS);
  const text = await readTextIfThere(file);
  if (text === null) return `${file}: not found; without it nobody can tell whether the other files are whole`;
  const lines = text.split("\n").filter((line) => line !== "");
  if (lines.length === 0) return `${file}: is empty`;
  for (const line of lines) {
    const [, saved, name] = LINE.exec(line) ?? [];
    if (saved === undefined || name === undefined) return `${file}: "${line.slice(0, 80)}" is no checksum of a file`;
    const fault = await fileFault(join(dir, name), saved);
    if (fault !== null) return fault;
  }
  return null;
}

const LINE = /^([0-9a-f]{64}) {2}([^/]+)$/;

async function fileFault(file: string, saved: string): Promise<string | null> {
  try {
    const found = await sha256Of(file);
    return found === saved ? null : `${file}: damaged: its SHA-256 is ${short(found)}, saved was ${short(saved)}`;
  } catch (cause) {
    return messageOf(cause);
  }
}

const short = (sum: string): string => `${sum.slice(0, 12)}...`;

const CHUNK = 1 << 22;

/** @throws UserError when the file cannot be read */
export async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    const handle = await open(file, "r");
    try {
      const buffer = Buffer.allocUnsafe(CHUNK);
      for (let read = await handle.read(buffer); read.bytesRead > 0; read = await handle.read(buffer))
        hash.update(buffer.subarray(0, read.bytesRead));
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new UserError(`${file}: cannot be read: ${messageOf(cause)}`, { cause });
  }
  return hash.digest("hex");
}
