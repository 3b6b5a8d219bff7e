/** Curves over optimizer steps: losses and learning rates. */
import { count } from "../../../utils/count.ts";
import { shortNumber } from "../../../utils/progress.ts";
import type { Curve, RunCurves } from "../curves.ts";
import { at, chart, htmlTable, linear, type Scale, ticks, WIDTH, xAxis, yAxis } from "./svg.ts";

const [LEFT, RIGHT, TOP, FOOT] = [46, WIDTH - 8, 8, 198];
const SMOOTHED_OVER = 0.05; // of the steps
const BUCKETS = 360; // about what can be told apart

/** A line of the chart. */
interface Line {
  readonly curve: Curve;
  readonly style: string;
}

export function lossChart({ loss, validationLoss }: RunCurves): string {
  const width = Math.max(1, Math.round(SMOOTHED_OVER * loss.length));
  const lines = [
    { curve: loss, style: "faintline" },
    { curve: runningMean(loss, width), style: "mainline" },
    { curve: validationLoss, style: "validation" },
  ];
  const last = ([, value]: Curve[number]): string => shortNumber(value);
  const [first, end, validated] = [loss[0], runningMean(loss, width).at(-1), validationLoss.at(-1)];
  const told = validated ? `; validation loss at the end ${last(validated)}` : "";
  return lineChart({
    title: "Loss of global training",
    lines,
    about: `Training loss from ${first ? last(first) : "-"} to ${end ? last(end) : "-"} over ${count(loss.length)} optimizer steps${told}`,
    caption: `Nats per trained token, by optimizer step (${count(loss.length)}): each step faint, the mean of ${width} ${width === 1 ? "step" : "steps"} up to it bold${validationLoss.length > 0 ? ", validation as dots" : "; no validation loss was taken"}.`,
    values: [...named("loss", loss), ...named("validation loss", validationLoss)],
    dots: validationLoss,
  });
}

export const rateChart = ({ learningRate }: RunCurves): string =>
  lineChart({
    title: "Learning rate of global training",
    lines: [{ curve: learningRate, style: "mainline" }],
    about: `Learning rate over ${count(learningRate.length)} optimizer steps, at most ${shortNumber(learningRate.reduce((most, [, rate]) => Math.max(most, rate), 0))}`,
    caption: `Rate that each optimizer step used (${count(learningRate.length)} steps).`,
    values: named("learning rate", learningRate),
    dots: [],
  });

export function personalLossChart(runs: readonly RunCurves[]): string {
  const ends = runs.flatMap(({ name, loss }) => named(name, loss.slice(-1)));
  return lineChart({
    title: "Loss of personal training",
    lines: runs.map(({ loss }) => ({ curve: loss, style: "personline" })),
    about: `Training loss of ${runs.length} personal runs`,
    caption: `Nats per trained token, by optimizer step; one line for each of ${runs.length} folds.`,
    values: ends,
    dots: [],
  });
}

type Named = readonly [name: string, step: number, value: number];
const named = (name: string, curve: Curve): Named[] => curve.map(([step, value]) => [name, step, value]);

const ROWS_SHOWN = 40;

function lineChart(of: {
  readonly title: string;
  readonly about: string;
  readonly caption: string;
  readonly lines: readonly Line[];
  readonly values: readonly Named[];
  readonly dots: Curve;
}): string {
  const points = of.lines.flatMap(({ curve }) => curve);
  const steps = points.reduce((most, [step]) => Math.max(most, step), 1);
  const most = points.reduce((highest, [, value]) => Math.max(highest, value), 0) || 1;
  const [x, y] = [linear([0, steps], [LEFT, RIGHT]), linear([0, most * 1.04], [FOOT, TOP])];
  const paths = of.lines.map(({ curve, style }) => `<path class="${style}" d="${pathOf(curve, x, y)}"/>`);
  const dots = of.dots.map(([step, value]) => `<circle class="dot" cx="${at(x(step))}" cy="${at(y(value))}" r="3.5"/>`);
  const shown = evenly(of.values, ROWS_SHOWN);
  const columns = ["", "step", "value"].map((name, i) => ({ name, align: i === 0 ? "left" : "right" }) as const);
  const rows = shown.map(([name, step, value]) => [name, count(step), shortNumber(value)]);
  return chart({
    ...of,
    height: FOOT + 34,
    inside: `${yAxis({ scale: y, values: ticks(0, most * 1.04, 4), text: shortNumber }, [LEFT, RIGHT])}${xAxis({ scale: x, values: ticks(0, steps, 5), text: count }, [TOP, FOOT])}${paths.join("")}${dots.join("")}<text x="${at((LEFT + RIGHT) / 2)}" y="${FOOT + 30}" text-anchor="middle">optimizer step</text>`,
    table: htmlTable(
      { columns, rows },
      `${of.title}${shown.length < of.values.length ? `, ${shown.length} of ${of.values.length} values, evenly spread` : ""}`,
    ),
  });
}

function runningMean(curve: Curve, width: number): Curve {
  return curve.map(([step], i) => {
    const window = curve.slice(Math.max(0, i - width + 1), i + 1);
    return [step, window.reduce((sum, [, value]) => sum + value, 0) / window.length];
  });
}

/** A long curve is drawn as the lowest and the highest value of each of so many pieces: spikes stay. */
function pathOf(curve: Curve, x: Scale, y: Scale): string {
  const size = Math.max(1, Math.ceil(curve.length / BUCKETS));
  const points: (readonly [number, number])[] = [];
  for (let start = 0; start < curve.length; start += size) {
    const piece = [...curve.slice(start, start + size)].sort(([, a], [, b]) => a - b);
    const ends = piece.length > 2 ? piece.filter((_, i) => i === 0 || i === piece.length - 1) : piece;
    points.push(...ends.sort(([a], [b]) => a - b));
  }
  return points.map(([step, value], i) => `${i === 0 ? "M" : "L"}${at(x(step))} ${at(y(value))}`).join("");
}

function evenly<T>(items: readonly T[], most: number): readonly T[] {
  if (items.length <= most) return items;
  const places = new Set(Array.from({ length: most }, (_, i) => Math.round((i * (items.length - 1)) / (most - 1))));
  return items.filter((_, i) => places.has(i));
}
