/**
 * Quantised weights on disk. They are made once for a checkpoint's contents and kept as safetensors files, one for each part
 * of the model that graphs ask for, which the runtime maps. A file is written under a temporary name and renamed when it is
 * whole, so that processes that make the same one do not disturb each other.
 */
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, readdir, realpath, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { UserError } from "../../utils/errors.ts";
import { readTextIfThere, writeJson } from "../../utils/files.ts";
import { isJsonObject } from "../../utils/json.ts";
import { readHeader, type TensorEntry } from "../../utils/safetensors.ts";
import type { Architecture } from "../architecture.ts";
import { headWeight, isVision, linearModules } from "../parameters.ts";
import { type QuantKind, storedShapes } from "./matrix.ts";
import { writeInParallel } from "./writeFile.ts";

/** What of a checkpoint is quantised. */
interface Weights {
  readonly architecture: Architecture;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/** Raised whenever the same weights would give other bytes. */
const VERSION = 2;

/**
 * The layers of the text and the vision tower, what their gradients need, and the head for answers. In training the head
 * stays as it is stored: it runs on few rows, and what it rounds would be in every gradient.
 */
export const PARTS = ["text", "text.transposed", "vision", "vision.transposed", "head"] as const;
export type QuantPart = (typeof PARTS)[number];

/** Plain data: it crosses threads. */
export interface QuantisedFiles {
  readonly kind: QuantKind;
  readonly files: { readonly [part in QuantPart]?: string };
}

export interface QuantiseOptions {
  readonly kind: QuantKind;
  readonly parts: readonly QuantPart[];
  /** Default: `qwen3-vl-finetune` in $XDG_CACHE_HOME or ~/.cache. */
  readonly cacheDir?: string;
  /** Told when a file has to be made, and how far it is. */
  readonly onProgress?: (progress: { readonly part: QuantPart; readonly done: number; readonly total: number }) => void;
}

/** Names of the weight matrices that are kept in few bits, by part. */
export function quantisedNames({ architecture }: Pick<Weights, "architecture">, part: QuantPart): readonly string[] {
  if (part === "head") return [headWeight(architecture)];
  const isOfVision = part.startsWith("vision");
  return linearModules(architecture).flatMap(({ name }) =>
    name !== "lm_head" && isVision(name) === isOfVision ? [`${name}.weight`] : [],
  );
}

/**
 * Finds the files of these parts, or makes them.
 * @throws UserError when the cache cannot be written
 */
export async function quantisedFiles(checkpoint: Weights, options: QuantiseOptions): Promise<QuantisedFiles> {
  const { kind, parts, onProgress } = options;
  const cache = options.cacheDir ?? join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "qwen3-vl-finetune");
  const dir = join(cache, "weights", await contentKey(checkpoint, cache));
  await makeFolder(dir);
  const files: Partial<Record<QuantPart, string>> = {};
  for (const part of parts) {
    const file = join(await realpath(dir), `${kind}-v${VERSION}.${part}.safetensors`);
    files[part] = file;
    if (existsSync(file)) continue;
    await removeLeftovers(dir);
    await writeInParallel(file, matricesOf(checkpoint, kind, part), {
      onProgress: (done, total) => onProgress?.({ part, done, total }),
    });
  }
  return { kind, files };
}

async function makeFolder(dir: string): Promise<void> {
  try {
    await mkdir(dir, { recursive: true });
  } catch (cause) {
    throw new UserError(
      `${dir}: cannot be made, so quantised weights cannot be kept; set XDG_CACHE_HOME to a folder that can`,
      {
        cause,
      },
    );
  }
}

/** A matrix to be kept, with the shapes of what is written for it. */
function matricesOf(checkpoint: Weights, kind: QuantKind, part: QuantPart) {
  const isTransposed = part.endsWith(".transposed");
  return quantisedNames(checkpoint, part).map((name) => {
    const entry = checkpoint.tensors.get(name) as TensorEntry;
    const [rows = 0, columns = 0] = isTransposed ? entry.shape.toReversed() : entry.shape;
    return { entry, kind, isTransposed, stored: storedShapes(kind, rows, columns) };
  });
}

/** A file that a process left behind when it died has that process's number at its end. */
async function removeLeftovers(dir: string): Promise<void> {
  for (const name of await readdir(dir)) {
    const pid = Number(/\.tmp-(\d+)$/.exec(name)?.[1] ?? Number.NaN);
    if (!Number.isNaN(pid) && pid !== process.pid && !isRunning(pid)) await rm(join(dir, name), { force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return thrown instanceof Error && "code" in thrown && thrown.code === "EPERM";
  }
}

/** What tells one checkpoint's contents from another's, wherever it lies: a hash of the bytes of its files. */
async function contentKey({ tensors }: Weights, cache: string): Promise<string> {
  const files = [...new Set([...tensors.values()].map(({ file }) => file))].sort();
  const hashes = await Promise.all(files.map((file) => fileHash(file, join(cache, "hashes"))));
  return createHash("sha256").update(hashes.join("\n")).digest("hex").slice(0, 32);
}

/** The hash of a file's bytes, remembered as long as its size, time and place on disk stay. */
async function fileHash(file: string, memory: string): Promise<string> {
  const { size, mtimeMs, ino } = await stat(file);
  const state = `${size} ${mtimeMs} ${ino}`;
  const note = join(
    memory,
    `${createHash("sha256")
      .update(await realpath(file))
      .digest("hex")
      .slice(0, 32)}.json`,
  );
  const text = await readTextIfThere(note);
  const known: unknown = text === null ? null : parsedOrNull(text);
  if (isJsonObject(known) && known.state === state && typeof known.sha256 === "string") return known.sha256;
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 22 })) hash.update(chunk as Buffer);
  const sha256 = hash.digest("hex");
  await makeFolder(memory);
  await writeJson(note, { file, state, sha256 });
  return sha256;
}

function parsedOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null; // another program's file, or a damaged one: hashed again
  }
}

/** A matrix in few bits, where it lies. */
export interface QuantisedEntry {
  readonly values: TensorEntry;
  readonly scales: TensorEntry;
}

/** The matrices of these files by the name of their weight. @throws UserError where a file is damaged */
export function openQuantised(
  { files }: QuantisedFiles,
  suffix: "" | ".transposed",
): ReadonlyMap<string, QuantisedEntry> {
  const entries = new Map<string, QuantisedEntry>();
  for (const part of PARTS) {
    const file = part.endsWith(".transposed") === (suffix !== "") ? files[part] : undefined;
    if (file === undefined) continue;
    const { tensors } = readHeader(file);
    for (const [name, values] of tensors) {
      if (!name.endsWith(".values")) continue;
      const weight = name.slice(0, -".values".length);
      const scales = tensors.get(`${weight}.scales`);
      if (!scales)
        throw new UserError(`${file}: damaged: "${weight}" has no scales; delete the file and it is made again`);
      entries.set(weight, { values, scales });
    }
  }
  return entries;
}
