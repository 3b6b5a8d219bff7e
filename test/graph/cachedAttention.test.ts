// Attention over a cache against the formula in double precision: prompts, tokens behind a cache, and both at once, in several forms.
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import type { Target } from "../../src/graph/writer.ts";
import { CPU } from "../../src/runtime/device.ts";
import { openSession } from "../../src/runtime/session.ts";
import { required } from "../../src/utils/errors.ts";
import { type Arrays, arraysOf, attentionGraph, CASES, caseNamed, checkCase, feedsOf } from "./attentionCases.ts";
import { readModel } from "./protobuf.ts";

const TOLERANCES = {
  cpu: 1e-6, // sums of about 20 products of numbers near 1
  "cuda-imitated": 0.05, // factors of 8 bits
} as const satisfies Partial<Record<Target, number>>;

for (const [name, one] of Object.entries(CASES))
  for (const target of ["cpu", "cuda-imitated"] as const)
    test(`${name}, ${target}`, () => checkCase(one, { target, device: CPU }, TOLERANCES[target]));

test("a row's attention is the same to the last bit whatever the others are, given the same places", async () => {
  const session = await openSession(encodeOnnx(attentionGraph()), { device: CPU });
  const one = caseNamed("one token behind caches of unequal length");
  const arrays = arraysOf(one);
  const together = required((await session.run(feedsOf(one, arrays))).y, "y").data as Float32Array;
  const part = (data: Float32Array, b: number): Float32Array =>
    data.subarray((b * data.length) / one.cached.length, ((b + 1) * data.length) / one.cached.length);
  for (const [b, length] of one.cached.entries()) {
    const own = Object.fromEntries(Object.entries(arrays).map(([name, data]) => [name, part(data, b)]));
    const feeds = feedsOf({ ...one, cached: [length] }, own as unknown as Arrays);
    assert.deepEqual(required((await session.run(feeds)).y, "y").data, part(together, b), `row ${b}`);
  }
  await session.release();
});

test("the cache is no output: it is read where it lies", () => {
  const { outputs, nodes } = readModel(encodeOnnx(attentionGraph()));
  assert.deepEqual(outputs, ["y"]);
  assert.equal(nodes.filter(({ op }) => op === "If").length, 1);
});
