/** Writes beside the answers what they were asked, with small copies of the screens: all that the report shows of the data. */
import { createHash } from "node:crypto";
import { access, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Example, imagesOf, type Message } from "../data/example.ts";
import { type SampleRow, SCREENS, writeSamples } from "../eval/sampleList.ts";
import { commandOf } from "../text/groundingPrompt.ts";
import { mapAhead } from "../utils/ahead.ts";
import { Interrupted, messageOf, UserError } from "../utils/errors.ts";
import { writeWhole } from "../utils/files.ts";
import { removeUnfinished } from "../utils/folders.ts";
import type { Log } from "../utils/log.ts";
import { startProgress } from "../utils/progress.ts";
import { readImageSize } from "../vision/decode.ts";
import type { ImageSource } from "../vision/image.ts";
import { thumbnail } from "../vision/thumbnail.ts";

export interface RecordOptions {
  /** The output folder, which holds `screens/`. */
  readonly out: string;
  readonly log: Log;
  readonly signal: AbortSignal;
}

const SCREEN_SIDE = 400;
const COPYING_AT_ONCE = 4; // sharp decodes in threads of its own; more only takes memory
const WORTH_A_BAR = 1000;

/**
 * @param folders samples by the folder that their answers go to
 * @throws UserError naming the sample whose picture cannot be decoded, or Interrupted
 */
export async function recordSamples(
  folders: ReadonlyMap<string, readonly Example[]>,
  { out, log, signal }: RecordOptions,
): Promise<void> {
  const total = [...folders.values()].reduce((sum, examples) => sum + examples.length, 0);
  const progress = total >= WORTH_A_BAR ? startProgress({ log, title: "copying screens", total }) : null;
  const copyScreen = await screenCopier(out);
  let done = 0;
  try {
    for (const [folder, examples] of folders) {
      const rows: SampleRow[] = [];
      for await (const row of mapAhead(examples, COPYING_AT_ONCE - 1, (example) => rowOf(example, copyScreen))) {
        if (signal.aborted) throw new Interrupted("stopped while copying screens; the same command begins anew");
        rows.push(row);
        progress?.update(++done);
      }
      await makeFolder(folder);
      await writeSamples(folder, rows);
    }
  } finally {
    progress?.stop();
  }
}

async function makeFolder(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true }).catch((cause) => {
    throw new UserError(`${dir}: cannot be made: ${messageOf(cause)}`, { cause });
  });
  await removeUnfinished(dir); // of a process that was killed
}

type Screen = NonNullable<SampleRow["screen"]>;
type CopyScreen = (source: ImageSource) => Promise<Screen>;

async function rowOf({ id, messages, episode }: Example, copyScreen: CopyScreen): Promise<SampleRow> {
  const source = imagesOf(messages).at(-1); // a click point belongs to the last picture, the screen that is asked about
  const screen =
    source === undefined
      ? null
      : await copyScreen(source).catch((cause: unknown) => {
          throw cause instanceof UserError ? new UserError(`example ${id}: ${messageOf(cause)}`, { cause }) : cause;
        });
  return { id, command: askedIn(messages), episode: episode ?? null, screen };
}

/** The command, where it is asked as in the grounding task; else the last question whole. */
function askedIn(messages: readonly Message[]): string {
  const content = messages.findLast(({ role }) => role === "user")?.content ?? "";
  const text =
    typeof content === "string"
      ? content
      : content.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n");
  return commandOf(text) ?? text;
}

/** Copies screens into `screens/`, named by their content: several samples and evaluations share one copy. */
async function screenCopier(out: string): Promise<CopyScreen> {
  await makeFolder(join(out, SCREENS));
  const written = new Map<string, Promise<void>>();
  return async (source) => {
    const { width, height } = await readImageSize(source);
    const bytes = source.kind === "file" ? await readFile(source.path) : source.bytes;
    const file = `${SCREENS}/${createHash("sha256").update(bytes).digest("hex").slice(0, 20)}.jpg`;
    const writing = written.get(file) ?? writeThumbnail(join(out, file), source);
    written.set(file, writing);
    await writing;
    return { file, width, height };
  };
}

async function writeThumbnail(file: string, source: ImageSource): Promise<void> {
  if (!(await isThere(file))) await writeWhole(file, (await thumbnail(source, SCREEN_SIDE)).jpeg);
}

const isThere = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  );
