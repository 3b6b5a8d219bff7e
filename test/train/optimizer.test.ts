// AdamW and clipping against PyTorch over ten steps; which parameters decay against the Hugging Face Trainer.
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { CPU } from "../../src/runtime/device.ts";
import { openSession } from "../../src/runtime/session.ts";
import { flatten, isDecayed, layoutOf, named } from "../../src/train/layout.ts";
import { ADAMW_DEFAULTS, adamw, clipFactor, norm, optimizerGraph } from "../../src/train/optimizer.ts";
import { fill, optimizerFixture } from "./optimizerFixture.ts";

const { adamw: runs, decayed } = optimizerFixture();
const F32 = 2e-7; // of the largest: a few roundings of float32 in another order

function assertClose(got: Float32Array, expected: readonly number[], what: string): void {
  assert.equal(got.length, expected.length);
  const largest = expected.reduce((max, v) => Math.max(max, Math.abs(v)), 0);
  expected.forEach((value, i) => {
    const error = Math.abs((got[i] as number) - value) / largest;
    assert.ok(error <= F32, `${what}[${i}] is ${got[i]}, PyTorch has ${value}`);
  });
}

for (const run of runs) {
  test(`AdamW, weight decay ${run.weight_decay}, clipped at ${run.max_grad_norm || "nothing"}`, async () => {
    const session = await openSession(encodeOnnx(optimizerGraph(ADAMW_DEFAULTS)), { device: CPU });
    const [decaying, others] = run.sizes;
    const size = decaying + others;
    const joined = (...parts: readonly Float32Array[]) => Float32Array.from(parts.flatMap((part) => [...part]));
    const state = {
      values: joined(fill(decaying, 1, 1), fill(others, 2, 1)),
      gradients: new Float32Array(size),
      expAvg: new Float32Array(size),
      expAvgSq: new Float32Array(size),
    };
    const settings = { ...ADAMW_DEFAULTS, weightDecay: run.weight_decay };
    for (const [i, expected] of run.steps.entries()) {
      const step = i + 1;
      const scale = 10 ** ((step % 4) - 2);
      state.gradients.set(joined(fill(decaying, 100 * step, scale), fill(others, 100 * step + 1, scale)));
      const gradNorm = norm(state.gradients);
      assert.ok(
        Math.abs(gradNorm / expected.grad_norm - 1) < F32,
        `norm ${gradNorm}, PyTorch has ${expected.grad_norm}`,
      );
      const update = { learningRate: 1e-3 * step, step, gradientScale: clipFactor(gradNorm, run.max_grad_norm) };
      await adamw(session, state, { start: 0, end: decaying, weightDecay: run.weight_decay }, settings, update);
      await adamw(session, state, { start: decaying, end: size, weightDecay: 0 }, settings, update);
      assertClose(state.values, expected.values, `step ${step}, value`);
    }
    assertClose(state.expAvg, run.exp_avg, "exp_avg");
    assertClose(state.expAvgSq, run.exp_avg_sq, "exp_avg_sq");
    await session.release();
  });
}

test("clipping leaves a short gradient as it is", () => {
  assert.equal(clipFactor(0.5, 1), 1);
  assert.equal(clipFactor(1e9, 0), 1);
  assert.equal(clipFactor(4, 1), 1 / (4 + 1e-6));
  assert.equal(norm(Float32Array.of(3, -4)), 5);
  assert.equal(norm(new Float32Array(0)), 0);
  assert.ok(norm(new Float32Array(4).fill(1e30)) === 2 * Math.fround(1e30), "squares beyond float32");
});

test("biases and norms are not decayed, exactly as the Trainer decides", () => {
  assert.deepEqual(Object.fromEntries(Object.keys(decayed).map((name) => [name, isDecayed(name)])), decayed);
  assert.equal(isDecayed("base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_B.weight"), true);
});

test("the flat vectors: decayed parameters first, every number back in its place", () => {
  const shapes = new Map([
    ["a.bias", [2]],
    ["a.weight", [2, 3]],
    ["norm.weight", [1]],
    ["b.weight", [1, 2]],
  ]);
  const layout = layoutOf(shapes);
  assert.deepEqual(
    [layout.slots.map(({ name, start, end }) => `${name} ${start}-${end}`), layout.size],
    [["a.weight 0-6", "b.weight 6-8", "a.bias 8-10", "norm.weight 10-11"], 11],
  );
  assert.deepEqual(layout.ranges, [
    { start: 0, end: 8, isDecayed: true, rate: "llm" },
    { start: 8, end: 11, isDecayed: false, rate: "llm" },
  ]);
  const values = new Map(
    [...shapes].map(([name, shape], i) => [
      name,
      fill(
        shape.reduce((a, b) => a * b),
        i,
        1,
      ),
    ]),
  );
  assert.deepEqual(new Map([...named(layout, flatten(layout, values))].sort()), new Map([...values].sort()));
  values.set("b.weight", new Float32Array(3));
  assert.throws(() => flatten(layout, values), /parameter b\.weight has 3 elements, expected 2/);
  values.delete("b.weight");
  assert.throws(() => flatten(layout, values), /parameter b\.weight has undefined elements, expected 2/);
});
