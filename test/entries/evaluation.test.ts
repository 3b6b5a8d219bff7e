import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { contentsOf, filesIn, readJson, runEntry, workingFolder } from "./entry.ts";

const DIR = "out/qwen3_vanilla";
const flagsFor = (limit: number): string[] => [
  ...["cpu", "--u", "1", "3", "--limit", String(limit), "--max-new-tokens", "8", "--quiet"],
];

test("the embedded model answers the embedded users: files, table, and a second run that replaces the first", async () => {
  const cwd = workingFolder();
  const { code, stdout, stderr } = await runEntry("vanillaEval", flagsFor(3), cwd);
  assert.equal(code, 0, stderr);
  assert.equal(stderr, "", "--quiet leaves only the table, and that on stdout");
  const expected = [1, 2, 3].flatMap((user) =>
    ["evaluation.json", "metrics.json", "out.json", "results.txt", "samples.json"].map(
      (name) => `${DIR}/user_${user}/${name}`,
    ),
  );
  assert.deepEqual(answerFiles(cwd), [`${DIR}/settings.toml`, `${DIR}/summary.json`, ...expected]);

  const summary = readJson(join(cwd, DIR, "summary.json"));
  for (const user of [1, 2, 3]) assertUser(join(cwd, DIR, `user_${user}`), summary.users[user]);
  assert.deepEqual([summary.macro.n, summary.micro.n], [9, 9]);
  assertTable(stdout, summary);

  const again = await runEntry("vanillaEval", flagsFor(2), cwd);
  assert.deepEqual([again.code, again.stderr], [0, ""]);
  assert.deepEqual(answerFiles(cwd), [`${DIR}/settings.toml`, `${DIR}/summary.json`, ...expected]);
  assert.equal(readJson(join(cwd, DIR, "summary.json")).micro.n, 6);
  for (const user of [1, 2, 3]) assert.equal(readJson(join(cwd, DIR, `user_${user}/out.json`)).length, 2);

  const fresh = workingFolder();
  assert.equal((await runEntry("vanillaEval", flagsFor(2), fresh)).code, 0);
  assert.deepEqual(contentsOf(join(cwd, DIR)), contentsOf(join(fresh, DIR)));
  const screens = contentsOf(join(cwd, "out/screens")); // of both runs: 9 samples, of which the second has 6
  for (const [file, bytes] of Object.entries(contentsOf(join(fresh, "out/screens"))))
    assert.equal(bytes, screens[file]);
});

/** Every file but the small screens, one at least of which must be there. */
function answerFiles(cwd: string): string[] {
  const files = filesIn(cwd);
  assert.ok(files.some((file) => /^out\/screens\/[0-9a-f]{20}\.jpg$/.test(file)));
  return files.filter((file) => !file.startsWith("out/screens/"));
}

interface Metrics {
  readonly accuracy: number;
  readonly mean_l2: number;
  readonly median_l2: number;
  readonly n: number;
  readonly failures: number;
}

type Coordinates = readonly [number, number];

/** A user's three files say the same, and the distances are those of the coordinates in out.json. */
function assertUser(dir: string, inSummary: Metrics): void {
  const rows: { gt_coord: Coordinates; pred_coord: Coordinates; pred_raw: string }[] = readJson(join(dir, "out.json"));
  const metrics: Metrics = readJson(join(dir, "metrics.json"));
  assert.deepEqual(metrics, inSummary);
  assert.deepEqual([rows.length, metrics.n, metrics.failures], [3, 3, 0]);
  for (const row of rows)
    assert.deepEqual(Object.keys(row), ["pred_raw", "gt_coord", "pred_coord", "gt_content", "pred_content"]);
  const distances = rows.map(({ gt_coord: [x, y], pred_coord: [a, b] }) => Math.sqrt((x - a) ** 2 + (y - b) ** 2));
  const sum = distances.reduce((total, distance) => total + distance, 0);
  assert.ok(Math.abs(metrics.mean_l2 - sum / 3) < 1e-9, `${metrics.mean_l2} is not the mean of ${distances}`);
  assert.equal(metrics.median_l2, distances.sort((a, b) => a - b)[1]);
  const [accuracy, mean, median] = readFileSync(join(dir, "results.txt"), "utf8").match(/\d+(\.\d+)?(?=[,}])/g) ?? [];
  assert.deepEqual([accuracy, mean, median].map(Number), [metrics.accuracy, metrics.mean_l2, metrics.median_l2]);
}

/** One row a user, then the averages: the numbers of summary.json. */
function assertTable(table: string, summary: { users: Record<string, Metrics>; macro: Metrics; micro: Metrics }): void {
  const rows = table
    .split("\n")
    .filter((line) => line.startsWith("│"))
    .map((line) => line.split("│").slice(1, -1).map((cell) => cell.trim())); // biome-ignore format: one line
  const row = (name: string, { n, accuracy, mean_l2, median_l2 }: Metrics): string[] => [
    ...[name, String(n), `${(100 * accuracy).toFixed(2)} %`, mean_l2.toFixed(1), median_l2.toFixed(1)],
  ];
  assert.deepEqual(rows, [
    ["user", "n", "accuracy", "mean L2", "median L2"],
    ...Object.entries(summary.users).map(([user, metrics]) => row(user, metrics)),
    row("macro average", summary.macro),
    row("all answers", summary.micro),
  ]);
}

test("--help shows the flags and examples that can be typed, and does nothing", async () => {
  for (const [name, flag] of [
    ["finetuneGlobal", "--lora-targets"],
    ["vanillaEval", "--max-new-tokens"],
  ] as const) {
    // biome-ignore format: one line
    const cwd = workingFolder();
    const { code, stdout, stderr } = await runEntry(name, ["--help"], cwd);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.ok(stdout.startsWith(`Usage: npx tsx src/${name}.ts [DEVICE] [flags]\n`), stdout);
    assert.ok(stdout.includes(`  ${flag} `));
    assert.match(stdout, new RegExp(`\\nExamples\\n( +npx tsx src/${name}\\.ts .*\\n){3,}$`));
    assert.deepEqual(filesIn(cwd), []);
  }
});
