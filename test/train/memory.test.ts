// Gradients do not depend on how memory is saved: recomputed layers to the last bit, attention in blocks up to rounding.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { EngineBatch } from "../../src/engine/engine.ts";
import { filledUp } from "../../src/engine/rowPadding.ts";
import type { RemoteEngine } from "../../src/engine/start.ts";
import { LLM_PROJECTIONS } from "../../src/model/lora.ts";
import { type MemorySettings, NOTHING_SAVED } from "../../src/model/memory.ts";
import { FULL, type TrainableSpec } from "../../src/model/trainables.ts";
import type { NamedArrays } from "../../src/train/replica.ts";
import { elementCount } from "../../src/utils/safetensors.ts";
import { batchesOf, largestDifference, loadTiny, loraSpec, openEngine } from "../tiny.ts";

const F32 = 5e-6; // of a tensor's largest number: sums over keys in another order

const tiny = await loadTiny();
const RECOMPUTED: MemorySettings = { ...NOTHING_SAVED, recomputes: "layers" };
const PASSES: MemorySettings = { ...NOTHING_SAVED, recomputes: "passes" };
const IN_BLOCKS: MemorySettings = { ...PASSES, tokenBlocks: 4, patchBlocks: 2 };
const BOTH: MemorySettings = { ...IN_BLOCKS, recomputes: "layers" };
const SHARES_KEPT: MemorySettings = { ...IN_BLOCKS, keepsShares: true };
const MIXTURES_KEPT: MemorySettings = { ...BOTH, keepsMixtures: true };

interface Sums {
  readonly gradients: NamedArrays;
  readonly lossSum: number;
  readonly evaluated: number;
}

async function sumsOf(engine: RemoteEngine, batch: EngineBatch): Promise<Sums> {
  const { lossSum } = await engine.accumulate(batch, { weight: 1, dropoutSeed: 3 });
  const gradients = await engine.gradients(1);
  await engine.clearGradients();
  const { lossSum: evaluated } = await engine.evaluateLoss(batch);
  return { gradients, lossSum, evaluated };
}

type Rows = readonly (readonly number[])[];

/** Two rows of unequal length, pictures in both, one of them of two documents. */
const PACKED: Rows = [[0, 2], [3]];

/** Adapters that do something; magnitudes near one. */
const waves = (shapes: ReadonlyMap<string, readonly number[]>): NamedArrays =>
  new Map(
    [...shapes].map(([name, shape], k) => [
      name,
      Float32Array.from({ length: elementCount(shape) }, (_, i) => Math.sin(i + k) / 8 + (shape.length === 1 ? 1 : 0)),
    ]),
  );

async function sumsWith(spec: TrainableSpec, memory: MemorySettings, rows: Rows): Promise<Sums> {
  const engine = openEngine(tiny, spec, { memory });
  if (spec.kind === "lora") await engine.setValues(waves(await engine.trainableShapes()));
  const trainsVision = spec.kind === "full";
  return sumsOf(engine, await batchesOf(tiny, engine, trainsVision).packed(rows));
}

async function compare(spec: TrainableSpec, rows: Rows, ways: readonly MemorySettings[]): Promise<void> {
  const expected = await sumsWith(spec, NOTHING_SAVED, rows);
  for (const memory of ways) {
    const { gradients, lossSum, evaluated } = await sumsWith(spec, memory, rows);
    const what = JSON.stringify(memory);
    const { share, at } = largestDifference(gradients, expected.gradients);
    assert.ok(share <= F32, `${what}: ${at} differs by ${share}`);
    assert.ok(Math.abs(lossSum / expected.lossSum - 1) <= F32, `${what}: loss ${lossSum}, ${expected.lossSum}`);
    assert.ok(Math.abs(evaluated / expected.evaluated - 1) <= F32, `${what}: ${evaluated}, ${expected.evaluated}`);
    if (memory.tokenBlocks === 1) assert.deepEqual([lossSum, evaluated], [expected.lossSum, expected.evaluated]);
  }
}

test("LoRA: packed rows with pictures", () =>
  compare(loraSpec(), PACKED, [RECOMPUTED, PASSES, IN_BLOCKS, SHARES_KEPT, BOTH, MIXTURES_KEPT]));

test("LoRA without pictures", () => compare(loraSpec(), [[2]], [BOTH]));

test("DoRA with dropout, whose masks are drawn again", () => {
  const settings = { r: 4, alpha: 8, dropout: 0.3, useDora: true, targetModules: [...LLM_PROJECTIONS] };
  return compare({ kind: "lora", settings }, [[0], [1]], [RECOMPUTED, PASSES]);
});

test("the whole model, its tower in blocks of patches", () => compare(FULL, PACKED, [BOTH, IN_BLOCKS, SHARES_KEPT]));

test("an adapter in the middle of the model", () => {
  const settings = { r: 4, alpha: 8, dropout: 0, targetModules: ["layers.1.self_attn.k_proj", "layers.1.mlp.up_proj"] };
  return compare({ kind: "lora", settings }, PACKED, [BOTH]);
});

test("rows are filled up behind their last token", async () => {
  const engine = openEngine(tiny, loraSpec());
  const batch = await batchesOf(tiny, engine).packed(PACKED);
  const filled = filledUp(batch, 64);
  assert.equal(filled.length % 64, 0);
  assert.ok(filled.length > batch.length && filled.length - batch.length < 64);
  assert.equal(filledUp(batch, batch.length), batch);
  for (const name of ["inputIds", "labels", "segmentIds", "positionIds"] as const) {
    const fill = { inputIds: 0, labels: -100, segmentIds: -1, positionIds: 0 }[name];
    for (let row = 0; row * batch.length < batch[name].length; row++) {
      const whole = filled[name].subarray(row * filled.length, (row + 1) * filled.length);
      assert.deepEqual(
        whole.subarray(0, batch.length),
        batch[name].subarray(row * batch.length, (row + 1) * batch.length),
      );
      assert.ok(
        whole.subarray(batch.length).every((value) => value === fill),
        name,
      );
    }
  }
  const ids = (of: EngineBatch): number[] => [...of.imageRows].map((at) => of.inputIds[at] as number);
  assert.deepEqual(new Set(ids(filled)), new Set([tiny.processor.imageTokenId]));
  assert.equal(ids(filled).length, ids(batch).length);
});
