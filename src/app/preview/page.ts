/** A preview as one HTML page that needs nothing beside it: pictures inline, no request to anywhere. All text is escaped. */
import { type Encoded, IGNORE } from "../../collator.ts";
import type { Example } from "../../dataset.ts";
import type { Processor } from "../../processor.ts";
import { shownRuns } from "../../text/showTokens.ts";
import { mapAhead } from "../../utils/ahead.ts";
import { count } from "../../utils/count.ts";
import { messageOf, UserError } from "../../utils/errors.ts";
import { type Bin, binName } from "../../utils/histogram.ts";
import { thumbnail } from "../../vision/thumbnail.ts";
import { escaped, framed, jpegUri, tiles } from "../page/frame.ts";
import { SCRIPT, STYLE } from "./pageAssets.ts";
import { type Report, reportText } from "./report.ts";
import { splitName } from "./summary.ts";
import type { SampleFacts } from "./survey.ts";

/** A sample to be shown. */
export interface PageSample {
  readonly example: Example;
  readonly facts: SampleFacts;
  readonly encoded: Encoded;
}

export interface PageOptions {
  readonly processor: Processor;
  /** What the page is about: model and data, as the user calls them. */
  readonly title: string;
  readonly report: Report;
  /** Samples of the whole data set. */
  readonly total: number;
  readonly onSample?: (done: number) => void;
}

const DECODING_AT_ONCE = 4;
const PICTURE_SIDE = 480;
const PICTURES_SHOWN = 8;

/** @param samples in the order in which they are shown first */
export async function pageOf(samples: readonly PageSample[], options: PageOptions): Promise<string> {
  const cards: string[] = [];
  for await (const card of mapAhead(samples, DECODING_AT_ONCE - 1, (sample) => cardOf(sample, options.processor))) {
    cards.push(card);
    options.onSample?.(cards.length);
  }
  const splits = [...new Set(samples.map(({ facts }) => facts.split))];
  const body = `<header>
<h1>${escaped(options.title)}</h1>
${summaryTiles(options)}
<div class="charts">
${chart("tokens a sample", options.report.summary.lengths)}
${chart("image tokens a sample", options.report.summary.imageTokens)}
</div>
<details><summary>report in full</summary><pre class="report">${escaped(reportText(options.report))}</pre></details>
</header>
<nav>
<input id="search" type="search" placeholder="search text, ids, users" aria-label="search">
<select id="split" aria-label="split"><option value="">all splits</option>${splits.map((split) => `<option>${splitName(split)}</option>`).join("")}</select>
<select id="order" aria-label="order">
<option value="length">longest first</option><option value="image">most image tokens first</option>
<option value="trained">least trained first</option><option value="place">order of the data</option>
</select>
<output id="found">${count(samples.length)} of ${count(options.total)} samples</output>
<span class="legend"><b class="learnt">trained</b> <b class="context">context</b> <b class="image">pictures</b></span>
</nav>
<main>
${cards.join("\n")}
</main>`;
  return framed({ title: options.title, style: STYLE, body, script: SCRIPT });
}

function summaryTiles({ report, total }: PageOptions): string {
  const { splits } = report.summary;
  const sum = (of: (split: (typeof splits)[number]) => number): number => splits.reduce((all, one) => all + of(one), 0);
  const tokens = sum((one) => one.tokens);
  const shown: readonly (readonly [string, string])[] = [
    ["samples", count(total)],
    ["tokens", count(tokens)],
    ["image tokens", count(sum((one) => one.imageTokens))],
    ["trained", `${((100 * sum((one) => one.trained)) / Math.max(1, tokens)).toFixed(1)} %`],
    ["longest", count(splits.reduce((longest, one) => Math.max(longest, one.longest), 0))],
    ["equal samples", count(report.duplicates.samples)],
    ["in two splits", count(report.overlaps.length)],
    ["unusable", count(report.faults.length)],
  ];
  return tiles(shown);
}

function chart(title: string, bins: readonly Bin[]): string {
  const most = bins.reduce((max, bin) => Math.max(max, bin.count), 1);
  const bar = (bin: Bin): string =>
    `<div><span>${binName(bin)}</span><i style="width:${((100 * bin.count) / most).toFixed(1)}%"${bin.count === 0 ? " data-none" : ""}></i><span>${count(bin.count)}</span></div>`;
  return `<section><h2>${title}</h2><div class="bars">${bins.map(bar).join("")}</div></section>`;
}

let place = 0;

async function cardOf({ example, facts, encoded }: PageSample, processor: Processor): Promise<string> {
  const { imageTokenId, videoTokenId, tokenizer } = processor;
  const runs = shownRuns(encoded, { tokenizer, imageTokenId, videoTokenId, ignore: IGNORE });
  const text = runs.map(({ kind, text }) => `<span class="${kind}">${escaped(text)}</span>`).join("");
  const data = `data-length="${facts.wholeLength}" data-image="${facts.imageTokens}" data-trained="${facts.trained}" data-place="${place++}" data-split="${splitName(facts.split)}"`;
  const outcome = facts.outcome === "whole" ? "" : `<b class="warn">${facts.outcome}</b>`;
  return `<article ${data}>
<h3>${escaped(facts.id)}</h3>
<p>${[splitName(facts.split), ...(facts.user === null ? [] : [`user ${escaped(facts.user)}`])].join(" · ")} ${outcome}</p>
<p>${count(facts.wholeLength)} tokens · ${count(facts.imageTokens)} image · ${count(facts.trained)} trained</p>
${await figuresOf(example, encoded)}
<pre>${text}</pre>
</article>`;
}

async function figuresOf({ target }: Example, { images }: Encoded): Promise<string> {
  const frames = images.flatMap((image) => image.frames.slice(0, 1));
  const shown = frames.slice(0, PICTURES_SHOWN);
  // a click point belongs to the last picture, the screen that the answer is about
  const figures = await Promise.all(
    shown.map(async (source, i) => {
      const point = i === frames.length - 1 ? target?.point : undefined;
      try {
        return figure(await thumbnail(source, PICTURE_SIDE), point);
      } catch (thrown) {
        if (!(thrown instanceof UserError)) throw thrown;
        return `<p class="warn">${escaped(messageOf(thrown))}</p>`;
      }
    }),
  );
  const rest = frames.length - shown.length;
  return figures.length === 0
    ? ""
    : `<div class="pictures">${figures.join("")}${rest > 0 ? `<p>and ${rest} more</p>` : ""}</div>`;
}

function figure(
  { jpeg, original }: Awaited<ReturnType<typeof thumbnail>>,
  point: readonly [number, number] | undefined,
): string {
  const scale = Math.min(1, PICTURE_SIDE / Math.max(original.width, original.height));
  const [width, height] = [original.width, original.height].map((side) => Math.max(1, Math.round(side * scale)));
  const dot = point ? `<i class="dot" style="left:${point[0] / 10}%;top:${point[1] / 10}%"></i>` : "";
  const caption = `${original.width} x ${original.height}${point ? ` · click at ${point[0]}, ${point[1]}` : ""}`;
  return `<figure><div><img loading="lazy" width="${width}" height="${height}" alt="" src="${jpegUri(jpeg)}">${dot}</div><figcaption>${caption}</figcaption></figure>`;
}
