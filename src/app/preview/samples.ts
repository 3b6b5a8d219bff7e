/** Going through the samples of a preview: counting all, printing some, writing them as JSON or onto a page. */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { type Encoded, IGNORE } from "../../collator.ts";
import type { Example } from "../../dataset.ts";
import { showTokens } from "../../text/showTokens.ts";
import { count, counted } from "../../utils/count.ts";
import { InternalError, Interrupted, required, UserError } from "../../utils/errors.ts";
import { writeWhole } from "../../utils/files.ts";
import type { Log } from "../../utils/log.ts";
import { nearestName } from "../../utils/nearest.ts";
import { startProgress } from "../../utils/progress.ts";
import { spread } from "../../utils/spread.ts";
import type { SplitName, Splits } from "../splits.ts";
import { pageOf } from "./page.ts";
import type { Report } from "./report.ts";
import { splitName } from "./summary.ts";
import { type SampleFacts, SPLIT_ORDER, type Surveyed, type SurveyOptions, surveyed, surveyOne } from "./survey.ts";

export interface GoThroughOptions extends SurveyOptions {
  /** How many samples to print, or which. */
  readonly show: number | readonly string[] | null;
  readonly htmlSamples: number;
  readonly log: Log;
  readonly signal: AbortSignal;
}

interface Placed {
  readonly example: Example;
  readonly split: SplitName;
}

const placedOf = (splits: Splits): Placed[] =>
  SPLIT_ORDER.flatMap((split) => splits[split].map((example) => ({ example, split })));

/** Hands over every sample, with progress, until one is answered with false. @returns what is wrong with those that cannot be used */
async function goThrough(
  splits: Splits,
  { log, signal, ...options }: GoThroughOptions,
  take: (sample: Extract<Surveyed, { fault: null }>) => boolean | Promise<boolean>,
): Promise<string[]> {
  const faults: string[] = [];
  const progress = startProgress({ log, title: "reading samples", total: placedOf(splits).length });
  let done = 0;
  try {
    for await (const sample of surveyed(splits, options)) {
      if (signal.aborted) throw new Interrupted("stopped while reading samples: nothing to save");
      if (sample.fault !== null) faults.push(sample.fault);
      else if (!(await take(sample))) break;
      progress.update(++done);
    }
  } finally {
    progress.stop();
  }
  return faults;
}

/** Keeps what a plan needs of each sample, and no tokens. */
export async function takeSurvey(
  splits: Splits,
  options: GoThroughOptions,
): Promise<{ facts: readonly SampleFacts[]; faults: readonly string[] }> {
  const facts: SampleFacts[] = [];
  const faults = await goThrough(splits, options, (sample) => facts.push(sample.facts) > 0);
  return { facts, faults };
}

/** One line of JSON a sample on stdout, written as they come. @returns what is wrong with those that cannot be used */
export async function printJson(splits: Splits, options: GoThroughOptions): Promise<string[]> {
  const left = new Map<SampleFacts["outcome"], number>();
  process.stdout.on("error", () => undefined); // the write that failed hears of it
  const faults = await goThrough(splits, options, async ({ encoded, facts: { outcome } }) => {
    if (outcome !== "whole") left.set(outcome, (left.get(outcome) ?? 0) + 1);
    return outcome === "dropped" || outcome === "emptied" || writeLine(jsonLine(encoded));
  });
  for (const [outcome, samples] of left)
    options.log.warn(`--max-length ${options.maxLength}: ${counted(samples, "sample")} ${JSON_OUTCOMES[outcome]}`);
  return faults;
}

const JSON_OUTCOMES: Readonly<Record<SampleFacts["outcome"], string>> = {
  whole: "as they are",
  refused: "longer; training would refuse that, here they are whole",
  dropped: "longer and left out",
  emptied: "left out: nothing to learn after the cut",
  shrunk: "with smaller pictures",
  cut: "cut",
};

/** Waits until the line is taken, so that lines do not pile up. @returns false when the reader has gone (`| head`) */
const writeLine = (line: string): Promise<boolean> =>
  new Promise((resolve, reject) => {
    process.stdout.write(`${line}\n`, (error) => {
      if (!error) resolve(true);
      else if ("code" in error && error.code === "EPIPE") resolve(false);
      else reject(error);
    });
  });

