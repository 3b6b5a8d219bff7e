// Personal agents on the embedded users, after a global agent of two steps.
import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { readHeader } from "../../src/utils/safetensors.ts";
import {
  contentsOf,
  type Ended,
  filesIn,
  type RunningEntry,
  readJson,
  runEntry,
  startEntry,
  tensorsOf,
  workingFolder,
} from "./entry.ts";

const GLOBAL = [
  ...["cpu", "--lora", "--no-eval", "--train-users", "11", "--val-users", "74", "--limit", "2"],
  ...["--max-steps", "2", "--accumulation", "1", "--warmup-steps", "1", "--lora-r", "3", "--quiet"],
];
/** Three episodes of each user, of which two are learnt from in three steps. */
const SHORT = ["--limit", "12", "--max-steps", "3", "--batch-size", "2", "--max-new-tokens", "6"];
const PERSON = ["cpu", "--u", "1", "2", ...SHORT];
const ADAPTERS = "checkpoints/personal";
const ANSWERS = "out/personal";
const FOLDS = [0, 1, 2];
const USERS = [1, 2];
const everyFold = USERS.flatMap((user) => FOLDS.map((fold) => `user_${user}/fold_${fold}`));

/** A folder with a global agent, and one in which personal agents were trained on it without a break. */
const globalRun = workingFolder();
const whole = workingFolder();
let said = { stdout: "", stderr: "" };

/** A working folder with the global agent of `globalRun`. */
function afterGlobal(): string {
  const folder = workingFolder();
  cpSync(join(globalRun, "checkpoints"), join(folder, "checkpoints"), { recursive: true, preserveTimestamps: true });
  return folder;
}

before(async () => {
  const trained = await runEntry("finetuneGlobal", GLOBAL, globalRun);
  assert.equal(trained.code, 0, trained.stderr);
  cpSync(globalRun, whole, { recursive: true });
  const ended = await runEntry("finetunePerson", PERSON, whole);
  assert.equal(ended.code, 0, ended.stderr);
  said = ended;
});

const runConfigOf = (place: string) => readJson(join(whole, ADAPTERS, place, "run_config.json"));

test("an agent for each fold: no episode on both sides, every sample held out once", () => {
  for (const user of USERS) {
    const folds = FOLDS.map((fold) => runConfigOf(`user_${user}/fold_${fold}`).samples);
    const held: string[] = folds.flatMap(({ held_out }) => held_out);
    assert.deepEqual(held.toSorted(), Array.from({ length: 12 }, (_, i) => `user_${user}.csv:${i + 2}`).toSorted());
    for (const { train, held_out } of folds) {
      assert.equal(new Set([...train, ...held_out]).size, 12);
      const learnt = new Set(train.map(episodeOf));
      for (const id of held_out) assert.ok(!learnt.has(episodeOf(id)), `${id}: its episode is learnt from`);
    }
  }
});

/** Embedded episodes have four steps, and rows begin in line 2. */
const episodeOf = (id: string): number => Math.floor((Number(id.split(":")[1]) - 2) / 4);

test("each adapter is one that PEFT loads over the base, as the global one, and has learnt something of its own", () => {
  const [globalDir, digests] = [join(whole, "checkpoints/global_agent_lora"), new Set<string>()];
  const globalKeys = readHeader(join(globalDir, "adapter_model.safetensors")).tensors;
  for (const place of everyFold) {
    const dir = join(whole, ADAPTERS, place);
    assert.deepEqual(readJson(join(dir, "adapter_config.json")), readJson(join(globalDir, "adapter_config.json")));
    const { tensors } = readHeader(join(dir, "adapter_model.safetensors"));
    assert.deepEqual(
      [...tensors].map(([key, { dtype, shape }]) => [key, dtype, shape]),
      [...globalKeys].map(([key, { dtype, shape }]) => [key, dtype, shape]),
    );
    assert.ok([...tensors.keys()].every((key) => /^base_model\.model\..*\.lora_[AB]\.weight$/.test(key)));
    const bytes = [...tensorsOf(join(dir, "adapter_model.safetensors")).values()];
    digests.add(Buffer.concat(bytes).toString("base64"));
    assert.deepEqual(
      filesIn(dir),
      filesIn(globalDir).filter((file) => !/^(checkpoint-|artifacts|settings)/.test(file)),
    );
    const { global_step, max_steps, log_history } = readJson(join(dir, "trainer_state.json"));
    assert.deepEqual([global_step, max_steps, log_history.length], [3, 3, 3]);
  }
  assert.equal(digests.size, 6, "no two agents are alike");
});

interface Row {
  readonly pred_coord: readonly [number, number];
  readonly gt_coord: readonly [number, number];
}
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const accuracyOf = (rows: readonly Row[]): number =>
  mean(rows.map(({ pred_coord: [x, y], gt_coord: [a, b] }) => Number((x - a) ** 2 + (y - b) ** 2 <= 140 ** 2)));

