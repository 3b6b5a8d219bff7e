/** The report as one HTML page. All text is escaped. */
import { count, counted } from "../../utils/count.ts";
import { escaped, framed, tiles } from "../page/frame.ts";
import { distanceChart } from "./charts/distances.ts";
import { dumbbellChart } from "./charts/dumbbell.ts";
import { lossChart, personalLossChart, rateChart } from "./charts/lines.ts";
import { htmlTable, legend } from "./charts/svg.ts";
import type { Curves } from "./curves.ts";
import { cardsOf, type Gallery } from "./gallery.ts";
import { SCRIPT, STYLE } from "./pageAssets.ts";
import type { Stage } from "./stages.ts";
import type { ReportSummary } from "./summary.ts";
import { comparisonTable, methodLines, percent, signed, stageTable } from "./table.ts";

export interface PageOf {
  /** The output folder. */
  readonly out: string;
  readonly summary: ReportSummary;
  readonly stages: readonly Stage[];
  readonly curves: Curves;
  readonly gallery: Gallery;
}

const TITLE = "Clicks before and after training";

export async function pageOf(page: PageOf): Promise<string> {
  const { summary, stages, curves, gallery } = page;
  const names = stages.map(({ name }) => name);
  const body = `<header>
<h1>${TITLE}</h1>
${headline(summary)}
${notes(summary)}
</header>
<main>
${names.length > 0 ? legend(names) : ""}
<div class="charts">
${stages.length > 0 ? `${dumbbellChart(summary)}\n${distanceChart(stages)}` : ""}
</div>
<div class="charts curves">
${curveCharts(curves)}
</div>
${tables(summary)}
${stages.length > 0 ? await galleryPart(page, gallery) : ""}
</main>
<dialog id="viewer" aria-label="one screen">
<div class="bar"><button type="button" data-step="-1">← previous</button><output></output><button type="button" data-step="1">next →</button><button type="button" data-close>close</button></div>
<div class="content"></div>
</dialog>`;
  return framed({ title: TITLE, style: STYLE, body, script: SCRIPT });
}

function headline({ stages, comparisons }: ReportSummary): string {
  const accuracies = stages.map(
    ({ name, macro, accuracy: { low, high } }) =>
      [`${name} accuracy`, percent(macro.accuracy), `95 %: ${percent(low)} to ${percent(high)}`] as const,
  );
  const changes = comparisons.map(({ from, to, macro: { accuracy } }) => {
    const [value, low, high] = [accuracy.value, accuracy.low, accuracy.high].map((share) => signed(100 * share));
    return [`${from} → ${to}`, `${value} points`, `95 %: ${low} to ${high}`] as const;
  });
  const answers = stages.map(
    ({ name, users, micro }) => `${name} ${counted(micro.n, "sample")} of ${counted(users.size, "user")}`,
  );
  const told = `Accuracy is the mean over users of the share of clicks within 140 thousandths of the true point. Answered: ${answers.join(", ")}.`;
  return `${tiles([...accuracies, ...changes])}${stages.length > 0 ? `<p class="told">${escaped(told)}</p>` : ""}`;
}

const notes = ({ notes }: ReportSummary): string =>
  notes.length === 0
    ? ""
    : `<section class="notes" aria-label="notes"><h2>Missing or left out</h2><ul>${notes.map((note) => `<li>${escaped(note)}</li>`).join("")}</ul></section>`;

function curveCharts({ global, personal }: Curves): string {
  const withLoss = personal.filter(({ loss }) => loss.length > 0);
  return [
    ...(global && global.loss.length > 0 ? [lossChart(global), rateChart(global)] : []),
    ...(withLoss.length > 0 ? [personalLossChart(withLoss)] : []),
  ].join("\n");
}

function tables(summary: ReportSummary): string {
  if (summary.stages.length === 0) return "";
  const changes =
    summary.comparisons.length === 0
      ? ""
      : htmlTable(comparisonTable(summary), "Changes of the macro averages, with intervals and paired tests");
  const method = methodLines(summary).map((line) => `<li>${escaped(line)}</li>`);
  return `<section class="tables"><h2>Scores and changes</h2>
${htmlTable(stageTable(summary), "Scores of each stage; distances in thousandths of the screen's sides")}
${changes}
<details><summary>how these are counted</summary><ul>${method.join("")}</ul></details></section>`;
}

async function galleryPart({ stages, out }: PageOf, { worst, gains, total, gained }: Gallery): Promise<string> {
  const last = stages.at(-1)?.name ?? "";
  const users = [...new Set([...worst, ...gains].map(({ last }) => last.user))].sort((a, b) => a - b);
  const toggles = stages.map(({ name }) => `<label><input type="checkbox" id="show-${name}" checked> ${name}</label>`);
  const part = async (title: string, about: string, shown: Gallery["worst"]): Promise<string> =>
    shown.length === 0
      ? ""
      : `<h2 class="part">${escaped(title)}</h2><p class="told">${escaped(about)}</p><div class="gallery">${await cardsOf(shown, out)}</div>`;
  return `<div class="controls" role="group" aria-label="gallery">
${legend(stages.map(({ name }) => name))}
<fieldset><legend>clicks shown</legend>${toggles.join(" ")}</fieldset>
<label>user <select id="user"><option value="">all</option>${users.map((user) => `<option>${user}</option>`).join("")}</select></label>
<output id="found" aria-live="polite"></output></div>
${await part(`Worst cases of ${last}`, `The ${count(worst.length)} of ${counted(total, "sample")} that the last stage clicked farthest off, farthest first; answers without a point come before all. Cross: true point, dashed: what counts as a hit. Choose a screen to enlarge it; arrow keys go on.`, worst)}
${await part("Largest gains", `${count(gains.length)} of the ${counted(gained, "miss", "misses")} of ${stages[0]?.name ?? ""} that became hits of ${last}, the farthest way first.`, gains)}`;
}
