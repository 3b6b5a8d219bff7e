// The recipes of runs/: rows of runs that are killed, by every means, and go on as if nothing had happened.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { DATA, type Ended, filesIn, MODEL, workingFolder } from "../entries/entry.ts";

const STEPS = 40;
const FLAGS = [
  ...["cpu", "--lora", "--model", MODEL, "--data", DATA, "--no-eval", "--max-steps", String(STEPS), "--quiet"],
  ...["--accumulation", "4", "--warmup-steps", "5", "--lr", "1e-3", "--save-steps", "5"],
];
const ONE_SHOT = ["--", ...FLAGS];

interface Recipe {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

/** In a process group of its own, so that one signal can reach all of it. */
function start(recipe: string, words: readonly string[], cwd: string): Recipe {
  const child = spawn("sh", [resolve("runs", `${recipe}.sh`), ...words], {
    cwd,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const)
    child[stream].setEncoding("utf8").on("data", (text: string) => {
      said[stream] += text;
    });
  const ended = new Promise<Ended>((done, fail) => {
    child.on("error", fail);
    child.on("close", (code, signal) => done({ code, signal, ...said }));
  });
  return { child, ended };
}

const run = (recipe: string, words: readonly string[], cwd: string): Promise<Ended> => start(recipe, words, cwd).ended;

/** Resolves when a checkpoint lies in the folder of a run. */
async function checkpointIn(dir: string, { ended }: Recipe): Promise<void> {
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  const isThere = (): boolean => existsSync(dir) && readdirSync(dir).some((name) => /^checkpoint-\d+$/.test(name));
  while (!isThere()) {
    if (isOver) assert.fail(`it ended without a checkpoint: ${(await ended).stderr}`);
    await new Promise((go) => setTimeout(go, 10));
  }
}

const adapterOf = (cwd: string, name: string): Buffer =>
  readFileSync(join(cwd, "out/seeds", name, "checkpoint/adapter_model.safetensors"));

test("a row of seeds that crashes and is stopped goes on, redoes nothing, and ends with the same bytes", async () => {
  const [whole, broken] = [workingFolder(), workingFolder()];
  const words = ["1", "2", ...ONE_SHOT];
  const straight = await run("seeds", words, whole);
  assert.equal(straight.code, 0, straight.stderr);
  assert.match(straight.stderr, /^runs\/seeds\.sh: seed-1: starting\n(.*\n)*runs\/seeds\.sh: seed-2: starting$/m);

  const crashed = start("seeds", words, broken);
  await checkpointIn(join(broken, "out/seeds/seed-2/checkpoint"), crashed);
  process.kill(-(crashed.child.pid ?? assert.fail("no process")), "SIGKILL");
  assert.equal((await crashed.ended).signal, "SIGKILL");
  assert.equal(existsSync(join(broken, "out/seeds/seed-2/finished")), false, "killed before its end");
  const first = statSync(join(broken, "out/seeds/seed-1/checkpoint/adapter_model.safetensors")).mtimeMs;

  const again = await run("seeds", words, broken);
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stderr, /^runs\/seeds\.sh: seed-1: finished before\nruns\/seeds\.sh: seed-2: going on$/m);
  assert.equal(statSync(join(broken, "out/seeds/seed-1/checkpoint/adapter_model.safetensors")).mtimeMs, first);
  for (const name of ["seed-1", "seed-2"]) assert.deepEqual(adapterOf(broken, name), adapterOf(whole, name), name);
  assert.notDeepEqual(adapterOf(whole, "seed-1"), adapterOf(whole, "seed-2"));

  const files = filesIn(broken);
  const third = await run("seeds", words, broken);
  assert.equal(third.code, 0);
  assert.equal(third.stderr, "runs/seeds.sh: seed-1: finished before\nruns/seeds.sh: seed-2: finished before\n");
  assert.equal(third.stdout, "no scores in out/seeds\n");
  assert.deepEqual(filesIn(broken), files);
});

for (const signal of ["SIGTERM", "SIGINT"] as const)
  test(`${signal} to the recipe alone reaches the training, which saves; then the row goes on`, async () => {
    const cwd = workingFolder();
    const words = ["1", "2", ...ONE_SHOT];
    const stopped = start("seeds", words, cwd);
    await checkpointIn(join(cwd, "out/seeds/seed-1/checkpoint"), stopped);
    stopped.child.kill(signal);
    const { code, stderr } = await stopped.ended;
    assert.equal(code, 130, stderr);
    assert.match(stderr, /^stopped after step \d+, saved in /m);
    assert.match(stderr, /^runs\/seeds\.sh: seed-1: stopped; the same command goes on from there\n$/m);
    assert.equal(existsSync(join(cwd, "out/seeds/seed-2")), false, "no further run was begun");

    const again = await run("seeds", words, cwd);
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stderr, /seed-1: going on\n(.*\n)*runs\/seeds\.sh: seed-2: starting$/m);
  });

