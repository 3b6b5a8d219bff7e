// The report as a user runs it, on output folders with known answers.
import assert from "node:assert/strict";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type OutOptions, writeBare, writeOut } from "../app/report/outFolder.ts";
import { readJson, runEntry, workingFolder } from "./entry.ts";

async function folderWith(options: OutOptions = {}): Promise<string> {
  const cwd = workingFolder();
  await writeOut(join(cwd, "out"), { users: [1, 2], limit: 6, ...options });
  return cwd;
}

const report = (cwd: string, ...flags: string[]) => runEntry("report", flags, cwd);

test("all stages: table, summary.json and a page, the same at every run", async () => {
  const cwd = await folderWith({ users: [1, 2, 10], limit: 12 });
  const { code, stdout, stderr } = await report(cwd);
  assert.equal(code, 0, stderr);
  assert.equal(stderr, "page in out/report.html, numbers in out/summary.json\n");
  assert.match(stdout, /│ macro average │ 36 │/);

  const summary = readJson(join(cwd, "out/summary.json"));
  assert.deepEqual(Object.keys(summary.stages), ["vanilla", "global", "personal"]);
  for (const [stage, dir] of [
    ["vanilla", "qwen3_vanilla"],
    ["global", "global_agent/test"],
  ] as const)
    for (const user of [1, 2, 10])
      assert.deepEqual(summary.stages[stage].users[user], readJson(join(cwd, "out", dir, `user_${user}/metrics.json`)));
  assert.deepEqual(summary.comparisons.map(({ from, to, macro }: { from: string; to: string; macro: { n: number } }) => [from, to, macro.n]), [["vanilla", "global", 36], ["vanilla", "personal", 36], ["global", "personal", 36]]); // biome-ignore format: one line
  for (const { macro } of summary.comparisons) {
    assert.ok(Math.abs(macro.accuracy_change - (macro.accuracy_after - macro.accuracy_before)) < 1e-12);
    assert.ok(
      macro.accuracy_interval[0] <= macro.accuracy_change && macro.accuracy_change <= macro.accuracy_interval[1],
    );
  }
  assert.deepEqual(summary.notes, []);

  const page = readFileSync(join(cwd, "out/report.html"), "utf8");
  assert.equal(page.match(/<article /g)?.length, 24 + 8);
  assert.equal(page.match(/href="data:image\/jpeg;base64,/g)?.length, 32);
  assert.doesNotMatch(page.replaceAll(/data:[^"]+/g, ""), /https?:|src=|@import|url\(/);
  for (const title of ["Accuracy per user", "Distance from the true point", "Loss of global training", "Learning rate of global training", "Loss of personal training"]) // biome-ignore format: one line
    assert.ok(page.includes(`>${title}</h2>`), title);
  assert.ok(statSync(join(cwd, "out/report.html")).size < 2e6);

  const again = await report(cwd, "--quiet");
  assert.deepEqual([again.code, again.stdout, again.stderr], [0, stdout, ""]);
  assert.equal(readFileSync(join(cwd, "out/report.html"), "utf8"), page);
  assert.deepEqual(readJson(join(cwd, "out/summary.json")), summary);
  assert.notEqual((await report(cwd, "--seed", "7")).stdout, stdout, "another seed draws other intervals");
});

test("--gallery N: so many screens and a third as many gains; none with 0", async () => {
  const cwd = await folderWith();
  const articles = () => readFileSync(join(cwd, "out/report.html"), "utf8").match(/<article /g)?.length ?? 0;
  await report(cwd, "--gallery", "3");
  assert.equal(articles(), 4);
  await report(cwd, "--gallery", "0");
  assert.equal(articles(), 0);
});

test("a stage that is missing is told with the command that makes it; an unfinished user is left out", async () => {
  const cwd = await folderWith({ stages: ["vanilla"] });
  rmSync(join(cwd, "out/qwen3_vanilla/user_2/results.txt"));
  const { code, stdout, stderr } = await report(cwd);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /note: out\/qwen3_vanilla\/user_2: left out: not finished \(6 answers so far\)/);
  assert.match(
    stdout,
    /note: global: no finished user in out\/global_agent\/test; `npx tsx src\/finetuneGlobal\.ts 0 --lora` makes it/,
  );
  assert.match(stdout, /note: personal: no finished user in out\/personal; /);
  assert.deepEqual(Object.keys(readJson(join(cwd, "out/summary.json")).stages.vanilla.users), ["1"]);
});

test("training curves alone make a page; nothing at all is refused", async () => {
  const cwd = await folderWith({ stages: ["global"] });
  rmSync(join(cwd, "out/global_agent/test"), { recursive: true });
  const { code, stderr } = await report(cwd);
  assert.equal(code, 0, stderr);
  assert.match(readFileSync(join(cwd, "out/report.html"), "utf8"), /Loss of global training/);

  const empty = workingFolder();
  const missing = await report(empty);
  assert.deepEqual(
    [missing.code, missing.stderr],
    [2, "out: not found; name the folder that evaluations wrote with --out\n"],
  );
  mkdirSync(join(empty, "out"));
  const nothing = await report(empty);
  assert.equal(nothing.code, 2);
  assert.match(
    nothing.stderr,
    /^out: no finished evaluation and no training curve; these make them:\n {2}out\/qwen3_vanilla: `npx tsx src\/vanillaEval\.ts/,
  );
  assert.equal(existsSync(join(empty, "out/report.html")), false);
});

test("a person counts when all folds are there, each sample held out once", async () => {
  const cwd = await folderWith();
  const person = join(cwd, "out/personal/user_2");
  renameSync(join(cwd, "out/personal/user_2_summary.json"), join(cwd, "kept.json"));
  const unfinished = await report(cwd);
  assert.match(
    unfinished.stdout,
    /note: out\/personal\/user_2: left out: there is no user_2_summary\.json, so not every fold is done/,
  );
  renameSync(join(cwd, "kept.json"), join(person, "user_2_summary.json")); // either place will do

  assert.doesNotMatch((await report(cwd)).stdout, /note:/);
  renameSync(join(person, "fold_2"), join(person, "fold_5"));
  assert.doesNotMatch((await report(cwd)).stdout, /note:/, "folds may have any numbers");
  rmSync(join(person, "fold_5"), { recursive: true });
  const cut = await report(cwd);
  assert.deepEqual([cut.code, cut.stderr], [2, "out/personal/user_2: holds 2 folds, its summary tells of 3; remove the folds of the older run, or run finetunePerson again\n"]); // biome-ignore format: one line
});

test("a sample that two folds hold out is refused", async () => {
  const cwd = await folderWith();
  const folds = join(cwd, "out/personal/user_1");
  for (const name of ["out.json", "samples.json", "results.txt"])
    writeFileSync(join(folds, "fold_1", name), readFileSync(join(folds, "fold_0", name)));
  const { code, stderr } = await report(cwd);
  assert.equal(code, 2);
  assert.match(
    stderr,
    /^out\/personal\/user_1: sample user_1\.csv:2 is held out in two folds; they are of different runs: run finetunePerson again\n$/,
  );
});

const DAMAGE: readonly (readonly [file: string, damage: (path: string) => void, told: RegExp])[] = [
  ["qwen3_vanilla/user_1/out.json", (path) => writeFileSync(path, readFileSync(path, "utf8").slice(0, 200)), /out\.json: not a list of answers/],
  ["qwen3_vanilla/user_1/out.json", (path) => writeFileSync(path, '[{"pred_raw": 1}]'), /out\.json: not a list of answers \(row 0\.pred_raw/],
  ["qwen3_vanilla/user_1/results.txt", (path) => writeFileSync(path, "0.5"), /results\.txt: holds no accuracy/],
  ["qwen3_vanilla/user_1/samples.json", (path) => writeFileSync(path, "[]"), /samples\.json: tells of 0 samples, out\.json answers 6/],
  ["qwen3_vanilla/user_1/samples.json", (path) => writeFileSync(path, readFileSync(path, "utf8").replace("screens/", "../../secret/")), /samples\.json: not a list of samples \(row 0\.screen\.file/],
  ["global_agent/trainer_state.json", (path) => appendFileSync(path, "}"), /trainer_state\.json: cannot be read as JSON/],
  ["personal/user_1_summary.json", (path) => writeFileSync(path, '{"n_folds": "3"}'), /n_folds is "3"; expected the number of folds/],
]; // biome-ignore format: one line each

test("damaged files are one clear message each, and leave no page", async () => {
  const cwd = await folderWith();
  for (const [name, damage, told] of DAMAGE) {
    const path = join(cwd, "out", name);
    const whole = readFileSync(path);
    damage(path);
    const { code, stderr } = await report(cwd);
    assert.equal(code, 2, `${name}: ${stderr}`);
    assert.match(stderr, told);
    assert.equal(stderr.trimEnd().split("\n").length, 1, stderr);
    writeFileSync(path, whole);
  }
  assert.equal(existsSync(join(cwd, "out/report.html")), false);
  assert.equal((await report(cwd)).code, 0);
});

test("folders of another program, answers alone: matched by their truths; scores that disagree are told", async () => {
  const cwd = workingFolder();
  const answers = (off: number) =>
    [100, 300, 500].map((x) => ({ pred_raw: "", gt_coord: [x, 10] as [number, number], pred_coord: [x + off, 10] as [number, number], gt_content: "icon", pred_content: "None" })); // biome-ignore format: one line
  writeBare(join(cwd, "out/qwen3_vanilla/user_1"), answers(200), 0);
  writeBare(join(cwd, "out/global_agent/test/user_1"), answers(0).toReversed(), 0.9);
  const { code, stdout, stderr } = await report(cwd);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /│ vanilla -> global │ 3 │ +\+100\.0 \[\+100\.0, \+100\.0\] │ -200\.0/);
  assert.match(
    stdout,
    /note: out\/global_agent\/test\/user_1\/results\.txt: says accuracy 0\.9, the answers beside it come to 1; the report counts the answers/,
  );
  assert.match(readFileSync(join(cwd, "out/report.html"), "utf8"), /no picture kept/);
});

test("words of data and answers stay text", async () => {
  const cwd = await folderWith({ stages: ["vanilla"], limit: 2 });
  const dir = join(cwd, "out/qwen3_vanilla/user_1");
  const evil = `</pre><script>document.title="x"</script><img src=x onerror=alert(1)>"'`;
  for (const [name, field] of [["out.json", "pred_raw"], ["out.json", "gt_content"], ["samples.json", "command"]] as const) {
    const rows: Record<string, unknown>[] = readJson(join(dir, name));
    writeFileSync(join(dir, name), JSON.stringify(rows.map((row) => ({ ...row, [field]: evil }))));
  } // biome-ignore format: one line
  assert.equal((await report(cwd)).code, 0);
  const page = readFileSync(join(cwd, "out/report.html"), "utf8");
  assert.equal(page.match(/<script>/g)?.length, 1);
  assert.equal(page.match(/<img/g), null);
  assert.ok(page.includes("&lt;/pre&gt;&lt;script&gt;document.title=&quot;x&quot;&lt;/script&gt;"));
});

test("a wrong flag", async () => {
  const { code, stderr } = await report(workingFolder(), "--galery", "3", "out");
  assert.deepEqual(
    [code, stderr],
    [
      2,
      'report: --galery: unknown flag; did you mean --gallery?\nreport: "out": belongs to no flag; --out names the folder\n',
    ],
  );
});
