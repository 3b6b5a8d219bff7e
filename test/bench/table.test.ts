// The table of training speed prints a row: its smallest, in a process of its own as a user would start it.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

test("a row of the smallest shape, without Python", async () => {
  const words = ["--import", "tsx", "bench/table.ts", "--shapes", "tiny", "--steps", "1", "--python", "none"];
  const { stdout } = await promisify(execFile)(process.execPath, words);
  const rows = stdout.split("\n").filter((line) => line.startsWith("| tiny"));
  assert.equal(rows.length, 1, stdout);
  const [, shape, tokens, seconds, , , share, , peak] = (rows[0] ?? "").split("|").map((cell) => cell.trim());
  assert.deepEqual([shape, tokens], ["tiny", "142"]);
  assert.match(share ?? "", /^\d+ %$/);
  assert.ok(Number(seconds) > 0 && Number(peak) > 0, stdout);
});
