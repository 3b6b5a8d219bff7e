/**
 * The README's commands with several training seeds: click accuracy of users 1 to 10 before training, after global training and
 * with personal agents, the changes with their 95 % intervals, and the seconds of each command. What is finished is not done again.
 *
 *     npx tsx bench/results.ts [--device cpu] [--to out/results] [--seeds 42,43,44]
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { z } from "zod";
import { runCommand } from "./command.ts";

const Interval = z.tuple([z.number(), z.number()]);
const Stage = z.object({ macro: z.object({ accuracy: z.number() }), macro_accuracy_interval: Interval });
const Comparison = z.object({
  from: z.string(),
  to: z.string(),
  macro: z.object({ accuracy_change: z.number(), accuracy_interval: Interval }),
});
const Report = z.object({ stages: z.record(z.string(), Stage), comparisons: z.array(Comparison) });

const { values: flags } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    to: { type: "string", default: "out/results" },
    seeds: { type: "string", default: "42,43,44" },
  },
});

const percent = (share: number): string => (100 * share).toFixed(1);
console.log("| seed | vanilla | global | personal | global - vanilla | personal - global | seconds |");
console.log("|---|---|---|---|---|---|---|");
for (const seed of flags.seeds.split(",")) console.log(rowOf(seed));

function rowOf(seed: string): string {
  const dir = join(flags.to, seed);
  const out = join(dir, "out");
  const seconds = [
    timed(dir, "vanilla", ["src/vanillaEval.ts", flags.device, "--u", "1", "10", "--out", out]),
    timed(dir, "global", [
      ...["src/finetuneGlobal.ts", flags.device, "--lora", "--seed", seed, "--out", out],
      ...["--checkpoint-dir", join(dir, "global")],
    ]),
    timed(dir, "personal", [
      ...["src/finetunePerson.ts", flags.device, "--u", "1", "10", "--seed", seed, "--out", out],
      ...["--base", join(dir, "global"), "--checkpoint-dir", join(dir, "personal")],
    ]),
  ];
  runCommand(["src/report.ts", "--out", out, "--quiet"], `report of seed ${seed}`);
  const { stages, comparisons } = Report.parse(JSON.parse(readFileSync(join(out, "summary.json"), "utf8")));
  const scores = ["vanilla", "global", "personal"].map((name) => {
    const stage = stages[name];
    return stage ? `${percent(stage.macro.accuracy)} %` : "none";
  });
  const changes = [change(comparisons, "vanilla", "global"), change(comparisons, "global", "personal")];
  return `| ${[seed, ...scores, ...changes, seconds.map((one) => one.toFixed(0)).join(" + ")].join(" | ")} |`;
}

function change(comparisons: readonly z.infer<typeof Comparison>[], from: string, to: string): string {
  const found = comparisons.find((one) => one.from === from && one.to === to);
  if (!found) return "none";
  const { accuracy_change, accuracy_interval } = found.macro;
  return `${percent(accuracy_change)} [${accuracy_interval.map(percent).join(", ")}]`;
}

/** Seconds of a command; those of its first run where it was run before. */
function timed(dir: string, stage: string, words: readonly string[]): number {
  const file = join(dir, `${stage}.seconds`);
  if (existsSync(file)) return Number(readFileSync(file, "utf8"));
  const started = performance.now();
  runCommand([...words, "--quiet"], `${stage} in ${dir}`);
  const seconds = (performance.now() - started) / 1000;
  mkdirSync(dir, { recursive: true });
  writeFileSync(file, String(seconds));
  return seconds;
}
