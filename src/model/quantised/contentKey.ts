/** What tells one checkpoint's contents from another's, wherever it lies: a hash of the bytes of its files. */
import { createHash } from "node:crypto";
import { realpath } from "node:fs/promises";
import { sha256Of } from "../../utils/checksums.ts";
import type { TensorEntry } from "../../utils/safetensors.ts";
import { readNote, stateOf, writeNote } from "./keptFile.ts";

export async function contentKey(
  tensors: ReadonlyMap<string, Pick<TensorEntry, "file">>,
  roots: readonly string[],
): Promise<string> {
  const files = [...new Set([...tensors.values()].map(({ file }) => file))].sort();
  const hashes: string[] = [];
  for (const file of files) hashes.push(await knownHash(file, roots));
  return sha256(hashes.join("\n")).slice(0, 32);
}

/** Of gigabytes: remembered for as long as size, time and place on disk stay what they were. */
async function knownHash(file: string, roots: readonly string[]): Promise<string> {
  const path = await realpath(file);
  const note = `hashes/${sha256(path).slice(0, 32)}.json`;
  const state = await stateOf(path);
  for (const root of roots) {
    const known = await readNote(`${root}/${note}`);
    if (known?.state === state && typeof known.sha256 === "string") return known.sha256;
  }
  const hash = await sha256Of(path);
  await writeNote(roots, note, { file: path, state, sha256: hash });
  return hash;
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
