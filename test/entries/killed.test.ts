// An evaluation that is killed, again and again, ends with the same files as one that is left alone.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { contentsOf, filesIn, readJson, runEntry, startEntry, workingFolder } from "./entry.ts";

const DIR = "out/qwen3_vanilla";
/** Drawn answers: what is drawn must not depend on where an evaluation was broken off. */
const FLAGS = [
  ...["cpu", "--u", "1", "3", "--limit", "12", "--max-new-tokens", "10"],
  ...["--sample", "--temperature", "1.3", "--eval-batch-size", "4"],
];

/** Starts, and kills the process as soon as it has written the first answers of a user. */
async function killAtUser(user: number, cwd: string): Promise<void> {
  const run = startEntry("vanillaEval", FLAGS, cwd);
  let isOver = false;
  void run.ended.then(() => {
    isOver = true;
  });
  while (!isOver && !existsSync(join(cwd, DIR, `user_${user}/out.json`))) await pause(2);
  run.kill();
  assert.equal((await run.ended).signal, "SIGKILL");
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test("SIGKILL during an evaluation: the same command goes on, and leaves the same bytes", async () => {
  const [whole, killed] = [workingFolder(), workingFolder()];
  const straight = await runEntry("vanillaEval", FLAGS, whole);
  assert.equal(straight.code, 0, straight.stderr);

  await killAtUser(2, killed);
  const [first, second] = [1, 2].map((user) => readJson(join(killed, DIR, `user_${user}/out.json`)).length);
  assert.equal(first, 12, "a user that was done is whole");
  assert.ok(second >= 1 && second < 12, `of the user under way, answers are kept as they come: ${second}`);
  assert.equal(existsSync(join(killed, DIR, "user_2/metrics.json")), false, "no scores of half a user");
  assert.equal(existsSync(join(killed, DIR, "summary.json")), false, "no summary of half a run");

  await killAtUser(3, killed);
  const last = await runEntry("vanillaEval", FLAGS, killed);
  assert.equal(last.code, 0, last.stderr);
  assert.equal(last.stdout, straight.stdout);
  assert.deepEqual(filesIn(killed), filesIn(whole), "nothing half-written is left");
  assert.deepEqual(contentsOf(killed), contentsOf(whole));
});
