/**
 * A forecast of `src/preview.ts` beside what bench/step.ts measures on the same synthetic sample, as docs/planning.md shows it.
 *
 *   npx tsx bench/forecast.ts --model DIR --image 1080x2400 --prompt-tokens 110 --answer-tokens 25 --steps 5
 *
 * Takes the flags of bench/step.ts. The machine is measured right after the steps, because other programs share it.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { forecastOf } from "../src/app/preview/forecast.ts";
import { measureMachine } from "../src/app/preview/machine.ts";
import type { SampleFacts } from "../src/app/preview/survey.ts";
import { plannedCheckpoint } from "../src/model/checkpoint.ts";
import { LLM_PROJECTIONS } from "../src/model/lora.ts";
import type { TrainableSpec } from "../src/model/trainables.ts";
import { formatTable } from "../src/utils/table.ts";

interface Measured {
  readonly best: number;
  readonly vision_seconds: number;
  readonly tokens: number;
  readonly image_tokens: number;
  readonly answer_tokens: number;
  readonly peak_gb: number;
}

function measureStep(argv: readonly string[]): Measured {
  const step = join(import.meta.dirname, "step.ts");
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", step, ...argv, "--json"], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`bench/step.ts ended with ${status}: ${stderr}`);
  return JSON.parse(stdout) as Measured;
}

const factsOf = ({ tokens, image_tokens, answer_tokens }: Measured): SampleFacts => ({
  ...{ id: "synthetic", user: null, split: "train", outcome: "whole", heldBytes: 0 },
  ...{ wholeLength: tokens, length: tokens, imageTokens: image_tokens, trained: answer_tokens },
  pictures: [{ key: "synthetic", tokens: image_tokens }],
});

/** The best of two goes, because other programs only ever slow one down. */
function measuredTwice(argv: readonly string[]): Measured {
  const [first, second] = [measureStep(argv), measureStep(argv)];
  return {
    ...first,
    best: Math.min(first.best, second.best),
    vision_seconds: Math.min(first.vision_seconds, second.vision_seconds),
    peak_gb: Math.max(first.peak_gb, second.peak_gb),
  };
}

const SETTINGS = {
  ...{ batchSize: 1, accumulation: 1, epochs: 1, maxSteps: null, seed: 0, evalSteps: 1, evalBatchSize: 8 },
  ...{ shuffle: false, groupByLength: false, packing: false },
};
const SPEC: TrainableSpec = {
  kind: "lora",
  settings: { r: 4, alpha: 32, dropout: 0, targetModules: [...LLM_PROJECTIONS] },
};

async function main(argv: readonly string[]): Promise<void> {
  const checkpoint = plannedCheckpoint(argv[argv.indexOf("--model") + 1] ?? "");
  const measured = measuredTwice(argv);
  const machine = await measureMachine(checkpoint.architecture.text, measured.tokens);
  const input = { checkpoint, spec: SPEC, train: [factsOf(measured)], validation: [], test: [] };
  const settings = { ...SETTINGS, gradientCheckpointing: argv.includes("--gradient-checkpointing") };
  const { seconds, memory } = forecastOf(input, settings, machine);
  const bytes = Object.values(memory).reduce((sum, part) => sum + part, 0);
  const row = (name: string, forecast: number, value: number): string[] => [
    ...[name, forecast.toFixed(3), value.toFixed(3)],
    `${(100 * (forecast / value - 1)).toFixed(0)} %`,
  ];
  console.log(
    `${measured.tokens} tokens, ${measured.image_tokens} image, ${measured.answer_tokens} trained; ` +
      `${(machine.matrixFlops / 1e9).toFixed(0)} and ${(machine.batchedFlops / 1e9).toFixed(0)} GFLOP/s, ${(machine.movedBytes / 1e9).toFixed(1)} GB/s`,
  );
  const columns = ["forecast", "measured", "error"].map((name) => ({ name, align: "right" }) as const);
  const rows = [
    row("micro-batch, s", seconds.steps, measured.best),
    row("picture, s", seconds.pictures, measured.vision_seconds),
    row("peak memory, GB", bytes / 1e9, measured.peak_gb),
  ];
  console.log(formatTable([{ name: "", align: "left" }, ...columns], rows));
}

if (import.meta.filename === process.argv[1]) await main(process.argv.slice(2));