test("a row whose script alone was killed is not begun twice", async () => {
  const cwd = workingFolder();
  const words = ["1", ...ONE_SHOT];
  const orphaned = start("seeds", words, cwd);
  await checkpointIn(join(cwd, "out/seeds/seed-1/checkpoint"), orphaned);
  process.kill(orphaned.child.pid ?? assert.fail("no process"), "SIGKILL");
  const second = await run("seeds", words, cwd);
  assert.equal(second.code, 2, second.stderr);
  assert.match(second.stderr, /out\/seeds\/seed-1: process \d+ still trains there; wait for it or end it\n$/);
  await orphaned.ended; // when the training, which holds its output, has ended
});

test("a folder belongs to one command, and a mistake leaves none behind", async () => {
  const cwd = workingFolder();
  const wrong = await run("ranks", ["2", "--", ...FLAGS], cwd); // --lora is the recipe's own
  assert.equal(wrong.code, 2);
  assert.match(
    wrong.stderr,
    /--lora: given 2 times; give it once\n(.*\n)*runs\/ranks\.sh: rank-2: refused, see above\n$/,
  );
  assert.deepEqual(filesIn(cwd), []);
  const words = FLAGS.filter((word) => word !== "--lora").map((word) => (word === String(STEPS) ? "1" : word));
  const right = await run("ranks", ["2", "3", "--", ...words], cwd);
  assert.equal(right.code, 0, right.stderr);
  const settings = readFileSync(join(cwd, "out/ranks/rank-3/checkpoint/settings.toml"), "utf8");
  assert.match(settings, /^lora-r = 3 {2}# flag\nlora-alpha = 24 {2}# flag$/m);
  const other = await run("ranks", ["2", "--", ...words, "--seed", "3"], cwd);
  assert.equal(other.code, 2);
  assert.match(
    other.stderr,
    /^runs\/ranks\.sh: out\/ranks\/rank-2 was made by another command .*; name another folder with --to, or remove it\n$/,
  );
});

test("a run that fails otherwise is told at the end, and the others are done", async () => {
  const cwd = workingFolder();
  const words = FLAGS.map((word) => (word === String(STEPS) ? "1" : word));
  const row = start("seeds", ["1", "2", "--", ...words], cwd);
  const mark = join(cwd, "out/seeds/seed-1/process");
  while (!existsSync(mark) || readFileSync(mark, "utf8") === "") await new Promise((go) => setTimeout(go, 5));
  process.kill(Number(readFileSync(mark, "utf8")), "SIGKILL"); // as the system does when memory runs out
  const { code, stderr } = await row.ended;
  assert.equal(code, 1, stderr);
  assert.match(stderr, /seed-1: ended with code 137; the others go on\nruns\/seeds\.sh: seed-2: starting\n/);
  assert.match(stderr, /runs\/seeds\.sh: not finished: seed-1; the same command tries them again\n$/);
  assert.ok(existsSync(join(cwd, "out/seeds/seed-2/finished")));
});

test("users: one, or a range of them", async () => {
  const cwd = workingFolder();
  const words = ["cpu", "--lora", "--preset", "debug", "--no-eval", "--quiet", "--max-steps", "1"];
  const { code, stderr } = await run("users", ["11", "12-14", "--", ...words], cwd);
  assert.equal(code, 0, stderr);
  const usersOf = (name: string): string | undefined =>
    /^train-users = (.*?) {2}#/m.exec(
      readFileSync(join(cwd, "out/users", name, "checkpoint/settings.toml"), "utf8"),
    )?.[1];
  assert.deepEqual([usersOf("users-11"), usersOf("users-12-14")], ["[ 11 ]", "[ 12, 13, 14 ]"]);
});

