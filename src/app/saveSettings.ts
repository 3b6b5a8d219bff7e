/** The settings of a run, kept beside its results as a file that `--config` takes. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { messageOf, UserError } from "../utils/errors.ts";
import { writeWhole } from "../utils/files.ts";

/** Writes settings.toml. @throws UserError naming the folder that cannot be written */
export async function saveSettings(dir: string, text: string): Promise<void> {
  await mkdir(dir, { recursive: true }).catch((cause) => {
    throw new UserError(`${dir}: cannot be made: ${messageOf(cause)}`, { cause });
  });
  await writeWhole(join(dir, "settings.toml"), text);
}
