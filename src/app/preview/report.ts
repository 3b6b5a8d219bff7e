/** The report of a preview as text. */
import { cpus } from "node:os";
import { count, counted } from "../../utils/count.ts";
import { wrapped } from "../../utils/flags.ts";
import { barLines } from "../../utils/histogram.ts";
import { shortNumber } from "../../utils/progress.ts";
import { formatTable } from "../../utils/table.ts";
import { type Overlap, overlapText } from "../splits.ts";
import type { Forecast, MemoryPart } from "./forecast.ts";
import type { Machine } from "./machine.ts";
import { type Duplicates, type Overlong, type Summary, splitName, userRanges } from "./summary.ts";

export interface Report {
  readonly summary: Summary;
  readonly duplicates: Duplicates;
  readonly overlaps: readonly Overlap[];
  readonly allowOverlap: boolean;
  /** Reasons why samples cannot be used. */
  readonly faults: readonly string[];
  readonly maxLength: number | null;
  readonly overlong: string;
  readonly forecast: { readonly of: Forecast; readonly machine: Machine; readonly epochs: number } | null;
}

const WIDTH = 110;
const FAULTS_SHOWN = 20;
const JOINED = "\u00a0"; // a space at which no line ends: between a number and its unit

export function reportText(report: Report): string {
  const { summary, faults } = report;
  const parts = [
    splitTable(summary),
    ...summary.splits
      .filter(({ users }) => users.size > 1 || !users.has("-"))
      .map(({ split, users }) => listed(`${splitName(split)} users`, userRanges(users))),
    `\ntokens a sample\n${indented(barLines(summary.lengths))}`,
    summary.splits.some(({ pictures }) => pictures > 0)
      ? `\nimage tokens a sample\n${indented(barLines(summary.imageTokens))}`
      : "",
    lengthLimit(report),
    equalSamples(report),
    faults.length === 0 ? "" : `\nsamples that cannot be used\n${indented(faultLines(faults))}`,
    report.forecast ? `\n${forecastText(report.forecast)}` : "",
  ];
  return parts.filter((part) => part !== "").join("\n");
}

const indented = (lines: readonly string[]): string => lines.map((line) => `  ${line}`).join("\n");

