// Optimizer traces of PEFT: rsLoRA, DoRA, LoRA+, modules trained whole beside an adapter, a learning rate for each part.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { PARAMETER_GROUPS, type ParameterGroup } from "../../src/model/groups.ts";
import { initialValues } from "../../src/model/initialValues.ts";
import { trainableShapes, trainsVision } from "../../src/model/layers.ts";
import { type TrainableSpec, trainablesOf } from "../../src/model/trainables.ts";
import { ADAPTER_CONFIG, adapterConfig, readAdapterConfig } from "../../src/train/adapterConfig.ts";
import { openAdapterWeights, readAdapter, writeAdapter } from "../../src/train/adapterFiles.ts";
import { isDecayed } from "../../src/train/layout.ts";
import { peakRates, type RateSettings } from "../../src/train/rates.ts";
import type { NamedArrays } from "../../src/train/replica.ts";
import { type StepReport, trainSteps } from "../../src/train/trainer.ts";
import { required } from "../../src/utils/errors.ts";
import { writeJson } from "../../src/utils/files.ts";
import type { JsonObject } from "../../src/utils/json.ts";
import { readFloat32, readHeader } from "../../src/utils/safetensors.ts";
import { batchesOf, largestDifference, loadTiny, openEngine } from "../tiny.ts";
import { readJson, scratchFolder } from "./folders.ts";
import { fill } from "./optimizerFixture.ts";

interface Variant {
  readonly rows: readonly { readonly loss: number; readonly grad_norm: number; readonly rates: readonly number[] }[];
  /** adapter_config.json as PEFT wrote it; null where there is no adapter. */
  readonly config: JsonObject | null;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly decayed: Readonly<Record<string, boolean>>;
}

const FOLDER = "test/fixtures/train/adapters";
const { variants, large, stride } = JSON.parse(readFileSync(join(FOLDER, "variants.json"), "utf8")) as {
  readonly variants: Readonly<Record<string, Variant>>;
  readonly large: number;
  readonly stride: number;
};
const { tensors: expectedTensors } = readHeader(join(FOLDER, "variants.safetensors"));

// those of the parity command
const LOSS = 1e-5;
const GRAD_NORM = 1e-4;
const MOST = 1e-5; // 99.9 % of the elements
const ALL = 2e-4; // Adam turns the sign of a gradient near zero into a whole step

const PEAK = 1e-3;
const RATES: RateSettings = {
  ...{ lr: PEAK, lrVision: null, lrMerger: null, lrLlm: null, lrHead: null, loraplusLrRatio: null },
};
/** What scripts/fixtures/make_variants.py gives each optimizer. */
const OWN_RATES: Readonly<Record<string, Partial<RateSettings>>> = {
  group_rates: { lrMerger: 1e-4 },
  loraplus: { loraplusLrRatio: 4 },
  loraplus_dora: { loraplusLrRatio: 16 },
  full_group_rates: { lrVision: 1e-5, lrMerger: 5e-5, lrLlm: 1e-4, lrHead: 2e-4 },
};
const WHOLE: Readonly<Record<string, readonly ParameterGroup[]>> = {
  full_group_rates: PARAMETER_GROUPS,
  full_llm: ["llm"],
};

const tiny = await loadTiny();
const checkpoint = openCheckpoint(join(tiny.dir, "model"));
const scratch = scratchFolder("variants");

/** The settings as our reader takes them from PEFT's file. */
async function specOf(name: string, { config }: Variant): Promise<TrainableSpec> {
  if (config === null) return { kind: "full", groups: required(WHOLE[name], name) };
  await writeJson(join(scratch, ADAPTER_CONFIG), config);
  return { kind: "lora", settings: readAdapterConfig(scratch) };
}

