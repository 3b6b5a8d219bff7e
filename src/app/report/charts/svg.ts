/** Charts as inline SVG: drawn 380 units wide, so that text stays readable on a phone. Colours are the page's. */

import type { Column } from "../../../utils/table.ts";
import { escaped } from "../../page/frame.ts";
import type { StageName } from "../stages.ts";

export const WIDTH = 380;

/** From values to units of the drawing. */
export type Scale = (value: number) => number;

export const linear =
  ([from, to]: readonly [number, number], [low, high]: readonly [number, number]): Scale =>
  (value) =>
    low + ((value - from) / (to - from || 1)) * (high - low);

/** Round numbers from `from` to `to`, about `most` of them, both ends inside. */
export function ticks(from: number, to: number, most = 5): number[] {
  const size = (to - from || 1) / most;
  const power = 10 ** Math.floor(Math.log10(size));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((width) => width >= size) ?? size;
  const first = Math.ceil(from / step - 1e-9);
  const count = Math.floor(to / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

let charts = 0;

/**
 * A chart with its title, a text for those who do not see it, and the same numbers as a table.
 * @param inside SVG markup, its texts escaped
 */
export function chart(of: {
  readonly title: string;
  readonly about: string;
  readonly caption: string;
  readonly height: number;
  readonly inside: string;
  readonly table: string;
}): string {
  const id = `chart${++charts}`;
  return `<section class="chart"><h2 id="${id}">${escaped(of.title)}</h2>
<figure><svg viewBox="0 0 ${WIDTH} ${of.height}" role="img" aria-labelledby="${id} ${id}t"><title id="${id}t">${escaped(of.about)}</title>
${of.inside}</svg>
<figcaption>${escaped(of.caption)}</figcaption></figure>
<details><summary>as a table</summary>${of.table}</details></section>`;
}

export interface TableOf {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly string[] | null)[];
}

/** @param caption read out before the table */
export function htmlTable({ columns, rows }: TableOf, caption: string): string {
  const side = (i: number): string => (columns[i]?.align === "right" ? ' class="number"' : "");
  const row = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (i === 0 ? `<th scope="row">${escaped(cell)}</th>` : `<td${side(i)}>${escaped(cell)}</td>`))
      .join("");
  const head = columns.map(({ name }, i) => `<th scope="col"${side(i)}>${escaped(name)}</th>`).join("");
  const groups: (readonly string[])[][] = [[]];
  for (const cells of rows) {
    if (cells === null) groups.push([]);
    else groups.at(-1)?.push(cells);
  }
  const bodies = groups.map((group) => `<tbody>${group.map((cells) => `<tr>${row(cells)}</tr>`).join("\n")}</tbody>`);
  return `<div class="scroll" tabindex="0" role="region" aria-label="${escaped(caption)}"><table><caption>${escaped(caption)}</caption><thead><tr>${head}</tr></thead>${bodies.join("")}</table></div>`;
}

/** The sign of a stage, centred on a point: shapes differ, not only colours. */
export function mark(stage: StageName, x: number, y: number, r: number, title = ""): string {
  const told = title === "" ? "" : `<title>${escaped(title)}</title>`;
  return `<g class="mark ${stage}">${SHAPES[stage](x, y, r)}${told}</g>`;
}

const SHAPES: Readonly<Record<StageName, (x: number, y: number, r: number) => string>> = {
  vanilla: (x, y, r) => `<circle cx="${at(x)}" cy="${at(y)}" r="${at(r * 0.9)}"/>`,
  global: (x, y, r) =>
    `<path d="M${at(x)} ${at(y - 1.2 * r)}L${at(x + 1.2 * r)} ${at(y)}L${at(x)} ${at(y + 1.2 * r)}L${at(x - 1.2 * r)} ${at(y)}Z"/>`,
  personal: (x, y, r) =>
    `<rect x="${at(x - 0.9 * r)}" y="${at(y - 0.9 * r)}" width="${at(1.8 * r)}" height="${at(1.8 * r)}" rx="1"/>`,
};

/** A coordinate with as many digits as can be seen. */
export const at = (value: number): string => String(Number(value.toFixed(2)));

export const legend = (stages: readonly StageName[]): string =>
  `<p class="legend">${stages
    .map((stage) => `<span><svg viewBox="0 0 16 16" aria-hidden="true">${mark(stage, 8, 8, 5.5)}</svg>${stage}</span>`)
    .join("")}</p>`;

export interface AxisOf {
  readonly scale: Scale;
  readonly values: readonly number[];
  readonly text: (value: number) => string;
}

/** Vertical grid lines with their values below. @param y from the top of the lines to their foot */
export const xAxis = ({ scale, values, text }: AxisOf, [top, foot]: readonly [number, number]): string =>
  values
    .map(
      (value) =>
        `<path class="grid" d="M${at(scale(value))} ${at(top)}V${at(foot)}"/><text x="${at(scale(value))}" y="${at(foot + 14)}" text-anchor="middle">${text(value)}</text>`,
    )
    .join("");

/** Horizontal grid lines with their values on the left. */
export const yAxis = ({ scale, values, text }: AxisOf, [left, right]: readonly [number, number]): string =>
  values
    .map(
      (value) =>
        `<path class="grid" d="M${at(left)} ${at(scale(value))}H${at(right)}"/><text x="${at(left - 6)}" y="${at(scale(value) + 4)}" text-anchor="end">${text(value)}</text>`,
    )
    .join("");
