/** Writes the embedded users as files, on first use: `user_<id>.csv` and the pictures that it names. */
import { randomUUID } from "node:crypto";
import { access, mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import sharp from "sharp";
import { messageOf, UserError } from "../utils/errors.ts";
import { drawScreen } from "./drawScreen.ts";
import { type Icons, loadIcons } from "./icons.ts";
import { HEIGHT, WIDTH } from "./screen.ts";
import { EMBEDDED_VERSION, type Sample, samplesOf, USERS } from "./users.ts";

export { USERS } from "./users.ts";

export const EMBEDDED_FOLDER = path.resolve(import.meta.dirname, `../../.cache/embedded-v${EMBEDDED_VERSION}`);

export interface EmbeddedOptions {
  readonly dir?: string;
  /** Only these are written, if they are not there yet; default: 1 to 83. */
  readonly users?: readonly number[];
  /** Called after each user that had to be drawn. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Makes sure that the files of these users are there, and returns their folder. A user's CSV appears last, so a CSV that
 * exists is whole and so are its pictures; several processes may do this at once.
 * @throws UserError for a user beyond 1 to 83, or where the folder cannot be written
 */
export async function ensureEmbeddedData(options: EmbeddedOptions = {}): Promise<string> {
  const { dir = EMBEDDED_FOLDER, users = everyUser(), onProgress } = options;
  const missing: number[] = [];
  for (const user of new Set(users)) {
    if (!Number.isInteger(user) || user < 1 || user > USERS)
      throw new UserError(
        `embedded users: there are users 1 to ${USERS}, not ${user}; choose among them with --u, or name your own files with --data`,
      );
    if (!(await exists(csvOf(dir, user)))) missing.push(user);
  }
  if (missing.length === 0) return dir;
  await prepareFolder(dir);
  const icons = await loadIcons();
  for (const [i, user] of missing.entries()) {
    await writeUser(dir, user, icons);
    onProgress?.(i + 1, missing.length);
  }
  return dir;
}

/** Makes the folder, and clears what killed runs left in it: what a running one writes is seconds old. */
async function prepareFolder(dir: string): Promise<void> {
  try {
    await mkdir(path.join(dir, "images"), { recursive: true });
  } catch (cause) {
    throw new UserError(`${dir}: the embedded users cannot be written here: ${messageOf(cause)}`, { cause });
  }
  for (const name of await readdir(dir)) {
    if (!name.startsWith(SCRATCH)) continue;
    const left = path.join(dir, name);
    const age = Date.now() - (await stat(left).catch(() => ({ mtimeMs: Date.now() }))).mtimeMs;
    if (age > STALE_MS) await rm(left, { recursive: true, force: true });
  }
}

const SCRATCH = ".writing-";
const STALE_MS = 600_000;

const everyUser = (): number[] => Array.from({ length: USERS }, (_, i) => i + 1);

const csvOf = (dir: string, user: number): string => path.join(dir, `user_${user}.csv`);

const exists = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  );

/** Pictures go into a folder of their own name, then into place in one step; the CSV follows likewise. */
async function writeUser(dir: string, user: number, icons: Icons): Promise<void> {
  const scratch = path.join(dir, `${SCRATCH}${randomUUID()}`);
  const samples = samplesOf(user);
  try {
    await mkdir(path.join(scratch, "images"), { recursive: true });
    await Promise.all(
      samples.map((sample) => writePicture(path.join(scratch, "images", pictureOf(sample)), sample, icons)),
    );
    await writeFile(path.join(scratch, "users.csv"), csvText(samples));
    await renameFolder(path.join(scratch, "images"), path.join(dir, folderOf(user)));
    await rename(path.join(scratch, "users.csv"), csvOf(dir, user));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** A folder that is there already was put there whole by another process, with the same pictures. */
async function renameFolder(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (cause) {
    if (!(await exists(to))) throw cause;
  }
}

/** Little compression: the pictures are read once or twice, and made while someone waits. */
async function writePicture(file: string, { screen }: Sample, icons: Icons): Promise<void> {
  const raw = { width: WIDTH, height: HEIGHT, channels: 3 as const };
  await sharp(drawScreen(screen, icons), { raw }).png({ compressionLevel: 3 }).toFile(file);
}

const folderOf = (user: number): string => `images/user_${user}`;
const pictureOf = ({ episode, step }: Sample): string => `${episode}_${step}.png`;

/** One row a sample; no text of ours needs quoting. */
export function csvText(samples: readonly Sample[]): string {
  const rows = samples.map((sample) => {
    const { user, command, referring, point, episode } = sample;
    return [`${folderOf(user)}/${pictureOf(sample)}`, command, referring, ...point, episode].join(",");
  });
  return ["image,command,referring,x,y,episode", ...rows, ""].join("\n");
}
