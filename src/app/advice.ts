/** What a run's user is told at its start where the same work could take much less time on this machine. */
import { readFileSync } from "node:fs";
import type { Checkpoint } from "../model/checkpoint.ts";
import type { Device } from "../runtime/device.ts";
import { elementCount } from "../utils/safetensors.ts";
import type { QuantUse } from "./baseQuant.ts";

type Weights = Pick<Checkpoint, "tensors">;

/** A line for each thing that would help. */
export function giveAdvice(
  checkpoint: Weights,
  { kind, spec, training, devices, log }: Omit<QuantUse, "answers" | "signal">,
): void {
  const lines = [
    kind === null && spec.kind !== "full" ? fewBitsAdvice(checkpoint, devices) : null,
    training ? largePagesAdvice(checkpoint, devices, memoryOfThisProcess) : null,
  ];
  for (const line of lines) if (line) log.line(line);
}

const usesCpu = (devices: readonly Device[]): boolean => devices.some((device) => device.kind === "cpu");

const countOf = (tensors: Iterable<{ readonly shape: readonly number[] }>): number =>
  [...tensors].reduce((sum, { shape }) => sum + elementCount(shape), 0);

/** Weights above which it is worth a line. */
const MANY = 2 ** 28;

/** What few bits would save where the CPU turns many weights of 16 bits to float32 for every product; else null. */
export function fewBitsAdvice({ tensors }: Weights, devices: readonly Device[]): string | null {
  const stored = [...tensors.values()].filter(({ dtype }) => dtype === "BF16" || dtype === "F16");
  const [first] = stored;
  if (!first || countOf(stored) <= MANY || !usesCpu(devices)) return null;
  return `weights stored as ${first.dtype} are turned to float32 for each product on the CPU; --base-quant int8 trains more than twice as fast and writes answers several times as fast (docs/quantisation.md)`;
}

/** How a process gets its memory. */
export interface ProcessMemory {
  /** Linux's setting, as in "always [madvise] never"; null on other systems. */
  readonly largePages: string | null;
  /** Version of glibc, null without it. */
  readonly glibc: string | null;
  /** glibc's settings in the environment. */
  readonly tunables: string;
}

/** The first glibc whose memory can ask for large pages. */
const GLIBC_WITH_LARGE_PAGES = 2.35;

/**
 * What large pages would save where Linux gives them to those alone who ask, and nobody does; else null.
 * @param memoryOf asked for large weights alone: the answer takes some milliseconds
 */
export function largePagesAdvice(
  { tensors }: Weights,
  devices: readonly Device[],
  memoryOf: () => ProcessMemory,
): string | null {
  if (countOf(tensors.values()) <= MANY || !usesCpu(devices)) return null;
  const { largePages, glibc, tunables } = memoryOf();
  const couldAsk = largePages?.includes("[madvise]") && Number(glibc) >= GLIBC_WITH_LARGE_PAGES;
  if (!couldAsk || tunables.includes("glibc.malloc.hugetlb")) return null;
  return "a training step takes up to a tenth less time in large pages of memory: write GLIBC_TUNABLES=glibc.malloc.hugetlb=1 before the command (docs/performance.md)";
}

function memoryOfThisProcess(): ProcessMemory {
  return {
    largePages: textOf("/sys/kernel/mm/transparent_hugepage/enabled"),
    glibc: glibcVersion(),
    tunables: process.env.GLIBC_TUNABLES ?? "",
  };
}

/** null where the system has no such file, or keeps it to itself. */
function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

function glibcVersion(): string | null {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime ?? null;
}