test("answers, scores and summaries follow from each other", () => {
  const rowsOf = (place: string): Row[] => readJson(join(whole, ANSWERS, place, "out.json"));
  const summary = readJson(join(whole, ANSWERS, "summary.json"));
  for (const user of USERS) {
    const accuracies = FOLDS.map((fold) => accuracyOf(rowsOf(`user_${user}/fold_${fold}`)));
    const own = readJson(join(whole, ANSWERS, `user_${user}_summary.json`));
    assert.equal(own.n_folds, 3);
    assert.ok(Math.abs(own.avg_accuracy - mean(accuracies)) < 1e-12);
    const variance = mean(accuracies.map((value) => (value - mean(accuracies)) ** 2));
    assert.ok(Math.abs(own.std_accuracy - Math.sqrt(variance)) < 1e-12);
    const pooled = FOLDS.flatMap((fold) => rowsOf(`user_${user}/fold_${fold}`));
    assert.equal(summary.users[user].n, 12);
    assert.ok(Math.abs(summary.users[user].accuracy - accuracyOf(pooled)) < 1e-12);
  }
  for (const place of everyFold) {
    assert.match(contentsOf(join(whole, ANSWERS, place))["results.txt"] ?? "", /^\{'accuracy': [\d.]+, 'mean_l2': /);
    const { samples } = runConfigOf(place);
    const asked: { id: string }[] = readJson(join(whole, ANSWERS, place, "samples.json"));
    assert.deepEqual(asked.map(({ id }) => id), samples.held_out); // biome-ignore format: one line
  }
  assert.match(said.stdout, /│ 1 +│ 12 │ +3 │[\s\S]*│ macro average │ 24 │[\s\S]*│ all answers +│ 24 │/);
});

test("killed and interrupted at any point, the same command ends with the same files", async () => {
  const folder = afterGlobal();
  const killed = startEntry("finetunePerson", [...PERSON, "--save-steps", "1"], folder);
  await appears(join(folder, ADAPTERS, "user_1/fold_1/checkpoint-1"), killed);
  killed.kill();
  assert.deepEqual([(await killed.ended).code, (await killed.ended).signal], [null, "SIGKILL"]);
  assert.equal(existsSync(join(folder, ANSWERS, "summary.json")), false);

  const interrupted = startEntry("finetunePerson", PERSON, folder);
  await appears(join(folder, ADAPTERS, "user_2/fold_0"), interrupted);
  interrupted.interrupt();
  const { code, stderr, stdout } = await interrupted.ended;
  assert.equal(code, 130, stderr);
  assert.equal(stdout, "");
  assert.match(
    stderr,
    /stopped: [345] of 6 agents are done, and what is done of the next is saved; the same command goes on from there\n$/,
  );

  const rest = await runEntry("finetunePerson", PERSON, folder);
  assert.equal(rest.code, 0, rest.stderr);
  assert.match(rest.stderr, /^[345] of 6 agents are done already and kept$/m);
  assert.equal(rest.stdout, said.stdout);
  assertSameFiles(folder, whole);

  const again = await runEntry("finetunePerson", [...PERSON, "--quiet"], folder);
  assert.deepEqual([again.code, again.stdout, again.stderr], [0, said.stdout, ""]);
  assertSameFiles(folder, whole);
});

/** Waits for a file. @throws where the process ends without it */
async function appears(path: string, { ended }: RunningEntry): Promise<void> {
  let end: Ended | null = null;
  void ended.then((how) => {
    end = how;
  });
  while (!existsSync(path)) {
    assert.equal(end, null, `ended before there was ${path}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Byte for byte; only what says how often to save, and that the last run was quiet, may differ. */
function assertSameFiles(actual: string, expected: string): void {
  for (const dir of [ADAPTERS, ANSWERS]) {
    const [a, b] = [contentsOf(join(actual, dir)), contentsOf(join(expected, dir))];
    assert.deepEqual(Object.keys(a), Object.keys(b));
    for (const [file, content] of Object.entries(b)) {
      if (file.endsWith("settings.toml") || file.endsWith("run_config.json")) continue;
      assert.ok(withoutSaveSteps(a[file] ?? "") === withoutSaveSteps(content), `${dir}/${file} differs`);
    }
  }
}
const withoutSaveSteps = (text: string): string => text.replace(/"save_steps": \d+/, "");

test("other settings train anew and say so; fewer folds leave none of the former behind", async () => {
  const folder = workingFolder();
  cpSync(whole, folder, { recursive: true, preserveTimestamps: true });
  const changed = ["cpu", "--u", "1", ...SHORT, "--folds", "2", "--lr", "1e-3", "--no-save-adapters"];
  const run = await runEntry("finetunePerson", changed, folder);
  assert.equal(run.code, 0, run.stderr);
  assert.match(
    run.stderr,
    /^warning: agents of an earlier run differ and are trained anew \(.*\): .*folds: 3 there, 2 here.*lr: 0\.0007 there, 0\.001 here/m,
  );
  assert.deepEqual(readdirSync(join(folder, ANSWERS, "user_1")).sort(), ["fold_0", "fold_1"]);
  assert.deepEqual(readdirSync(join(folder, ADAPTERS, "user_1")), [], "adapters go when their fold is scored");
  assert.equal(readJson(join(folder, ANSWERS, "user_1_summary.json")).n_folds, 2);
  assert.deepEqual(Object.keys(readJson(join(folder, ANSWERS, "summary.json")).users), ["1"]);
  const untouched = contentsOf(join(whole, ANSWERS, "user_2"));
  assert.deepEqual(contentsOf(join(folder, ANSWERS, "user_2")), untouched, "a user who is not asked for stays");
});

test("without a global agent, or with one that does not fit, the message says what to run", async () => {
  const refused = async (flags: readonly string[], cwd: string): Promise<string> => {
    const { code, stderr } = await runEntry("finetunePerson", ["cpu", "--quiet", ...flags], cwd);
    assert.equal(code, 2, stderr);
    return stderr;
  };
  const empty = workingFolder();
  assert.equal(
    await refused([], empty),
    "no global agent in checkpoints/global_agent_lora or checkpoints/global_agent_full: train one with `npx tsx src/finetuneGlobal.ts 0 --lora`, name another folder with --base, or start from the plain model with --base none\n",
  );
  assert.match(
    await refused(["--base", "nowhere"], empty),
    /^--base nowhere: no such folder; train a global agent with/,
  );
  assert.deepEqual(filesIn(empty), []);

  assert.match(
    await refused(["--model", "some/model"], globalRun),
    /^--base checkpoints\/global_agent_lora: was trained from the embedded model, not from --model some\/model; leave --model out\n$/,
  );
  assert.match(
    await refused(["--lora-r", "8"], globalRun),
    /^--base checkpoints\/global_agent_lora: has loraR 3, the settings ask for 8; leave it out/,
  );
  assert.match(
    await refused(["--u", "9", "11"], globalRun),
    /^--u: the global agent in checkpoints\/global_agent_lora was trained on user 11, .* --allow-overlap\n$/,
  );
  assert.match(
    await refused(["--limit", "8"], globalRun),
    /^--folds 3: user 1 has 2 episodes, and each fold needs one; ask for fewer folds, or leave the user out\n$/,
  );

  const unfinished = afterGlobal();
  const run = join(unfinished, "checkpoints/global_agent_lora");
  for (const name of ["adapter_config.json", "adapter_model.safetensors"]) rmSync(join(run, name));
  assert.match(
    await refused([], unfinished),
    /^checkpoints\/global_agent_lora: its run stopped after step 2; end it with `npx tsx src\/finetuneGlobal\.ts 0 --lora --resume`/,
  );
});

test("samples that name no episode are refused by episode and cut by step, as Python cuts them; --base none takes the plain model", async () => {
  const folder = workingFolder();
  const rows = Array.from({ length: 7 }, (_, i) => ({
    user: 1,
    messages: [
      { role: "user", content: `command ${i}` },
      { role: "assistant", content: `\`\`\`referring\nx\n\`\`\`\n\`\`\`grounding\n[${i}, 5]\n\`\`\`` },
    ],
  }));
  writeFileSync(join(folder, "rows.jsonl"), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  const flags = [
    "cpu",
    "--data",
    "rows.jsonl",
    "--base",
    "none",
    "--max-steps",
    "1",
    "--max-new-tokens",
    "2",
    "--quiet",
  ];
  const refused = await runEntry("finetunePerson", flags, folder);
  assert.deepEqual(
    [refused.code, refused.stderr],
    [2, '--fold-by episode: rows.jsonl:1 names no episode, so steps of one could be learnt and asked; add "episode" to the data, or cut by single steps with --fold-by step\n'], // biome-ignore format: one line
  );
  const cut = await runEntry("finetunePerson", [...flags, "--fold-by", "step"], folder);
  assert.equal(cut.code, 0, cut.stderr);
  const held = FOLDS.map(
    (fold) => readJson(join(folder, ADAPTERS, `user_1/fold_${fold}/run_config.json`)).samples.held_out,
  );
  assert.deepEqual(held, [[1, 3], [4, 2], [6, 0, 5]].map((fold) => fold.map((i) => `rows.jsonl:${i + 1}`))); // biome-ignore format: one line
});
