/**
 * samples.json: what the answers beside it were asked, one row for each of out.json's, so that a report needs neither model nor
 * data. Small copies of the screens lie in `screens/` of the output folder, once for all evaluations that show them.
 */
import { join } from "node:path";
import { z } from "zod";
import { messageOf, UserError } from "../utils/errors.ts";
import { readTextIfThere, writeJson } from "../utils/files.ts";

const sampleRow = z.object({
  id: z.string(),
  command: z.string(),
  episode: z.string().nullable(),
  screen: z
    .object({
      file: z.string().regex(/^screens\/[\w-]+\.jpg$/),
      width: z.number().positive(),
      height: z.number().positive(),
    })
    .nullable(),
});

/** `id` is the same in every evaluation of a sample; `screen` is below the output folder, its size that of the original. */
export type SampleRow = Readonly<z.infer<typeof sampleRow>>;

export const SAMPLES = "samples.json";
export const SCREENS = "screens";

export const writeSamples = (folder: string, rows: readonly SampleRow[]): Promise<void> =>
  writeJson(join(folder, SAMPLES), rows);

/** @returns null where there is no such file  @throws UserError naming file and row when it is damaged */
export async function readSamples(folder: string): Promise<readonly SampleRow[] | null> {
  const file = join(folder, SAMPLES);
  const text = await readTextIfThere(file);
  if (text === null) return null;
  try {
    return z.array(sampleRow).parse(JSON.parse(text));
  } catch (cause) {
    const issue = cause instanceof z.ZodError ? cause.issues[0] : undefined;
    const where = issue ? `row ${issue.path.join(".")}: ${issue.message}` : messageOf(cause);
    throw new UserError(`${file}: not a list of samples (${where}); evaluate again, or move it away`, { cause });
  }
}
