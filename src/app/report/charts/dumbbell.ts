/** Accuracy per user: one row each, one sign for each stage, a bar from the first to the last. */
import type { ReportSummary, StageScores } from "../summary.ts";
import { percent, userTable } from "../table.ts";
import { at, chart, htmlTable, linear, mark, WIDTH, xAxis } from "./svg.ts";

const [LEFT, RIGHT, TOP, ROW] = [68, WIDTH - 54, 8, 24];

export function dumbbellChart(summary: ReportSummary): string {
  const { stages } = summary;
  const users = [...new Set(stages.flatMap((stage) => [...stage.users.keys()]))].sort((a, b) => a - b);
  const foot = TOP + (users.length + 1.4) * ROW;
  const scale = linear([0, 100], [LEFT, RIGHT]);
  const rows = users.map((user, i) =>
    row(
      `user ${user}`,
      TOP + (i + 0.5) * ROW,
      stages.map((stage) => ({ stage, accuracy: stage.users.get(user)?.accuracy })),
    ),
  );
  const y = TOP + (users.length + 0.9) * ROW;
  const macro = `<path class="rule" d="M0 ${at(y - 0.65 * ROW)}H${WIDTH}"/><g class="macro">${row(
    "average",
    y,
    stages.map((stage) => ({ stage, accuracy: stage.macro.accuracy, interval: stage.accuracy })),
  )}</g>`;
  const names = stages.map(({ name }) => name).join(", ");
  const text = (value: number): string => `${value} %`;
  return chart({
    title: "Accuracy per user",
    about: `Click accuracy of ${users.length} users at the stages ${names}; averages ${stages.map(({ name, macro }) => `${name} ${percent(macro.accuracy)}`).join(", ")}`,
    caption: `Share of clicks within 140 thousandths of the true point, in %; on the right the change in points. Average: macro, over users; its bars are 95 % bootstrap intervals. n = ${Math.max(...stages.map(({ micro }) => micro.n))} samples of ${users.length} users.`,
    height: foot + 22,
    inside: `${xAxis({ scale, values: [0, 25, 50, 75, 100], text }, [TOP, foot])}${rows.join("\n")}${macro}`,
    table: htmlTable(userTable(summary), "Accuracy per user and stage"),
  });
}

interface Point {
  readonly stage: StageScores;
  readonly accuracy: number | undefined;
  readonly interval?: { readonly low: number; readonly high: number };
}

function row(name: string, y: number, points: readonly Point[]): string {
  const x = linear([0, 1], [LEFT, RIGHT]);
  const known = points.flatMap(({ stage, accuracy, interval }) =>
    accuracy === undefined ? [] : [{ stage: stage.name, accuracy, interval }],
  );
  const values = known.map(({ accuracy }) => accuracy);
  const [first = 0, last = 0] = [values[0], values.at(-1)];
  const bar = `<path class="bar" d="M${at(x(Math.min(...values)))} ${at(y)}H${at(x(Math.max(...values)))}"/>`;
  const whiskers = known.map(({ stage, interval }) =>
    interval ? `<path class="whisker ${stage}" d="M${at(x(interval.low))} ${at(y)}H${at(x(interval.high))}"/>` : "",
  );
  const signs = known.map(({ stage, accuracy }) =>
    mark(stage, x(accuracy), y, 5.5, `${name}, ${stage}: ${percent(accuracy)}`),
  );
  const change = 100 * (last - first);
  const told =
    known.length > 1
      ? `<text class="${change < 0 ? "worse" : "better"}" x="${WIDTH - 2}" y="${at(y + 4)}" text-anchor="end">${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(1)}</text>`
      : "";
  return `<text x="${LEFT - 12}" y="${at(y + 4)}" text-anchor="end">${name}</text>${bar}${whiskers.join("")}${signs.join("")}${told}`;
}
