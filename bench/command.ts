/** Runs one of the project's commands; what it prints is left out, its warnings are not. */
import { spawnSync } from "node:child_process";
import { UserError } from "../src/utils/errors.ts";

/** @param what what the command is for, in the message of its failure  @throws UserError when it does not end with 0 */
export function runCommand(words: readonly string[], what: string): void {
  const { status } = spawnSync(process.execPath, ["--import", "tsx", ...words], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  if (status !== 0) throw new UserError(`${what}: \`${words.join(" ")}\` ended with exit code ${status}`);
}