/** Where make_variants.py starts: A and B of the i-th layer by name filled with seeds 2i and 2i + 1. */
function startOf(spec: TrainableSpec): NamedArrays {
  const trainables = trainablesOf(checkpoint, spec);
  const values = new Map(initialValues(checkpoint, trainables, null));
  const byName = (trainables.lora?.modules ?? []).toSorted((a, b) => (a.keyA < b.keyA ? -1 : 1));
  byName.forEach(({ keyA, keyB, inFeatures, outFeatures, keyMagnitude }, i) => {
    const r = (values.get(keyA)?.length ?? 0) / inFeatures;
    values.set(keyA, fill(r * inFeatures, 2 * i, inFeatures ** -0.5));
    values.set(keyB, fill(outFeatures * r, 2 * i + 1, 0.02));
    assert.equal(values.has(keyMagnitude), spec.kind === "lora" && spec.settings.useDora === true);
  });
  return values;
}

async function trained(
  name: string,
  variant: Variant,
  emaDecay: number | null = null,
): Promise<{ reports: StepReport[]; values: NamedArrays; average: NamedArrays | null }> {
  const spec = await specOf(name, variant);
  const engine = openEngine(tiny, spec, { weightDecay: 0.01, emaDecay });
  await engine.setValues(startOf(spec));
  const { peak, otherPeaks } = peakRates({ ...RATES, ...OWN_RATES[name] }, (await engine.trainableShapes()).keys());
  const { source } = batchesOf(tiny, engine, trainsVision(trainablesOf(checkpoint, spec)));
  const options = {
    ...{ rows: 8, batchSize: 1, accumulation: 2, shuffle: false, seed: 0, otherPeaks },
    ...({ lossNormalization: "token", onNonFinite: "stop" } as const),
    schedule: { kind: "linear", peak, warmupSteps: 1, totalSteps: 5 } as const,
  };
  const reports: StepReport[] = [];
  for await (const report of trainSteps(engine, source, options)) reports.push(report);
  const { values, average = null } = structuredClone(await engine.state());
  return { reports, values, average };
}

/** Every tensor of PEFT's below `name`, against ours. @returns the largest difference */
function assertClose(name: string, got: NamedArrays): number {
  let [compared, strays, largest] = [0, 0, 0];
  for (const [key, entry] of expectedTensors) {
    if (!key.startsWith(`${name}/`) || key.slice(name.length).startsWith("/average/")) continue;
    const own = key.slice(name.length + 1).replace("base_model.model.lm_head.", "model.language_model.embed_tokens.");
    const values = required(got.get(own) ?? got.get(own.replace(/^base_model\.model\./, "")), key);
    const kept = values.length > large ? values.filter((_, i) => i % stride === 0) : values;
    readFloat32(entry).forEach((expected, i) => {
      const error = Math.abs((kept[i] as number) - expected);
      assert.ok(error <= ALL, `${key}[${i}] is ${kept[i]}, PEFT has ${expected}`);
      compared++;
      largest = Math.max(largest, error);
      strays += Number(error > MOST);
    });
  }
  assert.ok(
    compared > 1000 && strays <= compared / 1000,
    `${strays} of ${compared} elements differ by more than ${MOST}`,
  );
  return largest;
}

