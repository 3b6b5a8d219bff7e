/**
 * Files that are made once and kept: found only whole, made under another name and renamed, so that processes that want the
 * same one neither see it half-written nor, as far as they notice each other, make it twice.
 */
import { constants } from "node:fs";
import { access, mkdir, readdir, realpath, rename, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { sha256Of } from "../../utils/checksums.ts";
import { Interrupted, messageOf, UserError } from "../../utils/errors.ts";
import { readTextIfThere, writeJson } from "../../utils/files.ts";
import { isJsonObject, type JsonObject } from "../../utils/json.ts";
import { userCache } from "../../utils/userCache.ts";

type Note = ((message: string) => void) | undefined;

/** Beside the checkpoint, and `qwen3-vl-finetune` in $XDG_CACHE_HOME or ~/.cache. */
export const cacheRoots = (dir: string): readonly string[] => [join(dir, ".base-quant"), userCache("base-quant")];

/** A file that was not touched has the same. */
export async function stateOf(path: string): Promise<string> {
  const { size, mtimeMs, ino } = await stat(path);
  return `${size} ${mtimeMs} ${ino}`;
}

/** Beside each file stands what it was when it was made. */
const sumOf = (file: string): string => `${file}.json`;

/** @returns the real path of a whole file, or null; one that is damaged is told */
export async function findWhole(roots: readonly string[], name: string, onNote: Note): Promise<string | null> {
  for (const root of roots) {
    const file = await realpath(join(root, name)).catch(() => null);
    if (file === null) continue;
    const fault = await faultOf(file);
    if (fault === null) return file;
    onNote?.(`${file}: ${fault}; it is made again`);
  }
  return null;
}

/** Gigabytes are hashed again only where the file was touched since. */
async function faultOf(file: string): Promise<string | null> {
  const saved = await readNote(sumOf(file));
  if (typeof saved?.sha256 !== "string") return `${basename(sumOf(file))} does not say what it should be`;
  const state = await stateOf(file);
  if (saved.state === state) return null;
  const { size } = await stat(file);
  if (saved.size !== size) return `damaged: it has ${size} bytes, made were ${saved.size}`;
  if ((await sha256Of(file)) !== saved.sha256) return "damaged: its SHA-256 is not the one that it was made with";
  await writeJson(sumOf(file), { ...saved, state }).catch(() => undefined); // moved or copied; a folder that is only read is hashed each time
  return null;
}

interface Making {
  readonly onNote: Note;
  /** Writes the whole file under this name. */
  readonly write: (temporary: string) => Promise<void>;
}

/** @returns the real path of the new file  @throws UserError when no root can be written */
export async function makeOnce(roots: readonly string[], name: string, { onNote, write }: Making): Promise<string> {
  const folder = await realpath(dirname(await writable(roots, name)));
  const file = join(folder, basename(name));
  if (await othersMade(file, onNote)) {
    const made = await findWhole([folder], basename(name), onNote);
    if (made !== null) return made;
  }
  const temporary = `${file}.tmp-${hostname()}-${process.pid}-${++count}`;
  try {
    await write(temporary);
    const { size } = await stat(temporary);
    // the note first: a file without one is not trusted
    await writeJson(sumOf(file), { size, sha256: await sha256Of(temporary), state: await stateOf(temporary) });
    await rename(temporary, file);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw cause instanceof UserError || cause instanceof Interrupted
      ? cause
      : new UserError(`${file}: cannot be written: ${messageOf(cause)}`, { cause });
  }
  return file;
}

let count = 0; // files made by this process

/** The path of `name` in the first root that can be written, with the folders above it. */
async function writable(roots: readonly string[], name: string): Promise<string> {
  let reason: unknown = null;
  for (const root of roots) {
    const path = join(root, name);
    try {
      await mkdir(dirname(path), { recursive: true });
      await access(dirname(path), constants.W_OK);
      return path;
    } catch (cause) {
      reason = cause;
    }
  }
  throw new UserError(
    `weights in few bits cannot be kept in ${roots.join(" or ")} (${messageOf(reason)}); set XDG_CACHE_HOME to a folder that can be written`,
    { cause: reason },
  );
}

const POLL_MS = 200;

/** Waits while somebody else makes the same file. @returns whether there was somebody */
async function othersMade(file: string, onNote: Note): Promise<boolean> {
  for (let waited = 0; ; waited++) {
    const makers = await makersOf(file);
    if (makers.length === 0) return waited > 0;
    if (waited === 0) onNote?.(`waiting for ${makers.join(", ")}: another process makes the same weights`);
    await setTimeout(POLL_MS);
  }
}

/** Names of unfinished files that somebody works on; those of processes that are gone are removed. */
async function makersOf(file: string): Promise<string[]> {
  const makers: string[] = [];
  for (const name of await readdir(dirname(file))) {
    const [, host, pid] = name.startsWith(`${basename(file)}.tmp-`) ? (/\.tmp-(.+)-(\d+)-\d+$/.exec(name) ?? []) : [];
    if (host === undefined) continue;
    const path = join(dirname(file), name);
    const isAtWork = host === hostname() ? isRunning(Number(pid)) : await wasTouched(path, FOREIGN_SILENCE_MS);
    if (isAtWork) makers.push(name);
    else await rm(path, { force: true });
  }
  return makers;
}

const FOREIGN_SILENCE_MS = 10 * 60_000; // of a process on another machine, whose number says nothing here

const wasTouched = async (path: string, withinMs: number): Promise<boolean> => {
  const found = await stat(path).catch(() => null); // renamed meanwhile
  return found !== null && Date.now() - found.mtimeMs < withinMs;
};

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return thrown instanceof Error && "code" in thrown && thrown.code === "EPERM";
  }
}

/** @returns null where there is none, or something else */
export async function readNote(file: string): Promise<JsonObject | null> {
  try {
    const note: unknown = JSON.parse((await readTextIfThere(file)) ?? "null");
    return isJsonObject(note) ? note : null;
  } catch {
    return null; // half a note of a machine that lost power: what it was about is hashed again
  }
}

/** In the first root that can be written; where none can, what it says is found out again next time. */
export async function writeNote(roots: readonly string[], name: string, note: JsonObject): Promise<void> {
  const path = await writable(roots, name).catch(() => null);
  if (path !== null) await writeJson(path, note);
}
