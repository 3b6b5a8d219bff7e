/**
 * Memory and step time over many steps: trains the embedded model as a user would, and reads metrics.jsonl.
 *
 *   npx tsx bench/longRun.ts --steps 24000 --minutes 30 --to docs/images/long-run
 *   npx tsx bench/longRun.ts --from checkpoints/global_agent_lora --to out/plot       an existing run instead
 *   npx tsx bench/longRun.ts --steps 2000 -- --model DIR --batch-size 2               more flags of finetuneGlobal
 *
 * Writes TO.csv, a row for every `--every` steps, and TO.svg, and prints what became of memory and step time.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { linear, type Scale, ticks } from "../src/app/report/charts/svg.ts";
import { METRICS } from "../src/train/journal/metricsFile.ts";
import { isJsonObject, type JsonObject } from "../src/utils/json.ts";
import { quantile } from "../src/utils/statistics.ts";

const { values: flags, positionals } = parseArgs({
  options: {
    steps: { type: "string", default: "24000" },
    minutes: { type: "string", default: "30" },
    every: { type: "string", default: "100" },
    to: { type: "string", default: "out/long-run" },
    from: { type: "string" },
  },
  allowPositionals: true,
});

/** Steps that stand together, the last of them `step`. */
interface Stretch {
  readonly step: number;
  /** Since the first step. */
  readonly minutes: number;
  /** Tenth, half and nine tenths of the steps took no longer. */
  readonly ms: readonly [low: number, median: number, high: number];
  /** Resident at its last step, in MB of 10^6 bytes. */
  readonly memoryMb: number;
}

/** Trains until the steps, or the minutes since the first of them, are over. @returns rows of metrics.jsonl */
async function train(dir: string): Promise<JsonObject[]> {
  const args = ["cpu", "--lora", "--no-eval", "--quiet", "--max-steps", flags.steps, "--checkpoint-dir", dir];
  const rest = ["--batch-size", "1", "--accumulation", "1", "--log-dir", join(dir, "logs"), ...positionals];
  const command = ["--import", import.meta.resolve("tsx"), resolve("src/finetuneGlobal.ts"), ...args, ...rest];
  const child = spawn(process.execPath, command, { stdio: "inherit" });
  const watching = interruptAfter(60_000 * Number(flags.minutes), join(dir, METRICS), () => child.kill("SIGINT"));
  const code = await new Promise<number | null>((ended, fail) => {
    child.on("error", fail);
    child.on("close", ended);
  });
  clearInterval(watching);
  if (code !== 0 && code !== 130) throw new Error(`the training ended with ${code}`);
  return rowsIn(dir);
}

/** Calls once when so much time has passed since the first step, which is when the file appears. */
function interruptAfter(ms: number, file: string, interrupt: () => void): NodeJS.Timeout {
  let begun: number | null = null;
  const watching = setInterval(() => {
    if (begun === null && existsSync(file)) begun = performance.now();
    if (begun === null || performance.now() - begun < ms) return;
    clearInterval(watching);
    interrupt();
  }, 500);
  return watching;
}

/** Rows of steps. */
const rowsIn = (dir: string): JsonObject[] =>
  readFileSync(join(dir, METRICS), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line): unknown => JSON.parse(line))
    .filter(isJsonObject)
    .filter((row) => "step_seconds" in row);

function stretchesOf(rows: readonly JsonObject[], every: number): Stretch[] {
  const begun = Date.parse(String(rows[0]?.time));
  return Array.from({ length: Math.floor(rows.length / every) }, (_, i) => {
    const part = rows.slice(i * every, (i + 1) * every);
    const times = part.map((row) => 1000 * Number(row.step_seconds)).sort((a, b) => a - b);
    const last = part.at(-1) ?? {};
    return {
      step: Number(last.step),
      minutes: (Date.parse(String(last.time)) - begun) / 60_000,
      ms: [quantile(times, 0.1), quantile(times, 0.5), quantile(times, 0.9)],
      memoryMb: 1000 * Number(last.memory_gb),
    };
  });
}

const csvOf = (stretches: readonly Stretch[]): string =>
  ["step,minutes,step_ms_p10,step_ms_median,step_ms_p90,memory_mb"]
    .concat(
      stretches.map(({ step, minutes, ms, memoryMb }) =>
        [step, minutes.toFixed(3), ...ms.map((value) => value.toFixed(2)), memoryMb.toFixed(1)].join(","),
      ),
    )
    .join("\n");

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Of the last tenth against the second: the first holds the start, when memory is still being taken. */
function change(stretches: readonly Stretch[], of: (stretch: Stretch) => number): [before: number, after: number] {
  const tenth = Math.max(1, Math.floor(stretches.length / 10));
  return [mean(stretches.slice(tenth, 2 * tenth).map(of)), mean(stretches.slice(-tenth).map(of))];
}

