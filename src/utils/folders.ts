/** Writing folders whole or not at all, as files.ts does with files. */
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

const TEMPORARY = /\.tmp-(\d+)$/;

/** A name beside `target` that says "not finished". */
const temporaryName = (target: string): string => `${target}.tmp-${process.pid}`;

/** Whether a name is that of a folder that was never finished. */
export const isUnfinished = (name: string): boolean => TEMPORARY.test(name);

/**
 * Fills a new folder under a temporary name, then gives it the name `target`, replacing what stood there. `fill` must
 * flush its files. When it fails the temporary folder is removed and `target` is as it was.
 */
export async function replaceFolder(target: string, fill: (temporary: string) => Promise<void>): Promise<void> {
  await withTemporaryFolder(target, async (temporary) => {
    await fill(temporary);
    await flushFolder(temporary);
    const former = await setAside(target);
    await rename(temporary, target);
    await flushFolder(dirname(target));
    await rm(former, { recursive: true, force: true }).catch(() => undefined); // the new one stands: removed another time
  });
}

/**
 * Fills a folder under a temporary name, then moves its files into `target`, the one named `last` at the end: each file
 * there is the old one or the new one, and a failure of `fill` leaves all as they were.
 * @returns the names moved
 */
export async function replaceFiles(
  target: string,
  last: string,
  fill: (temporary: string) => Promise<void>,
): Promise<ReadonlySet<string>> {
  return await withTemporaryFolder(join(target, "files"), async (temporary) => {
    await fill(temporary);
    const names = await readdir(temporary);
    for (const name of [...names.filter((name) => name !== last), last])
      await rename(join(temporary, name), join(target, name));
    await flushFolder(target);
    await rm(temporary, { recursive: true });
    return new Set(names);
  });
}

async function withTemporaryFolder<T>(target: string, use: (temporary: string) => Promise<T>): Promise<T> {
  const temporary = temporaryName(target);
  await mkdir(dirname(target), { recursive: true });
  await rm(temporary, { recursive: true, force: true });
  try {
    await mkdir(temporary);
    return await use(temporary);
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined); // the first failure is the one to tell
    throw cause;
  }
}

/** Removes a folder, if it is there, so that no half of it ever stands under its name. */
export async function removeFolder(dir: string): Promise<void> {
  await rm(await setAside(dir), { recursive: true, force: true });
}

/** Gives a folder, if it is there, a name that says "unfinished". @returns that name */
async function setAside(dir: string): Promise<string> {
  const aside = join(dirname(dir), `old-${temporaryName(basename(dir))}`);
  await rm(aside, { recursive: true, force: true });
  await rename(dir, aside).catch((cause: unknown) => {
    if (!(cause instanceof Error && "code" in cause && cause.code === "ENOENT")) throw cause;
  });
  return aside;
}

/**
 * Removes what processes that have ended left unfinished in `parent`, as far as it can.
 * @param target only what was to become the folder of this name; absent: all
 */
export async function removeUnfinished(parent: string, target?: string): Promise<void> {
  const isMeant = (name: string): boolean =>
    target === undefined || [target, `old-${target}`].includes(name.replace(TEMPORARY, ""));
  for (const name of (await readdir(parent)).filter((found) => isUnfinished(found) && isMeant(found))) {
    const path = join(parent, name);
    if (!(await isInUse(path))) await rm(path, { recursive: true, force: true }).catch(() => undefined);
  }
}

async function isInUse(path: string): Promise<boolean> {
  const pid = Number(TEMPORARY.exec(path)?.[1]);
  if (pid !== process.pid) return isRunning(pid);
  // containers give a restarted program its old id: what is older than this process is not its own
  const stats = await stat(path).catch(() => null);
  return stats !== null && stats.mtimeMs >= Date.now() - process.uptime() * 1000;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (cause) {
    return cause instanceof Error && "code" in cause && cause.code === "EPERM";
  }
}

/** Makes the names in a folder outlast a power cut. Some systems cannot open folders; there it does nothing. */
async function flushFolder(dir: string): Promise<void> {
  const handle = await open(dir, "r").catch(() => null);
  if (!handle) return;
  try {
    await handle.sync().catch(() => undefined);
  } finally {
    await handle.close();
  }
}
