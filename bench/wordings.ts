/**
 * What each stage understands of the embedded users' words: shares of samples whose target is named and clicked right, by how the
 * command names it (its own name, a synonym that all users share, a private name of one user).
 *
 *     npx tsx bench/wordings.ts OUT
 */
import { readStages } from "../src/app/report/stages.ts";
import { APPS, CONTROLS } from "../src/embedded/apps.ts";
import { ALIASES, synonymOf, type Wording } from "../src/embedded/commands.ts";
import { UserError } from "../src/utils/errors.ts";
import { formatTable } from "../src/utils/table.ts";

const NAMES = [...APPS, ...CONTROLS].map(({ name }) => name);

/** @param target what is meant, such as "radio icon" */
function wordingOf(command: string, target: string): Wording {
  if (ALIASES.some((alias) => command.includes(alias))) return "alias";
  const name = NAMES.find((one) => target.split(" ").includes(one)) ?? target;
  const words = command.split(" ");
  return words.includes(synonymOf(name)) && !words.includes(name) ? "synonym" : "plain";
}

const [out] = process.argv.slice(2);
if (out === undefined) throw new UserError("OUT: name the folder that evaluations wrote, such as out");
const { stages } = await readStages(out);
const rows = stages.flatMap(({ name, users }) => {
  const cases = [...users.values()].flat();
  return (["plain", "synonym", "alias"] as const).map((wording) => {
    const group = cases.filter(({ sample, answer }) => wordingOf(sample?.command ?? "", answer.gt_content) === wording);
    const share = (count: number): string => `${((100 * count) / group.length).toFixed(1)} %`;
    const named = group.filter(({ answer }) => answer.pred_content === answer.gt_content).length;
    return [name, wording, String(group.length), share(named), share(group.filter(({ isHit }) => isHit).length)];
  });
});
const columns = ["stage", "command", "n", "named", "clicked"].map((name, i) => {
  return { name, align: i < 2 ? ("left" as const) : ("right" as const) };
});
console.log(formatTable(columns, rows));