/** A name and a text that may take several lines. */
function listed(name: string, text: string, column = 20): string {
  const lines = wrapped(text, WIDTH - column).map((line) => line.replaceAll(JOINED, " "));
  const [first = "", ...rest] = lines;
  return [`  ${name.padEnd(column - 2)}${first}`, ...rest.map((line) => " ".repeat(column) + line)].join("\n");
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

function splitTable({ splits }: Summary): string {
  const columns = ["users", "samples", "pictures", "tokens", "image tokens", "trained tokens", "trained", "longest"];
  const rows = splits.map((one) => [
    splitName(one.split),
    one.users.size === 1 && one.users.has("-") ? "-" : count(one.users.size),
    ...[one.samples, one.pictures, one.tokens, one.imageTokens, one.trained].map(count),
    percent(one.trained / Math.max(1, one.tokens)),
    count(one.longest),
  ]);
  return formatTable(
    [{ name: "split", align: "left" }, ...columns.map((name) => ({ name, align: "right" }) as const)],
    rows,
  );
}

const OUTCOMES: Readonly<Record<Overlong["outcome"], string>> = {
  refused: "training refuses them: raise --max-length, make pictures smaller, or say with --overlong what happens",
  dropped: "left out",
  emptied: "left out: nothing to learn after the cut",
  shrunk: "their pictures are scaled down",
  cut: "cut",
};

function lengthLimit({ summary, maxLength, overlong }: Report): string {
  if (maxLength === null) return "";
  const head = `\nover --max-length ${maxLength} (--overlong ${overlong})`;
  if (summary.overlong.length === 0) return `${head}\n  none`;
  const lines = summary.overlong.map(({ split, outcome, samples, longest }) =>
    listed(
      `${splitName(split)}: ${count(samples)}`,
      `${OUTCOMES[outcome]}; the longest is ${longest.id} with ${count(longest.wholeLength)} tokens`,
    ),
  );
  return [head, ...lines].join("\n");
}

function equalSamples({ duplicates, overlaps, allowOverlap }: Report): string {
  const lines = ["\nequal samples (the same pictures and words)"];
  if (duplicates.groups === 0) lines.push("  none");
  else {
    lines.push(`  ${counted(duplicates.samples, "sample")} in ${counted(duplicates.groups, "group")}, such as`);
    for (const ids of duplicates.examples) lines.push(`    ${ids.join(" = ")}`);
  }
  const [first, ...more] = overlaps;
  if (first)
    lines.push(listed("in two splits", `${allowOverlap ? "allowed: " : ""}${overlapText(first, more.length)}`));
  return lines.join("\n");
}

function faultLines(faults: readonly string[]): string[] {
  const rest = faults.length - FAULTS_SHOWN;
  return [...faults.slice(0, FAULTS_SHOWN), ...(rest > 0 ? [`and ${count(rest)} more`] : [])];
}

const PARTS: Readonly<Record<MemoryPart, string>> = {
  program: "program",
  weights: "weights",
  training: "values of the largest micro-batch",
  values: "trained values, gradients and moments",
  pictures: "vision tower",
  features: "features kept",
  data: "samples",
  answering: "answering",
};

function forecastText({ of, machine, epochs }: NonNullable<Report["forecast"]>): string {
  const memory = Object.entries(of.memory) as [MemoryPart, number][];
  const bytes = memory.reduce((sum, [, part]) => sum + part, 0);
  const speed = `${shortNumber(Math.round(machine.matrixFlops / 1e9))} GFLOP/s in matrix products`;
  const shares = memory
    .filter(([, part]) => part >= 0.005e9)
    .sort(([, a], [, b]) => b - a)
    .map(([name, part]) => `${PARTS[name]} ${gigabytes(part)}`);
  return [
    "forecast of a training run on the CPU",
    listed(
      "steps",
      `${count(of.totalSteps)} (${count(of.stepsPerEpoch)} a pass over ${counted(of.rows, "row")}, ${shortNumber(epochs)} ${epochs === 1 ? "pass" : "passes"}), ` +
        `${percent(of.paddingShare)} padding, ${count(of.parameters)} parameters`,
    ),
    listed("time", timeText(of, machine)),
    listed(
      "machine",
      `${machine.source === "measured" ? `measured now, ${cpus().length} cores: ` : "stated: "}${speed}, ` +
        `${shortNumber(Math.round(machine.batchedFlops / 1e9))} in attention, ${shortNumber(Math.round(machine.movedBytes / 1e9))} GB/s moved; ` +
        `${shortNumber(Number((of.flops / 1e12).toPrecision(3)))}${JOINED}TFLOP in all`,
    ),
    listed("memory", `about ${gigabytes(bytes)} at the peak (a quarter more or less): ${shares.join(", ")}`),
  ].join("\n");
}

/** Of forecasts on a machine that stays as busy as when it was measured. It does not cover one that gets busier (docs/planning.md). */
const TIME_ERROR = 1.4;

function timeText({ seconds, memory }: Forecast, { source }: Machine): string {
  const parts = Object.entries(seconds).filter(([, part]) => part > 0);
  const total = parts.reduce((sum, [, part]) => sum + part, 0);
  const shares = parts.map(([name, part]) => `${name} ${duration(part)}`).join(", ");
  const busy = source === "measured" ? " if the machine stays as busy as now" : "";
  const answers = memory.answering > 0 ? "; answering test samples comes on top" : "";
  return `about ${duration(total)} (${duration(total / TIME_ERROR)} to ${duration(total * TIME_ERROR)}${busy}): ${shares}${answers}`;
}

/** Two digits: a forecast has no more. */
function duration(seconds: number): string {
  const [unit, name] = UNITS.find(([one]) => seconds >= 2 * one) ?? SECOND;
  return `${shortNumber(Number((seconds / unit).toPrecision(2)))}${JOINED}${name}`;
}

const SECOND = [1, "s"] as const;
const UNITS = [[86_400, "days"], [3600, "h"], [60, "min"], SECOND] as const;

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)}${JOINED}GB`;
