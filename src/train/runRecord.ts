/** What tells how a finished run went, settings and curves without weights, kept where its evaluation lies. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { messageOf, UserError } from "../utils/errors.ts";
import { writeWhole } from "../utils/files.ts";
import { RUN_CONFIG } from "./checkpointReader.ts";
import { TRAINER_STATE } from "./trainerState.ts";

/** Copies run_config.json and trainer_state.json of a run folder. @throws UserError naming the folder that cannot be written */
export async function copyRunRecord(runDir: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true }).catch((cause) => {
    throw new UserError(`${to}: cannot be made: ${messageOf(cause)}`, { cause });
  });
  for (const name of [RUN_CONFIG, TRAINER_STATE]) await writeWhole(join(to, name), await readFile(join(runDir, name)));
}