for (const [name, variant] of Object.entries(variants)) {
  test(`${name}: losses, gradient norms, rates and what was trained are PEFT's`, async (t) => {
    const { reports, values } = await trained(name, variant);
    const apart = { loss: 0, norm: 0 };
    for (const [i, { loss, grad_norm: norm, rates }] of variant.rows.entries()) {
      const report = required(reports[i], `step ${i + 1}`);
      const [lossError, normError] = [report.loss / loss - 1, report.gradNorm / norm - 1].map(Math.abs) as [
        number,
        number,
      ];
      assert.ok(lossError <= LOSS, `step ${i + 1}: loss ${report.loss}, PEFT has ${loss}`);
      assert.ok(normError <= GRAD_NORM, `step ${i + 1}: ${report.gradNorm}, PEFT has ${norm}`);
      Object.assign(apart, { loss: Math.max(apart.loss, lossError), norm: Math.max(apart.norm, normError) });
      const own = new Set([report.learningRate, ...Object.values(report.otherRates)]);
      assert.deepEqual(
        [...own].sort((a, b) => a - b),
        rates,
      );
    }
    t.diagnostic(`${JSON.stringify(apart)}, trained ${assertClose(name, values)}`);
  });

  test(`${name}: which parameters decay is the Trainer's choice`, () => {
    const ours = Object.keys(variant.decayed).map((parameter) => [parameter, isDecayed(parameter)]);
    assert.deepEqual(Object.fromEntries(ours), variant.decayed);
  });

  if (variant.config === null) continue;
  test(`${name}: adapter_config.json and the keys of the weights are PEFT's`, async () => {
    const spec = await specOf(name, variant);
    assert.ok(spec.kind === "lora");
    const { architecture } = checkpoint;
    const shapes = trainableShapes(checkpoint, trainablesOf(checkpoint, spec));
    const values = startOf(spec);
    const dir = join(scratch, name);
    await writeAdapter(dir, { settings: spec.settings, values, shapes, architecture, baseModel: null });
    const written = readJson(join(dir, ADAPTER_CONFIG)) as JsonObject;
    const sorted = { ...written, target_modules: [...(written.target_modules as string[])].sort() };
    assert.deepEqual(sorted, variant.config);
    const { tensors } = readHeader(join(dir, "adapter_model.safetensors"));
    const keys = Object.fromEntries([...tensors].map(([key, { shape }]) => [key, shape]));
    assert.deepEqual(keys, variant.shapes);
    const again = readAdapter(dir, checkpoint);
    assert.deepEqual(again.settings, spec.settings);
    assert.deepEqual(again.values, new Map([...shapes.keys()].map((key) => [key, values.get(key)])));
    assert.deepEqual([...openAdapterWeights(dir).tensors.keys()].sort(), [...shapes.keys()].sort());
    assert.deepEqual(adapterConfig(again.settings, architecture, null), written);
  });
}

test("a moving average: what PyTorch makes of the same steps; it is what is evaluated, and the steps do not feel it", async () => {
  const variant = required(variants.dora, "dora");
  const [plain, averaged] = [await trained("dora", variant), await trained("dora", variant, 0.6)];
  assert.equal(plain.average, null);
  assert.deepEqual(averaged.values, plain.values);
  assert.deepEqual(
    averaged.reports.map(({ loss }) => loss),
    plain.reports.map(({ loss }) => loss),
  );
  assertClose("dora/average", required(averaged.average, "average"));
});

test("DoRA with dropout: where nothing is dropped it is DoRA without; where much is, the base still answers whole", async () => {
  const spec = await specOf("dora_everywhere", required(variants.dora_everywhere, "dora_everywhere"));
  assert.ok(spec.kind === "lora");
  const sums = async (dropout: number, values: NamedArrays) => {
    const engine = openEngine(tiny, { kind: "lora", settings: { ...spec.settings, dropout } });
    await engine.setValues(values);
    const { lossSum } = await engine.accumulate(await batchesOf(tiny, engine, true).batch([0, 3]), {
      ...{ weight: 1, dropoutSeed: 3 },
    });
    return { lossSum, gradients: structuredClone(await engine.gradients(1)) };
  };
  const values = startOf(spec);
  const [plain, none, much] = [await sums(0, values), await sums(1e-9, values), await sums(0.5, values)];
  const { share, at } = largestDifference(none.gradients, plain.gradients);
  assert.ok(share <= 1e-4, `${at} differs by ${share}`);
  assert.ok(Math.abs(none.lossSum / plain.lossSum - 1) <= 1e-6 && Math.abs(much.lossSum / plain.lossSum - 1) > 1e-4);
  const idle = initialValues(checkpoint, trainablesOf(checkpoint, spec), null); // A and B zero, magnitudes those of W
  const [base, dropped] = [await sums(0, idle), await sums(0.5, idle)];
  assert.ok(Math.abs(dropped.lossSum / base.lossSum - 1) <= 1e-6, "dropout reaches the adapter alone");
});
