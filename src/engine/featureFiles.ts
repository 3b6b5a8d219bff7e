/**
 * Outputs of the frozen vision tower on disk, one file a picture: what one run has computed, later passes and later runs read.
 *
 * Several processes may use one folder. A file is written under a name of its own and renamed, so that it is whole or not
 * there; its SHA-256 stands in it, and one that is damaged is removed and made again. When the files of all towers together
 * would take more than they may, those that were used longest ago go first.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import type { PictureFeatures } from "../model/feeds.ts";
import { messageOf, required, UserError } from "../utils/errors.ts";
import { headerBytes, readHeader, readTensorBytes, type TensorEntry } from "../utils/safetensors.ts";

export interface FeatureFilesOptions {
  /** Folder of all towers' files. */
  readonly root: string;
  /** What tells this tower's outputs from another's; see `towerIdentity`. */
  readonly tower: string;
  readonly maxBytes: number;
  /** Told of a damaged file, and once of a folder that cannot be written. */
  readonly onNote: (message: string) => void;
}

/** Of the room, this share is freed beyond what is needed, and may be written before other processes' files are counted anew. */
const SLACK = 1 / 16;
/** An unfinished file that was not touched for so long belongs to nobody. */
const ABANDONED_MS = 60 * 60_000;
const UNFINISHED = ".part-";

const EMBEDS = "image_embeds";
const DEEPSTACK = "deepstack.";

export class FeatureFiles {
  readonly #options: FeatureFilesOptions;
  /** Bytes of all files when they were last counted, and written since. */
  #known: { readonly counted: number; readonly written: number } | null = null;
  #isWritable = true;
  #made = 0;

  constructor(options: FeatureFilesOptions) {
    this.#options = options;
  }

  /** @returns what was kept under this name, or null */
  async find(name: string): Promise<PictureFeatures | null> {
    const file = this.#fileOf(name);
    if (!existsSync(file)) return null;
    try {
      const features = read(file);
      const now = new Date();
      await utimes(file, now, now).catch(() => undefined); // a folder that is only read is used all the same
      return features;
    } catch (fault) {
      if (!existsSync(file)) return null; // another process has just made room
      this.#options.onNote(`${messageOf(fault)}; it is made again`);
      await rm(file, { force: true }).catch(() => undefined);
      return null;
    }
  }

  /** Never fails: what cannot be kept is computed again the next time. */
  async keep(name: string, features: PictureFeatures): Promise<void> {
    if (!this.#isWritable) return;
    try {
      await this.#write(this.#fileOf(name), fileParts(features));
    } catch (cause) {
      this.#isWritable = false;
      this.#options.onNote(
        `${this.#options.root}: outputs of the vision tower cannot be kept there (${messageOf(cause)}); later runs compute them again`,
      );
    }
  }

  #fileOf(name: string): string {
    return join(this.#options.root, this.#options.tower, `${name}.safetensors`);
  }

  async #write(file: string, parts: readonly Uint8Array[]): Promise<void> {
    const size = parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
    if (!(await this.#makeRoom(size))) return;
    const temporary = `${file}${UNFINISHED}${hostname()}-${process.pid}-${++this.#made}`;
    await mkdir(dirname(file), { recursive: true });
    try {
      const handle = await open(temporary, "wx");
      try {
        for (const part of parts) await handle.writeFile(part);
      } finally {
        await handle.close();
      }
      await rename(temporary, file);
    } catch (cause) {
      await rm(temporary, { force: true });
      throw cause;
    }
    const { counted, written } = required(this.#known, "count of bytes");
    this.#known = { counted, written: written + size };
  }

  /** @returns false where a file of this size can never have a place */
  async #makeRoom(size: number): Promise<boolean> {
    const { root, maxBytes } = this.#options;
    if (size > maxBytes) return false;
    const { counted, written } = this.#known ?? { counted: maxBytes, written: 0 };
    if (counted + written + size <= maxBytes && written <= SLACK * maxBytes) return true;
    const files = await filesIn(root);
    const total = files.reduce((sum, file) => sum + file.size, 0);
    const isTight = total + size > maxBytes;
    this.#known = { counted: isTight ? await removeOldest(files, (1 - SLACK) * maxBytes - size) : total, written: 0 };
    return true;
  }
}

interface KeptFile {
  readonly path: string;
  readonly size: number;
  readonly usedMs: number;
}

/** Files of all towers; unfinished ones of processes that are gone are removed. */
async function filesIn(root: string): Promise<KeptFile[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
  const files: KeptFile[] = [];
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const found = await stat(path).catch(() => null); // removed meanwhile
    if (found === null) continue;
    if (entry.name.includes(UNFINISHED) && Date.now() - found.mtimeMs > ABANDONED_MS) await rm(path, { force: true });
    else files.push({ path, size: found.size, usedMs: found.mtimeMs });
  }
  return files;
}

/** @returns bytes that are left */
async function removeOldest(files: readonly KeptFile[], most: number): Promise<number> {
  let total = files.reduce((sum, { size }) => sum + size, 0);
  for (const { path, size } of files.toSorted((a, b) => a.usedMs - b.usedMs)) {
    if (total <= most) break;
    if (path.includes(UNFINISHED)) continue; // somebody writes it
    await rm(path, { force: true });
    total -= size;
  }
  return total;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** A safetensors file: image_embeds and deepstack.i, float32 [M*D], with the SHA-256 of their bytes. */
function fileParts({ imageEmbeds, deepstack }: PictureFeatures): Uint8Array[] {
  const arrays = [imageEmbeds, ...deepstack];
  const parts = arrays.map(bytesOf);
  const tensors = arrays.map(({ length }, i) => {
    return { name: i === 0 ? EMBEDS : `${DEEPSTACK}${i - 1}`, dtype: "F32" as const, shape: [length] };
  });
  return [headerBytes(tensors, { sha256: sumOf(parts) }).header, ...parts];
}

function sumOf(parts: readonly Uint8Array[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}

/** @throws UserError naming the file where it is not as it was written */
function read(file: string): PictureFeatures {
  const { tensors, metadata } = readHeader(file);
  const entries = [...tensors.values()];
  const parts = entries.map(readTensorBytes);
  if (sumOf(parts) !== metadata.sha256 || !entries.every(hasItsPlace))
    throw new UserError(`${file}: damaged: its SHA-256 is not the one that it was made with`);
  const [imageEmbeds, ...deepstack] = parts.map(({ buffer }) => new Float32Array(buffer));
  return { imageEmbeds: required(imageEmbeds, EMBEDS), deepstack };
}

const hasItsPlace = ({ name, dtype }: TensorEntry, i: number): boolean =>
  dtype === "F32" && name === (i === 0 ? EMBEDS : `${DEEPSTACK}${i - 1}`);
