/**
 * Kills and damages training runs in every way that can be tried here, and compares what is left with runs that were let be:
 * `npm run test:faults`, or `npx tsx scripts/faults.ts [--kills N] [--seed N] [--only kills|damage]`. Ends with 1 where anything differs.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { formatTable } from "../src/utils/table.ts";
import { AS_EXPECTED, type Damage, type Grounds, tryAll } from "./faults/damage.ts";
import { type Kills, killMany } from "./faults/kills.ts";
import { bestStepOf, emptyFolder, FULL, finish, type Kind, LORA, sumsOf } from "./faults/runs.ts";

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "50" },
    seed: { type: "string", default: "1" },
    only: { type: "string" },
  },
});

/** @returns whether all is as it should be */
async function main(scratch: string, kills: number, seed: number): Promise<boolean> {
  const begun = performance.now();
  const references: Record<string, ReadonlyMap<string, string>> = {};
  const killed: [Kind, Kills][] = [];
  for (const [kind, count] of [
    [LORA, kills],
    [FULL, Math.ceil(kills / 5)],
  ] as const) {
    const cwd = emptyFolder(scratch, `reference-${kind.runDir.split("_").at(-1)}`);
    const { ms } = await finish(kind, cwd);
    const reference = await sumsOf(cwd);
    references[kind.name] = reference;
    say(
      `${kind.name}: uninterrupted, 60 steps in ${(ms / 1000).toFixed(1)} s, ${reference.size} files, best step ${bestStepOf(join(cwd, kind.runDir))}`,
    );
    if (values.only !== "damage") killed.push([kind, await killMany({ kind, count, seed, scratch }, reference, ms)]);
  }
  const damages =
    values.only === "kills"
      ? []
      : await tryAll({ scratch: emptyFolder(scratch, "damage"), references } satisfies Grounds);
  for (const [kind, result] of killed) say(killTable(kind, result));
  for (const damage of damages) say(damageText(damage));
  say(`${((performance.now() - begun) / 60_000).toFixed(1)} minutes, seed ${seed}`);
  const isWell = ({ outcome }: Damage): boolean => outcome === AS_EXPECTED || outcome.startsWith("not tried");
  return killed.every(([, { differences }]) => differences.length === 0) && damages.every(isWell);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function killTable({ name }: Kind, { kills, moments, runs, files, differences }: Kills): string {
  const columns = [
    { name: `${name}: killed while`, align: "left" },
    { name: "times", align: "right" },
  ] as const;
  const rows = Object.entries(moments).map(([moment, times]) => [moment, String(times)]);
  const verdict =
    differences.length === 0
      ? "all as in the run that was let be, byte for byte"
      : `${differences.length} differ: ${differences.slice(0, 9).join(", ")}`;
  return `${formatTable(columns, [...rows, ["together", String(kills)]])}\n${runs} runs, ${files} files: ${verdict}`;
}

const damageText = ({ what, outcome, message }: Damage): string =>
  [
    `${what}: ${outcome}`,
    ...message
      .trim()
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => `    ${line}`),
  ].join("\n");

const scratch = mkdtempSync(join(tmpdir(), "faults-"));
try {
  process.exitCode = (await main(scratch, Number(values.kills), Number(values.seed))) ? 0 : 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