const PANEL = { width: 720, height: 190, left: 56, right: 34, top: 30, bottom: 34 };

interface Curve {
  readonly title: string;
  readonly values: readonly number[];
  readonly band?: readonly (readonly [number, number])[];
}

function panel(stretches: readonly Stretch[], { title, values, band }: Curve, top: number): string {
  const { width, height, left, right, bottom } = PANEL;
  const most = 1.1 * Math.max(...values, ...(band ?? []).map(([, high]) => high));
  const lastStep = stretches.at(-1)?.step ?? 1;
  const x = linear([0, lastStep], [left, width - right]);
  const y = linear([0, most], [top + height - bottom, top + PANEL.top]);
  const point = (value: number, i: number): string => `${x(stretches[i]?.step ?? 0).toFixed(1)},${y(value).toFixed(1)}`;
  const shade = band && [
    ...band.map(([, high], i) => point(high, i)),
    ...band.map(([low], i) => point(low, i)).reverse(),
  ];
  return [
    `<text x="${left}" y="${top + 18}" class="title">${title}</text>`,
    ...axes({ x, y, most, lastStep, top }),
    ...(shade ? [`<polygon points="${shade.join(" ")}" class="band"/>`] : []),
    `<polyline points="${values.map(point).join(" ")}" class="curve"/>`,
  ].join("\n");
}

function axes({
  x,
  y,
  most,
  lastStep,
  top,
}: {
  x: Scale;
  y: Scale;
  most: number;
  lastStep: number;
  top: number;
}): string[] {
  const { width, height, left, right, bottom } = PANEL;
  const floor = top + height - bottom;
  return [
    ...ticks(0, most, 4).flatMap((value) => [
      `<line x1="${left}" x2="${width - right}" y1="${y(value)}" y2="${y(value)}" class="grid"/>`,
      `<text x="${left - 6}" y="${y(value) + 4}" text-anchor="end">${value}</text>`,
    ]),
    ...ticks(0, lastStep, 6).map(
      (value) => `<text x="${x(value)}" y="${floor + 18}" text-anchor="middle">${value.toLocaleString("en-US")}</text>`,
    ),
  ];
}

const CSS = `text{font:12px sans-serif;fill:#333}.title{font-weight:bold}.grid{stroke:#ddd}
.curve{fill:none;stroke:#1f5fbf;stroke-width:1.5}.band{fill:#1f5fbf;opacity:.2}`;

function svgOf(stretches: readonly Stretch[]): string {
  const { width, height } = PANEL;
  const time: Curve = {
    title: "milliseconds a step: median, and where 8 of 10 lie",
    values: stretches.map(({ ms }) => ms[1]),
    band: stretches.map(({ ms }) => [ms[0], ms[2]]),
  };
  const memory: Curve = {
    title: "resident memory of the process, MB",
    values: stretches.map(({ memoryMb }) => memoryMb),
  };
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${2 * height}" role="img">
<title>Step time and memory over ${stretches.at(-1)?.step} steps</title>
<style>${CSS}</style><rect width="${width}" height="${2 * height}" fill="#fff"/>
${panel(stretches, time, 0)}
${panel(stretches, memory, height)}
</svg>
`;
}

const scratch = mkdtempSync(join(tmpdir(), "long-run-"));
try {
  const rows = flags.from === undefined ? await train(scratch) : rowsIn(flags.from);
  const stretches = stretchesOf(rows, Number(flags.every));
  if (stretches.length < 3)
    throw new Error(`${rows.length} steps are too few for stretches of ${flags.every}: see --every`);
  mkdirSync(dirname(resolve(flags.to)), { recursive: true });
  writeFileSync(`${flags.to}.csv`, `${csvOf(stretches)}\n`);
  writeFileSync(`${flags.to}.svg`, svgOf(stretches));
  const [memoryBefore, memoryAfter] = change(stretches, ({ memoryMb }) => memoryMb);
  const [msBefore, msAfter] = change(stretches, ({ ms }) => ms[1]);
  console.log(`${rows.length} steps in ${stretches.at(-1)?.minutes.toFixed(1)} minutes`);
  console.log(`memory: ${memoryBefore.toFixed(0)} MB in the second tenth, ${memoryAfter.toFixed(0)} MB in the last`);
  console.log(`median step: ${msBefore.toFixed(1)} ms in the second tenth, ${msAfter.toFixed(1)} ms in the last`);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