test("usage and mistakes in the recipes' own words", async () => {
  const cwd = workingFolder();
  for (const recipe of ["seeds", "ranks", "users"]) {
    const help = await run(recipe, ["--help"], cwd);
    assert.equal(help.code, 0);
    assert.match(help.stdout, new RegExp(`^Usage: runs/${recipe}\\.sh \\[--to DIR\\] `));
    assert.match(help.stdout, /\nExamples\n {2}runs\//);
    const bare = await run(recipe, [], cwd);
    assert.deepEqual([bare.code, bare.stdout, bare.stderr], [2, "", help.stdout]);
    const unknown = await run(recipe, ["1", "--lora"], cwd);
    assert.deepEqual(
      [unknown.code, unknown.stderr],
      [2, `runs/${recipe}.sh: --lora: not known here; the training's own words stand after --\n`],
    );
    const noFolder = await run(recipe, ["1", "--to"], cwd);
    assert.deepEqual([noFolder.code, noFolder.stderr], [2, `runs/${recipe}.sh: --to needs a folder\n`]);
  }
  const wrong: [string, string, string][] = [
    ["seeds", "1.5", 'expected seeds, whole numbers, got "1.5"'],
    ["ranks", "0", 'expected ranks, whole numbers of at least 1, got "0"'],
    ["users", "1-2-3", 'expected users, as 11, or ranges of them, as 11-20, got "1-2-3"'],
    ["users", "-3", "-3: not known here; the training's own words stand after --"],
  ];
  for (const [recipe, word, fault] of wrong)
    assert.equal((await run(recipe, [word], cwd)).stderr, `runs/${recipe}.sh: ${fault}\n`);
  assert.deepEqual(filesIn(cwd), []);
});

test("the table: mean and sample deviation of the finished runs, in the order of their numbers", async () => {
  const cwd = workingFolder();
  const put = (name: string, accuracy: number, isFinished: boolean): void => {
    const dir = join(cwd, "out/seeds", name);
    mkdirSync(join(dir, "out/global_agent/test"), { recursive: true });
    const macro = { accuracy, mean_l2: 100 * accuracy, median_l2: 7 };
    writeFileSync(join(dir, "out/global_agent/test/summary.json"), JSON.stringify({ macro }));
    writeFileSync(join(dir, "words"), "--seed\n");
    if (isFinished) writeFileSync(join(dir, "finished"), "");
  };
  put("seed-10", 0.3, true);
  put("seed-9", 0.1, true);
  put("seed-8", 0.9, false);
  const child = spawn(process.execPath, [resolve("runs/results.mjs"), "out/seeds"], { cwd });
  let table = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    table += text;
  });
  await new Promise((done) => child.on("close", done));
  // mean of 10 and 30: 20; deviation with n - 1: sqrt(2 x 10^2) = 14.142
  assert.deepEqual(
    table
      .trimEnd()
      .split("\n")
      .map((line) => line.split(/ {2,}/)),
    [
      ["run", "accuracy", "mean L2", "median L2"],
      ["seed-9", "10.00 %", "10.0", "7.0"],
      ["seed-10", "30.00 %", "30.0", "7.0"],
      ["mean", "20.00 %", "20.0", "7.0"],
      ["deviation", "14.14 %", "14.1", "0.0"],
    ],
  );
});
