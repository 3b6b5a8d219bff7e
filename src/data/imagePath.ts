/** The one place that decides which files a data file may name: those inside its image root, links followed. */
import { realpathSync, statSync } from "node:fs";
import { dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { messageOf, UserError } from "../utils/errors.ts";

/** Where pictures may lie. */
export interface ImageRoot {
  /** Relative paths start here. */
  readonly path: string;
  /** Folders without links; what lies in none of them is refused. */
  readonly allowed: readonly string[];
}

/** @throws UserError when the folder is not there */
export function imageRootOf(dataFile: string, imageRoot: string | null): ImageRoot {
  const path = imageRoot === null ? dirname(resolve(dataFile)) : resolve(imageRoot);
  const real = realFolder(path, imageRoot);
  return { path, allowed: [real, ...hubFiles(real)] };
}

function realFolder(path: string, given: string | null): string {
  try {
    const real = realpathSync.native(path);
    if (statSync(real).isDirectory()) return real;
  } catch (cause) {
    throw new UserError(`--image-root ${given ?? path}: cannot be read (${messageOf(cause)}); expected a folder`, {
      cause,
    });
  }
  throw new UserError(`--image-root ${given ?? path}: not a folder; expected the folder that picture paths start at`);
}

/** The hub's cache keeps a data set's files in blobs/ and shows them in snapshots/<revision>/ as links. */
function hubFiles(real: string): string[] {
  const parts = real.split(sep);
  const snapshots = parts.lastIndexOf("snapshots");
  const isHubCache = snapshots > 0 && /^(datasets|models)--/.test(parts[snapshots - 1] ?? "");
  return isHubCache ? [join(parts.slice(0, snapshots).join(sep), "blobs")] : [];
}

/** @returns the path of an existing file inside the root  @throws UserError naming row and path */
export function imagePathOf(reference: string, root: ImageRoot, where: string): string {
  const path = resolve(root.path, localPath(reference, where));
  let real: string;
  try {
    real = realpathSync.native(path);
  } catch (cause) {
    if (!isInside(root.path, path) && !root.allowed.some((folder) => isInside(folder, path)))
      refuseOutside(reference, path, root, where);
    throw new UserError(`${where}: picture ${reference} cannot be read (${messageOf(cause)}); expected it at ${path}`, {
      cause,
    });
  }
  if (!root.allowed.some((folder) => isInside(folder, real))) refuseOutside(reference, real, root, where);
  if (!statSync(real).isFile()) throw new UserError(`${where}: picture ${reference} is not a file (${path})`);
  return path;
}

function isInside(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

function refuseOutside(reference: string, path: string, root: ImageRoot, where: string): never {
  const place = reference === path ? "is" : `leads to ${path},`;
  throw new UserError(
    `${where}: picture ${reference} ${place} outside of ${root.path}; pictures must lie in the folder of the data file, ` +
      `or in the one that --image-root names: if it is meant, pass --image-root ${dirname(path)} or a folder above it`,
  );
}

function localPath(reference: string, where: string): string {
  if (reference === "") throw new UserError(`${where}: a picture has an empty path`);
  if (!/^file:/i.test(reference)) return reference;
  try {
    return fileURLToPath(reference);
  } catch (cause) {
    throw new UserError(`${where}: ${reference} names no file of this machine (${messageOf(cause)})`, { cause });
  }
}
