/**
 * Folders of the Hugging Face hub cache, as Python's huggingface_hub lays them out, and real folders beside them.
 *
 * The cache keeps files under `blobs/<hash>` and names them by symlinks in `snapshots/<commit>`. ONNX Runtime follows
 * symlinks before it checks that external data lie inside the model's folder, so a snapshot will not do: `real/<commit>`
 * holds the same files as hard links. They cost no disk, and the folder goes when the cached repository is deleted.
 */
import { constants } from "node:fs";
import { copyFile, link, mkdir, readdir, realpath, rename, rm, stat, symlink } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { messageOf, UserError } from "./errors.ts";
import { readTextIfThere } from "./files.ts";

/** What a run needs: weights, and what text and pictures are prepared with. Not other frameworks' weights, not examples. */
const NEEDED_JSON =
  /^((adapter_|generation_|(video_)?preprocessor_|processor_|tokenizer_)?config|tokenizer|special_tokens_map|added_tokens|vocab|chat_template|model\.safetensors\.index)\.json$/;
const NEEDED_OTHER = /^(merges\.txt|chat_template\.jinja|[\w.-]+\.safetensors)$/;
export const isNeeded = (path: string): boolean => NEEDED_JSON.test(path) || NEEDED_OTHER.test(path);

export const sizeOf = async (file: string): Promise<number | null> =>
  (await stat(file).catch(() => null))?.size ?? null;

export const isFolder = async (path: string): Promise<boolean> =>
  (await stat(path).catch(() => null))?.isDirectory() ?? false;

const isWeights = (name: string): boolean => name.endsWith(".safetensors");

/**
 * An existing folder by its real name. Its weights must lie in it, not behind symlinks that lead elsewhere.
 * @throws UserError unless they do, or it is a snapshot of the cache
 */
export async function realFolder(folder: string): Promise<string> {
  const dir = await realpath(folder);
  const weights = (await readdir(dir)).filter(isWeights);
  const targets = await Promise.all(weights.map((name) => realpath(join(dir, name)).catch(() => null)));
  const broken = weights.filter((_, i) => targets[i] === null);
  if (broken.length > 0)
    throw new UserError(`${join(dir, broken[0] ?? "")}: a symlink that leads nowhere; fetch it again`);
  if (targets.every((target) => target !== null && dirname(target) === dir)) return dir;
  if (basename(dirname(dir)) === "snapshots") return linkReal(dir, join(dir, "..", "..", "real", basename(dir)));
  throw new UserError(
    `model "${folder}": its weights are symlinks that lead out of the folder, which the runtime refuses; name the real folder, or copy it with cp -rL`,
  );
}

/** Makes `real` from `snapshot` unless it is there: under a temporary name, then renamed, so that it is whole. */
export async function linkReal(snapshot: string, real: string): Promise<string> {
  if (await isFolder(real)) return realpath(real);
  const temporary = `${real}.tmp-${process.pid}`;
  try {
    await mkdir(temporary, { recursive: true });
    for (const name of (await readdir(snapshot)).filter(isNeeded)) {
      await linkOrCopy(await realpath(join(snapshot, name)), join(temporary, name));
    }
    await rename(temporary, real);
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true });
    if (!(await isFolder(real))) throw new UserError(`${real}: cannot be made: ${messageOf(cause)}`, { cause });
  }
  return realpath(real);
}

/** A file system without hard links gets a copy: more disk, the same bytes. */
const linkOrCopy = (from: string, to: string): Promise<void> =>
  link(from, to).catch(() => copyFile(from, to, constants.COPYFILE_FICLONE));

/** Gives a blob its name in a snapshot, as Python does; where symlinks are not allowed, by a hard link. */
export async function nameBlob(blob: string, name: string): Promise<void> {
  await rm(name, { force: true });
  await symlink(relative(dirname(name), blob), name).catch(() => linkOrCopy(blob, name));
}

/** Whether a snapshot of a model or an adapter, perhaps made by another program, holds a config and every weight file that its index names. */
export async function isWholeSnapshot(snapshot: string): Promise<boolean> {
  const names: readonly string[] = await readdir(snapshot).catch(() => []);
  const index = await readTextIfThere(join(snapshot, "model.safetensors.index.json"));
  const shards = index === null ? names.filter(isWeights) : [...new Set(index.match(/[\w.-]+\.safetensors/g) ?? [])];
  const config = names.includes("adapter_config.json") ? "adapter_config.json" : "config.json";
  const sizes = await Promise.all([config, ...shards].map((name) => sizeOf(join(snapshot, name))));
  return shards.length > 0 && sizes.every((size) => size !== null);
}
