// Every number that transformers + PEFT were asked for, computed on WebGPU: outputs, gradients of LoRA and of all weights, whole training traces.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parity } from "../../scripts/parity.ts";

for (const folder of ["tiny-qwen3vl", "sharded-bf16"]) {
  test(`parity on ${folder} on WebGPU`, async (t) => {
    const results = await parity(`test/fixtures/${folder}`, { kind: "webgpu" });
    assert.ok(results.lora_gradients && results.full_gradients, "both kinds of gradients were compared");
    for (const [name, { pass, at, compared, max_abs, max_rel, tolerance }] of Object.entries(results)) {
      await t.test(`${name}: ${compared} numbers, ${tolerance}; largest ${max_abs}, relative ${max_rel}`, () => {
        assert.ok(pass, `${name} at ${at}: off by ${max_abs}, relative ${max_rel}, allowed ${tolerance}`);
      });
    }
  });
}
