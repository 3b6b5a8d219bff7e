// Every number that transformers + PEFT were asked for, on two models of different shape, dtype and sharding.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Comparison, shareAbove } from "../scripts/parity/comparison.ts";
import { parity } from "../scripts/parity.ts";
import { UserError } from "../src/utils/errors.ts";

const SUBJECTS = [
  ...["token_ids", "labels_official", "labels_pigg", "position_ids", "image_grid_thw", "prompt_ids"],
  ...["pixel_values", "vision", "deepstack", "logits", "loss", "greedy"],
  ...["lora_loss", "lora_gradients", "lora_greedy", "full_gradients"],
  ...["trace_token_loss", "trace_token_grad_norm", "trace_token_adapter"],
  ...["trace_microbatch-mean_loss", "trace_microbatch-mean_grad_norm", "trace_microbatch-mean_adapter"],
  ...["trace_full_loss", "trace_full_grad_norm"],
];

for (const folder of ["tiny-qwen3vl", "sharded-bf16"]) {
  test(`parity on ${folder}`, async (t) => {
    const results = await parity(`test/fixtures/${folder}`);
    for (const [name, { pass, at, compared, max_abs, max_rel, tolerance }] of Object.entries(results)) {
      await t.test(`${name}: ${compared} numbers, ${tolerance}`, () => {
        assert.ok(pass, `${name} at ${at}: off by ${max_abs}, relative ${max_rel}, allowed ${tolerance}`);
      });
    }
    for (const name of SUBJECTS) assert.ok(name in results, `${name} was compared`);
  });
}

test("a folder without reference numbers is refused", async () => {
  await assert.rejects(
    parity("test"),
    (error: Error) => error instanceof UserError && /^test: no reference numbers here/.test(error.message),
  );
});

const compare = (
  kind: "exact" | "absolute" | "magnitude" | "relative",
  limit: number,
  got: number[],
  expected: number[],
) => new Comparison({ kind, limit }).add("x", got, expected).result();

test("one wrong number among many is found and named", () => {
  const expected = Array.from({ length: 1000 }, (_, i) => Math.sin(i));
  const got = [...expected];
  got[617] = (got[617] as number) + 2e-5;
  for (const kind of ["absolute", "magnitude", "relative", "exact"] as const) {
    const { pass, at } = compare(kind, kind === "exact" ? 0 : 1e-5, got, expected);
    assert.deepEqual([pass, at], [false, "x[617]"], kind);
  }
  assert.equal(compare("absolute", 3e-5, got, expected).pass, true);
});

test("a number that is none fails, and stays the one that is named", () => {
  const { pass, at, max_abs } = compare("absolute", 1, [0, Number.NaN, 9], [0, 0, 0]);
  assert.deepEqual([pass, at, max_abs], [false, "x[1]", Number.NaN]);
  assert.equal(compare("magnitude", 1, [Number.NaN], [Number.NaN]).pass, false);
  assert.equal(compare("relative", 1, [Number.POSITIVE_INFINITY], [1]).pass, false);
});

test("arrays of different length fail, whatever is compared after them", () => {
  const result = new Comparison({ kind: "absolute", limit: 1 }).add("short", [1], [1, 2]).add("x", [5], [1]).result();
  assert.deepEqual([result.pass, result.at], [false, "short: 1 numbers, expected 2"]);
  assert.equal(new Comparison({ kind: "exact", limit: 0 }).result().pass, false, "nothing compared is no success");
});

test("what each tolerance measures", () => {
  assert.equal(compare("magnitude", 0.011, [0.01, 1], [0, 1]).pass, true, "of the largest");
  assert.equal(compare("relative", 0.011, [0.01, 1], [0, 1]).pass, false, "of each, and of zero nothing");
  assert.equal(compare("magnitude", 1, [1e-30], [0]).pass, false, "a tensor of zeros must be zeros");
  assert.equal(
    shareAbove(
      [
        [
          [1, 2, Number.NaN, 4],
          [1, 2.5, 3, 4],
        ],
      ],
      0.1,
    ),
    0.5,
  );
  assert.equal(shareAbove([[[], [1, 2]]], 0.1), 1, "missing numbers are wrong ones");
});
