/**
 * One table of training speed: shapes and lengths, this project beside transformers + PEFT where a Python has them, and the share of
 * the machine's own matrix rate that is reached. Random checkpoints are made on first use.
 *
 *     npx tsx bench/table.ts [--shapes tiny,small,2b,4b,8b] [--tokens 512,1103,2048,4096,8192] [--base-quant int8|int4]
 *         [--gradient-checkpointing] [--dir DIR] [--python python3|none] [--dtype bf16|fp32] [--steps 3] [--limit-gb N]
 */
import { spawnSync } from "node:child_process";
import { freemem, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { z } from "zod";
import { measureMachine } from "../src/app/preview/machine.ts";
import { filledLengths } from "../src/engine/rowPadding.ts";
import { costOf } from "../src/graph/cost.ts";
import { plannedCheckpoint } from "../src/model/checkpoint.ts";
import { trainingGraph } from "../src/model/graphs.ts";
import { LLM_PROJECTIONS } from "../src/model/lora.ts";
import { memorySettings } from "../src/model/memory.ts";
import { trainablesOf } from "../src/model/trainables.ts";
import { UserError } from "../src/utils/errors.ts";
import { gridOf, imageTokenCount } from "../src/vision/patches.ts";
import { randomCheckpoint, SHAPES, type ShapeName } from "./shapes.ts";

const ANSWER = 25;
const MARKERS = 2; // around the picture
const TINY = join(import.meta.dirname, "../assets/tiny-qwen3vl");
const SCREENS = { long: "1080x2400", short: "400x900", tiny: "128x256" } as const;

const Step = z.object({
  best: z.number(),
  vision_seconds: z.number(),
  tokens: z.number(),
  image_tokens: z.number(),
  answer_tokens: z.number(),
  peak_gb: z.number(),
});
const Reference = z.object({ best: z.number(), peak_gb: z.number() });

const { values: flags } = parseArgs({
  options: {
    shapes: { type: "string", default: "tiny,small,2b,4b,8b" },
    tokens: { type: "string", default: "512,1103,2048,4096,8192" },
    "base-quant": { type: "string" },
    "gradient-checkpointing": { type: "boolean", default: false },
    dir: { type: "string", default: join(tmpdir(), "qwen3-vl-shapes") },
    python: { type: "string", default: "python3" },
    dtype: { type: "string", default: "bf16" },
    steps: { type: "string", default: "3" },
    "limit-gb": { type: "string", default: String(Math.floor(freemem() / 1e9)) },
  },
});

const COLUMNS = ["shape", "tokens", "seconds", "tokens/s", "GFLOP/s", "of the GEMM rate", "tower", "peak GB"];
const PYTHON = ["-c", "import torch, transformers, peft"];
const hasReference = flags.python !== "none" && spawnSync(flags.python, PYTHON, { stdio: "ignore" }).status === 0;

async function rowOf(shape: string, tokens: number): Promise<string[]> {
  const dir = await folderOf(shape);
  const image = shape === "tiny" ? SCREENS.tiny : tokens < 1000 ? SCREENS.short : SCREENS.long;
  const prompt = tokens - imageTokensOf(image) - MARKERS - ANSWER;
  if (prompt < 1) throw new UserError(`--tokens ${tokens}: the picture alone takes ${tokens - prompt}`);
  const words = ["--image", image, "--prompt-tokens", prompt, "--answer-tokens", ANSWER, "--steps", flags.steps].map(
    String,
  );
  const own = run(
    process.execPath,
    [
      ...["--import", "tsx", join(import.meta.dirname, "step.ts"), "--model", dir, "--json", ...words],
      ...(flags["base-quant"] ? ["--base-quant", flags["base-quant"]] : []),
      ...(flags["gradient-checkpointing"] ? ["--gradient-checkpointing"] : []),
    ],
    Step,
  );
  if (typeof own === "string") return [shape, String(tokens), own];
  const { rate, flops } = await ratesOf(dir, own);
  const row = [
    ...[shape, String(own.tokens), own.best.toFixed(2), (own.tokens / own.best).toFixed(0)],
    ...[(flops / own.best / 1e9).toFixed(0), `${((100 * flops) / own.best / rate).toFixed(0)} %`],
    ...[own.vision_seconds.toFixed(2), own.peak_gb.toFixed(1)],
  ];
  return hasReference ? [...row, ...referenceOf(shape, words, own)] : row;
}

function referenceOf(shape: string, words: readonly string[], own: z.infer<typeof Step>): string[] {
  const script = join(import.meta.dirname, "hf_step.py");
  const options = ["--shape", shape, "--dtype", flags.dtype];
  const checkpointing = flags["gradient-checkpointing"] ? ["--checkpointing"] : [];
  const found = run(flags.python, [script, ...options, ...words, ...checkpointing], Reference);
  if (typeof found === "string") return [found, "", "", ""];
  const withTower = found.best / (own.best + own.vision_seconds);
  return [found.best.toFixed(2), found.peak_gb.toFixed(1), (found.best / own.best).toFixed(2), withTower.toFixed(2)];
}

/** The last line of a program's output; why there is none otherwise. A limit on memory keeps one row from ending the machine. */
function run<T>(program: string, words: readonly string[], schema: z.ZodType<T>): T | string {
  const kilobytes = Math.floor(Number(flags["limit-gb"]) * 1e6);
  const watched = ["-c", WATCHED, "bench", String(kilobytes), program, ...words];
  const { status, stdout, stderr } = spawnSync("bash", watched, { encoding: "utf8", maxBuffer: 2 ** 26 });
  if (status === 99) return `more than ${flags["limit-gb"]} GB`;
  const line = stdout.trim().split("\n").at(-1) ?? "";
  if (status !== 0) throw new UserError(`${program} ${words.join(" ")}: exit code ${status}\n${stderr.slice(-2000)}`);
  return schema.parse(JSON.parse(line));
}

/** Ends the program with 99 when its resident memory passes $1 kilobytes. */
const WATCHED = `limit=$1; shift; "$@" & child=$!
while kill -0 $child 2>/dev/null; do
  used=$(awk '/^RssAnon/ {print $2}' /proc/$child/status 2>/dev/null)
  if [ "\${used:-0}" -gt "$limit" ]; then kill -9 $child; exit 99; fi
  sleep 0.2
done
wait $child`;

/** The rate of matrix products at these sizes, and the operations of one micro-batch that computes nothing twice nor, in blocks, above the diagonal. */
async function ratesOf(dir: string, { tokens, image_tokens, answer_tokens }: z.infer<typeof Step>) {
  const checkpoint = plannedCheckpoint(dir);
  const settings = { r: 4, alpha: 32, dropout: 0, targetModules: [...LLM_PROJECTIONS] };
  const memory = memorySettings(checkpoint.architecture, { rows: 1, tokensPerRow: tokens, patches: 0 }, false);
  const { graph } = trainingGraph(checkpoint, trainablesOf(checkpoint, { kind: "lora", settings }), memory);
  const cost = costOf(graph)(filledLengths({ B: 1, T: tokens, N: answer_tokens, M: image_tokens }, memory.tokenBlocks));
  const { matrixFlops: rate } = await measureMachine(checkpoint.architecture.text, tokens);
  return { rate, flops: cost.matrixFlops + cost.batchedFlops };
}

function imageTokensOf(image: string): number {
  const [width = 0, height = 0] = image.split("x").map(Number);
  const settings = {
    ...{ patchSize: 16, mergeSize: 2, temporalPatchSize: 2, rescaleFactor: 1 / 255 },
    ...{ imageMean: [0.5, 0.5, 0.5], imageStd: [0.5, 0.5, 0.5], minPixels: 4 * 32 * 32, maxPixels: 1280 * 28 * 28 },
  };
  return imageTokenCount(gridOf({ width, height }, settings), settings);
}

async function folderOf(shape: string): Promise<string> {
  if (shape === "tiny") return TINY;
  if (!(shape in SHAPES)) throw new UserError(`--shapes ${shape}: expected tiny, ${Object.keys(SHAPES).join(", ")}`);
  return randomCheckpoint(flags.dir, shape as ShapeName);
}

const columns = hasReference ? [...COLUMNS, "transformers + PEFT", "peak GB", "ratio", "with the tower"] : COLUMNS;
if (!hasReference) console.log(`${flags.python}: no torch, transformers and peft there, so no reference is timed\n`);
console.log(`| ${columns.join(" | ")} |\n|${columns.map(() => "---|").join("")}`);
for (const shape of flags.shapes.split(",")) {
  const lengths = shape === "tiny" ? [142] : flags.tokens.split(",").map(Number);
  for (const tokens of lengths) console.log(`| ${(await rowOf(shape, tokens)).join(" | ")} |`);
}
