/** A model's folder: one that lies here, or one fetched from the Hugging Face hub into the cache that Python shares. */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, existsSync } from "node:fs";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import {
  downloadFile,
  getHFHubCachePath,
  getRepoFolderName,
  HubApiError,
  type ListFileEntry,
  listFiles,
  modelInfo,
} from "@huggingface/hub";
import { messageOf, required, UserError } from "./errors.ts";
import { readTextIfThere, writeWhole } from "./files.ts";
import { isFolder, isNeeded, isWholeSnapshot, linkReal, nameBlob, realFolder, sizeOf } from "./hubCache.ts";

export interface FetchProgress {
  readonly file: string;
  /** Of all files together. */
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface HubOptions {
  /** Branch, tag or commit. */
  readonly revision?: string;
  readonly onProgress?: (progress: FetchProgress) => void;
  /** Called when the hub cannot be asked and the cached files are used as they are. */
  readonly onOffline?: (message: string) => void;
  /** By default HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, and the cache that HF_HUB_CACHE or HF_HOME name. */
  readonly endpoint?: string;
  readonly token?: string;
  readonly isOffline?: boolean;
  readonly cacheDir?: string;
  /** Leave the weights where they are: what reads only text and settings needs none. */
  readonly withoutWeights?: boolean;
}

interface Repo {
  readonly id: string;
  readonly revision: string;
  readonly dir: string;
  readonly isOffline: boolean;
  readonly request: { readonly hubUrl: string; readonly accessToken?: string };
}

const HUB_ID = /^\w[\w.-]*\/\w[\w.-]*$/;
export const isHubId = (model: string): boolean => HUB_ID.test(model);

/**
 * @param model a folder, used where it lies, or a hub id `org/name`
 * @returns the path of a folder of real files, weights included unless they were not wanted
 * @throws UserError when it is neither, when the hub refuses, or when it cannot be reached and nothing is cached
 */
export async function resolveModelDir(model: string, options: HubOptions = {}): Promise<string> {
  const found = await stat(model).catch(() => null);
  if (found?.isDirectory()) return realFolder(model);
  if (found) throw new UserError(`model "${model}": is a file; expected a folder or a hub id (org/name)`);
  if (!isHubId(model)) throw new UserError(`model "${model}": not found; expected a folder or a hub id (org/name)`);
  const repo = repoOf(model, options);
  try {
    const { commit, isOnline } = await commitOf(repo, options);
    const [snapshot, real] = [join(repo.dir, "snapshots", commit), join(repo.dir, "real", commit)];
    if (isOnline && !(await isFolder(real))) await download(repo, commit, options);
    return options.withoutWeights ? snapshot : await linkReal(snapshot, real);
  } catch (cause) {
    throw refusalOf(repo, cause);
  }
}

function repoOf(id: string, options: HubOptions): Repo {
  const token = options.token ?? process.env.HF_TOKEN;
  const endpoint = options.endpoint ?? process.env.HF_ENDPOINT ?? "https://huggingface.co";
  return {
    id,
    revision: options.revision ?? "main",
    dir: join(options.cacheDir ?? getHFHubCachePath(), getRepoFolderName({ name: id, type: "model" })),
    isOffline: options.isOffline ?? ["1", "true"].includes(process.env.HF_HUB_OFFLINE ?? ""),
    request: { hubUrl: endpoint.replace(/\/+$/, ""), ...(token ? { accessToken: token } : {}) },
  };
}

/** The commit that the revision means now; where the hub cannot be asked, the one it meant when it was last fetched. */
async function commitOf(repo: Repo, { onOffline, withoutWeights }: HubOptions) {
  const refFile = join(repo.dir, "refs", repo.revision);
  const cached = (await readTextIfThere(refFile))?.trim() ?? repo.revision;
  try {
    if (repo.isOffline) throw new TypeError(FETCH_FAILED, { cause: new Error("HF_HUB_OFFLINE is set") });
    const { request, id: name, revision } = repo;
    const { sha } = await modelInfo({ ...request, name, revision, additionalFields: ["sha"] });
    await mkdir(dirname(refFile), { recursive: true });
    if (sha !== revision) await writeWhole(refFile, sha);
    return { commit: sha, isOnline: true };
  } catch (cause) {
    const snapshot = join(repo.dir, "snapshots", cached);
    const isHere = withoutWeights ? existsSync(join(snapshot, "config.json")) : await isWholeSnapshot(snapshot);
    if (!isUnreachable(cause) || !isHere) throw cause;
    onOffline?.(`${repo.request.hubUrl} cannot be reached; using ${repo.id} as last fetched (commit ${cached})`);
    return { commit: cached, isOnline: false };
  }
}

async function download(repo: Repo, commit: string, { onProgress, withoutWeights }: HubOptions): Promise<void> {
  const snapshot = join(repo.dir, "snapshots", commit);
  const files: ListFileEntry[] = [];
  for await (const entry of listFiles({ ...repo.request, repo: repo.id, revision: commit })) {
    if (entry.type === "file" && isNeeded(entry.path)) files.push(entry);
  }
  if (!files.some(({ path }) => path.endsWith(".safetensors"))) {
    throw new UserError(`model "${repo.id}": holds no safetensors file; expected a Qwen3-VL checkpoint`);
  }
  if (withoutWeights) files.splice(0, files.length, ...files.filter(({ path }) => !path.endsWith(".safetensors")));
  files.sort((a, b) => a.size - b.size); // weights last: a snapshot that has them has the small files too
  await mkdir(join(repo.dir, "blobs"), { recursive: true });
  await mkdir(snapshot, { recursive: true });
  const totalBytes = files.reduce((sum, { size }) => sum + size, 0);
  let doneBytes = 0;
  for (const file of files) {
    const blob = join(repo.dir, "blobs", required(file.lfs?.oid ?? file.oid, `hash of ${file.path}`));
    const onBytes = (count: number): void =>
      onProgress?.({ file: file.path, doneBytes: doneBytes + count, totalBytes });
    if ((await sizeOf(blob)) !== file.size) await fetchBlob({ repo, commit, file, blob, onBytes });
    await nameBlob(blob, join(snapshot, file.path));
    doneBytes += file.size;
    onBytes(0);
  }
}

interface BlobToFetch {
  readonly repo: Repo;
  readonly commit: string;
  readonly file: ListFileEntry;
  readonly blob: string;
  readonly onBytes: (count: number) => void;
}

/** Fetches one file, going on where an interrupted download stopped, and checks it before it gets its name. */
async function fetchBlob({ repo, commit, file, blob, onBytes }: BlobToFetch): Promise<void> {
  const incomplete = `${blob}.incomplete`;
  const remote = await downloadFile({ ...repo.request, repo: repo.id, path: file.path, revision: commit });
  let count = (await sizeOf(incomplete)) ?? 0;
  if (count < file.size) {
    const source = Readable.from(required(remote, `${file.path} on the hub`).slice(count).stream());
    const counted = async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        count += chunk.length;
        onBytes(count);
        yield chunk;
      }
    };
    await pipeline(source, counted, createWriteStream(incomplete, { flags: "a" }));
  }
  const isSound = count === file.size && (!file.lfs || (await sha256Of(incomplete)) === file.lfs.oid);
  if (!isSound) {
    await rm(incomplete, { force: true });
    throw new UserError(`model "${repo.id}": ${file.path} came damaged (${count} of ${file.size} bytes); run again`);
  }
  await rename(incomplete, blob);
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file)) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}

