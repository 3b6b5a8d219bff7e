// What a LoRA step is with weights in few bits, against float32: the loss, and every gradient tensor whole.
import assert from "node:assert/strict";
import { resolve } from "node:path";
import { test } from "node:test";
import { type BatchesFor, difference, type Measured, measure, samplesOf } from "../../../bench/quant.ts";
import { NOTHING_SAVED } from "../../../src/model/memory.ts";
import type { QuantKind } from "../../../src/model/quantised/matrix.ts";
import { scratchFolder } from "../../train/folders.ts";

const roots = [scratchFolder("quantised-gradients")];

/** Least cosine of a tensor, and most change of the loss. int8: what the project promises; int4: what it has, told in docs/quantisation.md. */
const LIMITS = { int8: { cosine: 0.999, loss: 0.01 }, int4: { cosine: 0.6, loss: 0.2 } };

const GOLDEN = "test/fixtures/tiny-qwen3vl";
const MODELS: Readonly<Record<string, { readonly dir: string; readonly data: string | null }>> = {
  "the golden model": { dir: `${GOLDEN}/model`, data: `${GOLDEN}/data/train.jsonl` },
  "the embedded model": { dir: resolve("assets/tiny-qwen3vl"), data: null },
};

for (const [name, { dir, data }] of Object.entries(MODELS))
  for (const useDora of [false, true]) {
    const adapter = useDora ? "DoRA" : "LoRA";
    let exact: Promise<{ batches: BatchesFor; measured: Measured }> | null = null;
    const exactly = async () => {
      const batches = await samplesOf(dir, data, 4);
      return { batches, measured: await measure(dir, null, { useDora, batches }) };
    };
    for (const kind of ["int8", "int4"] satisfies QuantKind[])
      test(`${kind}, ${adapter} on ${name}`, async (t) => {
        exact ??= exactly();
        const { batches, measured } = await exact;
        const { lossChange, cosine, cosines } = difference(
          await measure(dir, kind, { useDora, batches, roots }),
          measured,
        );
        const [worst, lowest] = [...cosines].reduce((least, one) => (one[1] < least[1] ? one : least));
        t.diagnostic(
          `loss ${(100 * lossChange).toFixed(3)} %, cosine of all ${cosine.toFixed(6)}, lowest ${lowest.toFixed(6)} (${worst})`,
        );
        assert.equal(cosines.size, measured.gradients.size);
        for (const [parameter, value] of cosines)
          assert.ok(value >= LIMITS[kind].cosine, `${parameter}: cosine ${value}`);
        assert.ok(lossChange !== 0 && Math.abs(lossChange) <= LIMITS[kind].loss, `loss changes by ${lossChange}`);
      });
  }

test("int8 with layers computed again and attention in blocks: the same gradients", async () => {
  const { dir, data } = MODELS["the golden model"] ?? { dir: "", data: null };
  const batches = await samplesOf(dir, data, 2);
  const options = { useDora: false, batches, roots };
  const saving = { ...NOTHING_SAVED, recomputes: "layers" as const, tokenBlocks: 2 };
  const [kept, saved] = [
    await measure(dir, "int8", options),
    await measure(dir, "int8", { ...options, memory: saving }),
  ];
  const { lossChange, cosines } = difference(saved, kept);
  assert.ok(Math.abs(lossChange) < 1e-6, `loss changes by ${lossChange}`);
  for (const [parameter, value] of cosines) assert.ok(value > 1 - 1e-6, `${parameter}: cosine ${value}`);
});
