/** How far clicks are off: for each distance, the share of answers that are at least as near. */
import { HIT_DISTANCE } from "../../../eval/grounding.ts";
import { count } from "../../../utils/count.ts";
import type { Stage } from "../stages.ts";
import { percent } from "../table.ts";
import { at, chart, htmlTable, linear, mark, WIDTH, xAxis, yAxis } from "./svg.ts";

const [LEFT, RIGHT, TOP, FOOT] = [46, WIDTH - 8, 14, 212];
const FARTHEST = 1420; // a screen's diagonal is 1414
const STEP = 5;
const TOLD = [10, 20, 50, 100, HIT_DISTANCE, 200, 300, 500, 1000];

export function distanceChart(stages: readonly Stage[]): string {
  const shares = stages.map(({ name, users }) => ({ name, near: nearer([...users.values()].flat()) }));
  const [x, y] = [linear([0, FARTHEST], [LEFT, RIGHT]), linear([0, 1], [FOOT, TOP])];
  const distances = Array.from({ length: FARTHEST / STEP + 1 }, (_, i) => i * STEP);
  const lines = shares.map(({ name, near }) => {
    const path = distances.map((distance, i) => `${i === 0 ? "M" : "L"}${at(x(distance))} ${at(y(near(distance)))}`);
    const hit = mark(
      name,
      x(HIT_DISTANCE),
      y(near(HIT_DISTANCE)),
      5,
      `${name}: ${percent(near(HIT_DISTANCE))} are hits`,
    );
    return `<path class="stageline ${name}" d="${path.join("")}"/>${hit}`;
  });
  const limit = `<path class="limit" d="M${at(x(HIT_DISTANCE))} ${TOP}V${FOOT}"/><text x="${at(x(HIT_DISTANCE) + 5)}" y="${FOOT - 6}">hit up to ${HIT_DISTANCE}</text>`;
  const text = (value: number): string => percent(value, 0);
  const hits = shares.map(({ name, near }) => `${name} ${percent(near(HIT_DISTANCE))}`).join(", ");
  return chart({
    title: "Distance from the true point",
    about: `Share of answers by largest distance; hits: ${hits}`,
    caption: `Share of all answers (each click the same, users pooled) whose distance is at most the value below, in thousandths of the screen's sides; answers without a point never count. n: ${stages.map(({ name, users }) => `${name} ${count([...users.values()].flat().length)}`).join(", ")}.`,
    height: FOOT + 34,
    inside: `${yAxis({ scale: y, values: [0, 0.25, 0.5, 0.75, 1], text }, [LEFT, RIGHT])}${xAxis({ scale: x, values: [0, 250, 500, 750, 1000, 1250], text: count }, [TOP, FOOT])}${limit}${lines.join("\n")}<text x="${at((LEFT + RIGHT) / 2)}" y="${FOOT + 30}" text-anchor="middle">distance, thousandths of the sides</text>`,
    table: htmlTable(
      {
        columns: [
          { name: "distance up to", align: "right" },
          ...shares.map(({ name }) => ({ name, align: "right" as const })),
        ],
        rows: TOLD.map((distance) => [String(distance), ...shares.map(({ near }) => percent(near(distance)))]),
      },
      "Share of answers by distance",
    ),
  });
}

/** Share of the cases that are no farther than a distance. */
function nearer(cases: readonly { readonly distance: number | null }[]): (distance: number) => number {
  const sorted = cases.flatMap(({ distance }) => (distance === null ? [] : [distance])).sort((a, b) => a - b);
  return (limit) => {
    const beyond = sorted.findIndex((distance) => distance > limit);
    return (beyond === -1 ? sorted.length : beyond) / cases.length;
  };
}