const FETCH_FAILED = "fetch failed"; // the message of fetch's TypeError; the reason is in its cause

const isUnreachable = (cause: unknown): boolean =>
  (cause instanceof TypeError && cause.message === FETCH_FAILED) ||
  (cause instanceof HubApiError && cause.statusCode >= 500);

function refusalOf({ id, revision, request }: Repo, cause: unknown): Error {
  if (cause instanceof UserError) return cause;
  return new UserError(`model "${id}": ${reasonOf(cause, request.hubUrl, revision)}`, { cause });
}

function reasonOf(cause: unknown, hubUrl: string, revision: string): string {
  if (isUnreachable(cause)) {
    const inner = cause instanceof TypeError && cause.cause !== undefined ? cause.cause : cause;
    return `no such folder, nothing cached, and ${hubUrl} cannot be reached (${messageOf(inner)}); name a folder, or try again with a network`;
  }
  const status = cause instanceof HubApiError ? cause.statusCode : null;
  if (status === 404)
    return `not found: no such folder, and ${hubUrl} has none at revision "${revision}"; expected a folder or a hub id (org/name)`;
  if (status === 401 || status === 403) {
    return `not found or not open to you on ${hubUrl} (${status}); check the spelling, or set HF_TOKEN to a token that may read it`;
  }
  return `cannot be fetched from ${hubUrl}: ${messageOf(cause)}`;
}
