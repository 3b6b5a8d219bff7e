// The preview as a user runs it: the contract of --json, counts, equal samples, what is shown, what is refused; never weights.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { DATA, FIXTURE, MODEL, readJson, runEntry, scratch, workingFolder } from "./entry.ts";

/** The tiny model without its weights. */
const PLAN = join(scratch, "plan");
cpSync(MODEL, PLAN, { recursive: true });
rmSync(join(PLAN, "model.safetensors"));

interface GoldenSample {
  readonly input_ids: readonly number[];
  readonly labels_official: readonly number[];
  readonly labels_pigg: readonly number[];
  readonly image_grid_thw: readonly (readonly number[])[] | null;
}
const { samples: GOLDEN } = readJson(join(FIXTURE, "golden.json")) as { samples: readonly GoldenSample[] };

const trainedIn = (sample: number): number =>
  GOLDEN[sample]?.labels_official.filter((label) => label !== -100).length ?? 0;

const preview = (cwd: string, ...args: readonly string[]) =>
  runEntry("preview", ["cpu", "--model", PLAN, ...args], cwd);

for (const mode of ["official", "pigg"] as const) {
  test(`--json --label-mode ${mode} without weights: ids, labels and grids of transformers, nothing else on stdout`, async () => {
    const { code, stdout } = await preview(workingFolder(), "--data", DATA, "--json", "--label-mode", mode);
    assert.equal(code, 0);
    assert.deepEqual(
      stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
      GOLDEN.map((sample, i) => ({
        id: `train.jsonl:${i + 1}`,
        user: null,
        input_ids: sample.input_ids,
        labels: sample[`labels_${mode}`],
        image_grid_thw: sample.image_grid_thw,
        length: sample.input_ids.length,
      })),
    );
  });
}

