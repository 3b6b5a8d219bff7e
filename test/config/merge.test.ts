import assert from "node:assert/strict";
import { test } from "node:test";
import { parseMergeConfig } from "../../src/config.ts";
import { UserError } from "../../src/utils/errors.ts";
import { HelpRequested } from "../../src/utils/flags.ts";

const NEEDED = ["--adapter", "run", "--out", "merged"];

test("what must be given, and the defaults of the rest", () => {
  assert.deepEqual(parseMergeConfig(NEEDED), {
    ...{ adapter: "run", out: "merged", model: null, dtype: null, maxShardSize: 5e9 },
    ...{ overwrite: false, check: true, quiet: false },
  });
});

test("sizes as transformers reads them", () => {
  const size = (word: string): number => parseMergeConfig([...NEEDED, "--max-shard-size", word]).maxShardSize;
  for (const [word, bytes] of [["5GB", 5e9], ["200MB", 2e8], ["1.5gb", 1.5e9], ["2GiB", 2 ** 31], ["10 KiB", 10_240], ["4096", 4096]] as const) assert.equal(size(word), bytes, word); // biome-ignore format: one line
  for (const word of ["big", "5 G", "0", "0.5", "5Gbit", "1e400"])
    assert.throws(
      () => size(word),
      new UserError(`merge: --max-shard-size: expected a number of bytes of at least 1, as in 5GB, 500MB or 2GiB, got "${word}"`), // biome-ignore format: one line
    );
});

test("all faults together: unknown flags with the nearest known one, stray words, what is missing", () => {
  assert.throws(
    () => parseMergeConfig(["cpu", "--dtpye", "float32"]),
    new UserError(
      [
        "merge: --dtpye: unknown flag; did you mean --dtype?",
        'merge: "cpu": belongs to no flag; --adapter names what is merged, --out where it goes',
        "merge: --adapter: missing; it is the folder of a run, a checkpoint or a PEFT adapter",
        "merge: --out: missing; it is the folder of the merged model",
      ].join("\n"),
    ),
  );
  assert.throws(() => parseMergeConfig([...NEEDED, "--dtype", "int8"]), /--dtype: expected one of float32, bfloat16, float16, got "int8"/); // biome-ignore format: one line
  assert.throws(() => parseMergeConfig(["--adapter", "--out", "x"]), /merge: --adapter: needs a value \(DIR\)$/);
});

test("help names every flag and gives examples", () => {
  assert.throws(
    () => parseMergeConfig(["--help"]),
    (thrown) => {
      assert.ok(thrown instanceof HelpRequested);
      for (const part of [/^Usage: npx tsx src\/merge\.ts --adapter DIR --out DIR \[flags\]\n/, /--max-shard-size SIZE .*\(default: 5GB\)/s, /--no-check/, /--overwrite/, /\nExamples\n {2}npx tsx src\/merge\.ts --adapter /]) assert.match(thrown.message, part); // biome-ignore format: one line
      return true;
    },
  );
});
