// Scores of all runs of a folder, with mean and standard deviation: node runs/results.mjs DIR
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const SUMMARY = join("out", "global_agent", "test", "summary.json");
const COLUMNS = ["accuracy", "mean_l2", "median_l2"];

const [dir] = process.argv.slice(2);
if (dir === undefined || !existsSync(dir)) {
  console.error(`runs/results.mjs: expected the folder of a row of runs, got ${dir ?? "nothing"}`);
  process.exit(2);
}
const inOrder = new Intl.Collator("en", { numeric: true });
const runs = readdirSync(dir)
  .filter((name) => existsSync(join(dir, name, "finished")) && existsSync(join(dir, name, SUMMARY)))
  .sort(inOrder.compare)
  .map((name) => ({ name, ...JSON.parse(readFileSync(join(dir, name, SUMMARY), "utf8")).macro }));

const meanOf = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
/** Of a sample: n - 1. */
const deviationOf = (values) =>
  Math.sqrt(values.reduce((sum, value) => sum + (value - meanOf(values)) ** 2, 0) / (values.length - 1));
const shown = (column, value) => (column === "accuracy" ? `${(100 * value).toFixed(2)} %` : value.toFixed(1));
const rowOf = (name, value) => [name, ...COLUMNS.map((column) => shown(column, value(column)))];

const valuesOf = (column) => runs.map((run) => run[column]);
const rows = [
  ["run", "accuracy", "mean L2", "median L2"],
  ...runs.map((run) => rowOf(run.name, (column) => run[column])),
  ...(runs.length > 1 ? [rowOf("mean", (column) => meanOf(valuesOf(column)))] : []),
  ...(runs.length > 1 ? [rowOf("deviation", (column) => deviationOf(valuesOf(column)))] : []),
];
const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
if (runs.length === 0) console.log(`no scores in ${dir}`);
else
  for (const [first, ...rest] of rows)
    console.log([first.padEnd(widths[0]), ...rest.map((cell, i) => cell.padStart(widths[i + 1]))].join("  "));