test("a reader that has seen enough ends it quietly", async () => {
  const command = [
    "--import",
    import.meta.resolve("tsx"),
    resolve("src/preview.ts"),
    "--model",
    PLAN,
    "--data",
    DATA,
    "--json",
    "--quiet",
  ];
  const child = spawn(process.execPath, command, { stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.destroy();
  const said: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (text: string) => said.push(text));
  const code = await new Promise((done) => child.on("close", done));
  assert.deepEqual([code, said], [0, []]);
});

/** Users with pictures of the fixture; the second row of user 11 is that of user 1 again. */
function userFolder(cwd: string): string {
  const dir = join(cwd, "users");
  cpSync(join(FIXTURE, "data/images"), join(dir, "images"), { recursive: true });
  const rows = (user: number, count: number): string[] =>
    Array.from(
      { length: count },
      (_, i) => `images/${i % 4}.png,press ${user}-${i},the <b>button</b>,${100 + i},200,${i}`,
    );
  const write = (user: number, lines: readonly string[]): void =>
    writeFileSync(join(dir, `user_${user}.csv`), ["image,command,referring,x,y,episode", ...lines, ""].join("\n"));
  const [first = ""] = rows(1, 1);
  write(1, rows(1, 2));
  write(11, [...rows(11, 3), first]);
  write(12, rows(12, 3));
  write(74, rows(74, 1));
  write(90, rows(90, 5));
  return dir;
}

test("counts by user and split, equal samples across splits, a forecast; users of no split are named too", async () => {
  const cwd = workingFolder();
  const flags = [
    "--lora",
    "--data",
    userFolder(cwd),
    "--accumulation",
    "2",
    "--epochs",
    "3",
    "--eval-steps",
    "5",
    "--gflops",
    "100",
  ];
  const { code, stdout } = await preview(cwd, ...flags);
  assert.equal(code, 0);
  const table = stdout
    .split("\n")
    .filter((line) => line.startsWith("│"))
    .map((line) => line.split("│").map((cell) => cell.trim()));
  assert.deepEqual(
    table.slice(1).map(([, split, users, samples, pictures]) => [split, users, samples, pictures]),
    [
      ["training", "2", "7", "7"],
      ["validation", "1", "1", "1"],
      ["test", "1", "2", "2"],
      ["unused", "1", "5", "5"],
    ],
  );
  assert.match(
    stdout,
    / {2}training users {4}11: 4 · 12: 3\n {2}validation users {2}74: 1\n {2}test users {8}1: 2\n {2}unused users {6}90: 5\n/,
  );
  assert.match(stdout, / {2}2 samples in 1 group, such as\n {4}user_11\.csv:5 = user_1\.csv:2\n/);
  assert.match(stdout, /in two splits\s+user_11\.csv:5 \(training\) and user_1\.csv:2 \(test\) are the same sample/);
  assert.match(stdout, / {2}steps {13}12 \(4 a pass over 7 rows, 3 passes\)/);
  assert.match(stdout, / {2}machine {11}stated: 100 GFLOP\/s/);
  assert.match(stdout, / {2}memory {12}about 0\.\d\d GB/);
});

test("its numbers are those of the run: trained tokens and steps", async () => {
  const cwd = workingFolder();
  const common = ["--lora", "--data", DATA, "--accumulation", "3", "--epochs", "2", "--packing", "--no-eval"];
  const { stdout } = await preview(cwd, ...common, "--gflops", "100");
  const run = await runEntry("finetuneGlobal", ["cpu", "--model", MODEL, ...common, "--quiet"], cwd);
  assert.equal(run.code, 0, run.stderr);
  const { log_history: steps } = readJson(join(cwd, "checkpoints/global_agent_lora/trainer_state.json"));
  const { rows } = readJson(join(cwd, "checkpoints/global_agent_lora/run_config.json"));
  const [, planned, plannedRows] = /steps +(\d+) \(\d+ a pass over (\d+) rows/.exec(stdout) ?? [];
  assert.deepEqual([Number(planned), Number(plannedRows)], [steps.length, rows]);
  const tokens = GOLDEN.reduce((sum, { input_ids }) => sum + input_ids.length, 0);
  assert.equal(steps.at(-1).num_tokens, 2 * tokens);
  const trained = GOLDEN.reduce((sum, _, i) => sum + trainedIn(i), 0);
  assert.match(stdout, new RegExp(`│ training .* │ +${tokens} │ +\\d+ │ +${trained} │`));
});

test("--show: so many, or these; trained text marked", async () => {
  const cwd = workingFolder();
  const flags = ["--data", DATA, "--gflops", "100"];
  const two = await preview(cwd, ...flags, "--show", "2");
  assert.deepEqual(
    [...two.stdout.matchAll(/^── (\S+)/gm)].map(([, id]) => id),
    ["train.jsonl:3", "train.jsonl:7"],
  );
  const one = await preview(cwd, ...flags, "--show", "train.jsonl:2");
  const [head, ...lines] = one.stdout.slice(one.stdout.indexOf("── ")).trimEnd().split("\n");
  assert.equal(head, `── train.jsonl:2 · training · 37 tokens, 10 image, ${trainedIn(1)} trained`);
  assert.match(
    lines.join("\n"),
    /What is in the picture\? The assistant said so\.<\|im_end\|>↵\n<\|im_start\|>assistant↵\n\[\[A red circle<\|im_end\|>↵\n\]\]$/,
  );
});

test("a length limit: what training would refuse, or leave out", async () => {
  const cwd = workingFolder();
  const limited = ["--data", DATA, "--max-length", "60", "--gflops", "100"];
  const refused = await preview(cwd, ...limited);
  assert.equal(refused.code, 0);
  assert.match(
    refused.stdout,
    /over --max-length 60 \(--overlong refuse\)\n {2}training: 3 [\s\S]*longest is train\.jsonl:4 with 109 tokens/,
  );
  const dropped = await preview(cwd, "--data", DATA, "--max-length", "60", "--overlong", "drop", "--json");
  assert.deepEqual([dropped.stdout.trimEnd().split("\n").length, dropped.code], [5, 0]);
  assert.match(dropped.stderr, /warning: --max-length 60: 3 samples longer and left out/);
});

test("the page holds pictures, coloured text and the click point, and no text can become markup", async () => {
  const cwd = workingFolder();
  const { code, stderr } = await preview(
    cwd,
    "--data",
    userFolder(cwd),
    "--html",
    "pages/p.html",
    "--html-samples",
    "3",
    "--gflops",
    "9",
  );
  assert.equal(code, 0, stderr);
  const page = readFileSync(join(cwd, "pages/p.html"), "utf8");
  assert.equal(page.match(/<article /g)?.length, 3);
  assert.equal(page.match(/src="data:image\/jpeg;base64,[A-Za-z0-9+/=]{100,}"/g)?.length, 3);
  assert.match(page, /<i class="dot" style="left:10(\.\d)?%;top:20%"><\/i>/);
  assert.match(page, /<span class="learnt">[^<]*the &lt;b&gt;button&lt;\/b&gt;/);
  assert.doesNotMatch(page, /<b>button/);
});

test("samples that cannot be used: the others are shown, all faults told, exit code 2", async () => {
  const cwd = workingFolder();
  cpSync(join(FIXTURE, "data/images"), join(cwd, "images"), { recursive: true });
  writeFileSync(join(cwd, "images/text.png"), "no picture\n");
  const rows = ["0.png", "text.png", "1.png", "text.png"].map((image) => ({
    messages: [
      {
        role: "user",
        content: [
          { type: "image", image: `images/${image}` },
          { type: "text", text: image },
        ],
      },
      { role: "assistant", content: "yes" },
    ],
  }));
  writeFileSync(join(cwd, "d.jsonl"), rows.map((row) => JSON.stringify(row)).join("\n"));
  const json = await preview(cwd, "--data", "d.jsonl", "--json", "--quiet");
  assert.deepEqual(
    json.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).id),
    ["d.jsonl:1", "d.jsonl:3"],
  );
  assert.equal(json.code, 2);
  assert.match(
    json.stderr,
    /^example d\.jsonl:2: \S+text\.png: not a readable picture .*\nand 1 more sample cannot be used\n$/,
  );
  const report = await preview(cwd, "--data", "d.jsonl", "--quiet", "--gflops", "9");
  assert.match(report.stdout, /samples that cannot be used\n {2}example d\.jsonl:2: .*\n {2}example d\.jsonl:4: /);
  assert.equal(report.code, 2);
});

test("refused before anything is read at length", async () => {
  const cwd = workingFolder();
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [
      ["--data", DATA, "--show", "train.jsonl:99"],
      /^--show train\.jsonl:99: no such sample; ids look like train\.jsonl:\d$/,
    ],
    [["--data", DATA, "--json", "--html", "p.html"], /^preview: --json prints nothing but its objects;/],
    [["--data", DATA, "--html-samples", "3"], /^preview: --html-samples needs --html FILE/],
    [["--data", "nowhere.jsonl"], /^nowhere\.jsonl: not found;/],
    [
      ["--data", DATA, "--lora", "--lora-targets", "nothing", "--gflops", "9"],
      /^--lora-targets: .*matches no linear layer/,
    ],
  ];
  for (const [args, says] of cases) {
    const { code, stderr } = await preview(cwd, ...args, "--quiet");
    assert.match(stderr.trimEnd(), says);
    assert.equal(code, 2);
  }
  assert.ok(!existsSync(join(cwd, "p.html")));
});
