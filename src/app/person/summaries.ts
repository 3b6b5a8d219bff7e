/** The summaries of personal agents, written as users are done. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type PersonalSummary, personalSummary, type UserFolds, userSummary } from "../../eval/foldSummary.ts";
import { type Answer, scoredOf } from "../../eval/results.ts";
import { writeJson } from "../../utils/files.ts";
import type { Agent } from "./agents.ts";

/**
 * Writes `user_N_summary.json` when a user's last fold is done, and `summary.json` at the end.
 * @param dir    folder of the `user_N/` folders
 * @param scored agents as they are done, the folds of a user one after another
 */
export async function writeSummaries(
  dir: string,
  scored: AsyncIterable<{ readonly agent: Agent; readonly answers: readonly Answer[] }>,
  folds: number,
): Promise<PersonalSummary> {
  await rm(join(dir, "summary.json"), { force: true });
  const users: UserFolds[] = [];
  let open: Answer[][] = [];
  for await (const { agent, answers } of scored) {
    open.push([...answers]);
    if (open.length < folds) continue;
    const user = { user: agent.user, folds: open.map((fold) => fold.map(scoredOf)) };
    await writeJson(join(dir, `user_${user.user}_summary.json`), userSummary(user));
    users.push(user);
    open = [];
  }
  const summary = personalSummary(users);
  await writeJson(join(dir, "summary.json"), summary);
  return summary;
}
