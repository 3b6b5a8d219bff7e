/**
 * One setting changed at a time, everything else as it is by default: global training on the embedded users and the click
 * accuracy of users 1 to 10 after it. Runs that are finished are not done again.
 *
 *     npx tsx bench/ablation.ts [--device cpu] [--to out/ablation] [--seeds 42,43,44] [--only base,full]
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { z } from "zod";
import { UserError } from "../src/utils/errors.ts";
import { runCommand } from "./command.ts";

const VARIANTS: Readonly<Record<string, readonly string[]>> = {
  base: ["--lora"],
  full: [],
  "label-mode pigg": ["--lora", "--label-mode", "pigg"],
  "r 1": ["--lora", "--lora-r", "1"],
  "r 16": ["--lora", "--lora-r", "16"],
  "lr 5e-4": ["--lora", "--lr", "5e-4"],
  "lr 1e-3": ["--lora", "--lr", "1e-3"],
  "lr 4e-3": ["--lora", "--lr", "4e-3"],
};

const Metrics = z.object({ accuracy: z.number(), mean_l2: z.number() });
const Summary = z.object({ macro: Metrics });
const State = z.object({ log_history: z.array(z.object({ loss: z.number().optional() })) });

const { values: flags } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    to: { type: "string", default: "out/ablation" },
    seeds: { type: "string", default: "42,43,44" },
    only: { type: "string" },
  },
});
const names = flags.only?.split(",") ?? Object.keys(VARIANTS);
const unknown = names.find((name) => !(name in VARIANTS));
if (unknown) throw new UserError(`--only ${unknown}: expected some of ${Object.keys(VARIANTS).join(", ")}`);

console.log("| changed | seeds | click accuracy | lowest to highest | mean L2 | last loss |");
console.log("|---|---|---|---|---|---|");
for (const name of names) {
  const runs = flags.seeds.split(",").map((seed) => runOf(name, seed));
  const accuracies = runs.map(({ accuracy }) => 100 * accuracy);
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const range = `${Math.min(...accuracies).toFixed(1)} to ${Math.max(...accuracies).toFixed(1)} %`;
  const l2 = mean(runs.map((run) => run.mean_l2)).toFixed(1);
  const loss = mean(runs.map((run) => run.loss)).toFixed(3);
  console.log(`| ${name} | ${runs.length} | ${mean(accuracies).toFixed(1)} % | ${range} | ${l2} | ${loss} |`);
}

/** Trains and evaluates unless that is done. */
function runOf(name: string, seed: string) {
  const dir = join(flags.to, name.replace(" ", "-"), seed);
  const summary = join(dir, "out/global_agent/test/summary.json");
  if (!existsSync(summary)) {
    const words = [...(VARIANTS[name] ?? []), "--seed", seed, "--quiet", "--out", join(dir, "out")];
    const entry = ["src/finetuneGlobal.ts", flags.device, ...words, "--checkpoint-dir", join(dir, "run")];
    runCommand(entry, `${name}, seed ${seed}`);
  }
  const read = (file: string): unknown => JSON.parse(readFileSync(file, "utf8"));
  const { macro } = Summary.parse(read(summary));
  const losses = State.parse(read(join(dir, "run/trainer_state.json"))).log_history.flatMap(({ loss }) => loss ?? []);
  const last = losses.slice(-20);
  return { ...macro, loss: last.reduce((sum, loss) => sum + loss, 0) / last.length };
}
