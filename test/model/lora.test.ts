// Which layers an adapter attaches to, against PEFT, and how it begins.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { readArchitecture } from "../../src/model/architecture.ts";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { initialValues } from "../../src/model/initialValues.ts";
import { trainsVision } from "../../src/model/layers.ts";
import { LLM_PROJECTIONS, loraModules } from "../../src/model/lora.ts";
import { trainablesOf } from "../../src/model/trainables.ts";
import { UserError } from "../../src/utils/errors.ts";
import { TINY } from "./folders.ts";

const architecture = readArchitecture(TINY);
const settings = { r: 4, alpha: 32, dropout: 0, targetModules: [...LLM_PROJECTIONS] };
const keysOf = (targetModules: readonly string[] | string): string[] =>
  loraModules(architecture, { ...settings, targetModules }).flatMap(({ keyA, keyB }) => [keyA, keyB]);

const { cases } = JSON.parse(readFileSync("test/fixtures/train/adapters/targets.json", "utf8")) as {
  cases: readonly {
    about: string;
    target_modules: string | string[];
    shapes: Record<string, readonly [number, number]>;
  }[];
};

for (const { about, target_modules: targets, shapes } of cases) {
  test(`PEFT attaches to the same layers: ${about}`, () => {
    // a linear layer's two factors; convolutions and embeddings, which PEFT adapts too, are not ours
    const linear = Object.keys(shapes).filter((key) => !/patch_embed|embed_tokens/.test(key));
    assert.deepEqual(keysOf(targets).sort(), linear.sort());
  });
}

test("the seven projections of every text layer, as PEFT wrote them", () => {
  assert.equal(keysOf(LLM_PROJECTIONS).length, 2 * 7 * 3);
  assert.equal(
    keysOf(LLM_PROJECTIONS)[0],
    "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight",
  );
});

test("a name or an ending counts from a dot on; a regex must match the whole name", () => {
  assert.deepEqual(keysOf(["lm_head"]), [
    "base_model.model.lm_head.lora_A.weight",
    "base_model.model.lm_head.lora_B.weight",
  ]);
  for (const targets of [["_proj"], ["roj"], "q_proj", ".*layers\\.0", ["model.layers.0.self_attn.q_proj"]])
    assert.throws(
      () => keysOf(targets),
      (thrown: Error) =>
        thrown instanceof UserError &&
        /^--lora-targets: .* matches no linear layer; names look like/.test(thrown.message),
    );
  assert.throws(() => keysOf("(q_proj"), /--lora-targets: "\(q_proj" is not a regular expression/);
});

test("an adapter on the vision tower makes the tower part of training", () => {
  const checkpoint = openCheckpoint(TINY);
  const trains = (targetModules: string | readonly string[]) =>
    trainsVision(trainablesOf(checkpoint, { kind: "lora", settings: { ...settings, targetModules } }));
  assert.deepEqual([trains(LLM_PROJECTIONS), trains(["qkv", "q_proj"]), trains("all-linear")], [false, true, true]);
  assert.throws(
    () => trainablesOf(checkpoint, { kind: "lora", settings: { ...settings, r: 0 } }),
    /--lora-r: expected a rank of at least 1, got 0/,
  );
});

test("A is uniform within 1/sqrt(in), B is zero, the same for a seed", () => {
  const checkpoint = openCheckpoint(TINY);
  const trainables = trainablesOf(checkpoint, { kind: "lora", settings: { ...settings, r: 64 } });
  const modules = loraModules(architecture, settings);
  const adapter = initialValues(checkpoint, trainables, 5);
  for (const { keyA, keyB, inFeatures, outFeatures } of modules) {
    const [a, b] = [adapter.get(keyA), adapter.get(keyB)];
    assert.equal(a?.length, 64 * inFeatures);
    assert.deepEqual(b, new Float32Array(outFeatures * 64));
    const bound = Math.fround(1 / Math.sqrt(inFeatures));
    const [mean, square, largest] = (a ?? new Float32Array()).reduce(
      ([m, s, x], v) => [m + v / 64 / inFeatures, s + v ** 2 / 64 / inFeatures, Math.max(x, Math.abs(v))],
      [0, 0, 0],
    );
    assert.ok(largest <= bound && largest > 0.99 * bound, `${keyA} reaches ${largest} of ${bound}`);
    assert.ok(Math.abs(mean) < 0.05 * bound && Math.abs(square / (bound ** 2 / 3) - 1) < 0.1, `${keyA} is uniform`);
  }
  assert.deepEqual(initialValues(checkpoint, trainables, 5), adapter);
  const first = modules[0]?.keyA ?? "";
  assert.notDeepEqual(initialValues(checkpoint, trainables, 6).get(first), adapter.get(first));
  assert.notDeepEqual(adapter.get(modules[1]?.keyA ?? ""), adapter.get(first));
});