/** The contract of `--json`. Videos have a field of their own, as in transformers, only where there are any. */
export function jsonLine({ id, user, inputIds, labels, images }: Encoded): string {
  const grids = images.filter(({ video }) => video === undefined).map(({ grid }) => grid);
  const videos = videoGrids(images);
  const head = JSON.stringify({ id, user }).slice(0, -1);
  const rest = JSON.stringify({
    image_grid_thw: grids.length === 0 ? null : grids,
    ...(videos.length === 0 ? {} : { video_grid_thw: videos }),
    length: inputIds.length,
  }).slice(1);
  return `${head},"input_ids":[${inputIds.join(",")}],"labels":[${labels.join(",")}],${rest}`;
}

/** A video is one grid, however many pieces its frames make. */
function videoGrids(images: Encoded["images"]): number[][] {
  const grids = new Map<number, number[]>();
  for (const { video, grid } of images) {
    if (video === undefined) continue;
    const known = grids.get(video);
    if (known) known[0] = (known[0] ?? 0) + grid[0];
    else grids.set(video, [...grid]);
  }
  return [...grids.values()];
}

/** @throws UserError where a sample that is to be shown does not exist, before anything is read at length */
export function checkShown(splits: Splits, show: GoThroughOptions["show"]): void {
  if (show === null || typeof show === "number") return;
  const ids = new Set(placedOf(splits).map(({ example }) => example.id));
  for (const id of show) {
    if (ids.has(id)) continue;
    const nearest = nearestName(id, [...ids]) ?? [...ids][0];
    throw new UserError(`--show ${id}: no such sample; ids look like ${nearest}`);
  }
}

/** Prints the samples of --show with their trained tokens marked. */
export async function printSamples(splits: Splits, { show, ...options }: GoThroughOptions): Promise<void> {
  if (show === null) return;
  const all = placedOf(splits);
  const wanted = typeof show === "number" ? spread(all, show) : all.filter(({ example }) => show.includes(example.id));
  const { tokenizer, imageTokenId, videoTokenId } = options.processor;
  for (const { example, split } of wanted) {
    const sample = await surveyOne(example, split, options);
    if (sample.fault !== null) continue; // reported with the others
    const { facts, encoded } = sample;
    const head = [
      ...[facts.id, splitName(split), ...(facts.user === null ? [] : [`user ${facts.user}`])],
      `${count(facts.length)} tokens, ${count(facts.imageTokens)} image, ${count(facts.trained)} trained`,
    ];
    console.log(`\n── ${head.join(" · ")}`);
    console.log(showTokens(encoded, { tokenizer, imageTokenId, videoTokenId, ignore: IGNORE }).trimEnd());
  }
}

export interface PageInput {
  readonly splits: Splits;
  readonly facts: readonly SampleFacts[];
  readonly report: Report;
  readonly title: string;
}

/** The longest samples, and of equally long ones those with most image tokens, as a page. */
export async function writePage(
  file: string,
  { splits, facts, report, title }: PageInput,
  options: GoThroughOptions,
): Promise<void> {
  const { processor, log, signal, htmlSamples } = options;
  const examples = new Map(placedOf(splits).map(({ example, split }) => [keyOf(example.id, split), example]));
  const worst = facts
    .toSorted((a, b) => b.wholeLength - a.wholeLength || b.imageTokens - a.imageTokens)
    .slice(0, htmlSamples);
  const samples = await Promise.all(
    worst.map(async ({ id, split }) => {
      const again = await surveyOne(required(examples.get(keyOf(id, split)), id), split, options);
      if (again.fault !== null) throw new InternalError(`${id} was readable and is no longer: ${again.fault}`);
      return again;
    }),
  );
  const progress = startProgress({ log, title: "drawing the page", total: samples.length });
  try {
    const onSample = (done: number): void => {
      if (signal.aborted) throw new Interrupted("stopped while drawing the page: nothing was written");
      progress.update(done);
    };
    const page = await pageOf(samples, { processor, title, report, total: facts.length, onSample });
    await mkdir(dirname(file), { recursive: true });
    await writeWhole(file, page);
  } finally {
    progress.stop();
  }
}

const keyOf = (id: string, split: SplitName): string => `${split} ${id}`;
