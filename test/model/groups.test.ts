// Parts of the model: every parameter in one of them, and the modules that PEFT would save.
import assert from "node:assert/strict";
import { test } from "node:test";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { groupModules, groupOf, PARAMETER_GROUPS, parametersInside } from "../../src/model/groups.ts";
import { trainsVision } from "../../src/model/layers.ts";
import { trainablesOf } from "../../src/model/trainables.ts";
import { peakRates, rateOf } from "../../src/train/rates.ts";

const tied = openCheckpoint("test/fixtures/tiny-qwen3vl/model");
const untied = openCheckpoint("test/fixtures/sharded-bf16/model");

test("every parameter is of one part, which its modules cover exactly", () => {
  for (const { architecture, tensors } of [tied, untied]) {
    for (const group of PARAMETER_GROUPS) {
      const own = [...tensors.keys()].filter((name) => groupOf(name) === group);
      assert.ok(own.length > 0, group);
      assert.deepEqual(parametersInside(architecture, groupModules(architecture, [group])).toSorted(), own.sort());
    }
  }
  const of = (name: string) => groupOf(`model.${name}`);
  assert.deepEqual(
    ["visual.patch_embed.proj.bias", "visual.pos_embed.weight", "visual.blocks.0.norm1.weight"].map(of),
    ["vision", "vision", "vision"],
  );
  assert.deepEqual(["visual.merger.norm.bias", "visual.deepstack_merger_list.1.norm.bias"].map(of), [
    "merger",
    "merger",
  ]);
  assert.deepEqual(
    [
      "language_model.norm.weight",
      "language_model.layers.2.mlp.up_proj.weight",
      "language_model.embed_tokens.weight",
    ].map(of),
    ["llm", "llm", "head"],
  );
  assert.equal(groupOf("lm_head.weight"), "head");
  assert.equal(groupOf("base_model.model.lm_head.lora_A.weight"), "head");
  assert.equal(groupOf("base_model.model.model.visual.merger.linear_fc1.lora_B.weight"), "merger");
});

test("modules are named as PEFT's modules_to_save", () => {
  assert.deepEqual(groupModules(tied.architecture, ["merger", "head"]), [
    ...["model.language_model.embed_tokens", "model.visual.merger"],
    ...["model.visual.deepstack_merger_list.0", "model.visual.deepstack_merger_list.1"],
  ]);
  assert.deepEqual(groupModules(untied.architecture, ["head"]), ["model.language_model.embed_tokens", "lm_head"]);
  assert.deepEqual(groupModules(tied.architecture, ["vision"]).slice(0, 3), [
    ...["model.visual.patch_embed", "model.visual.pos_embed", "model.visual.blocks.0"],
  ]);
});

test("what trains whole beside an adapter, and what cannot", () => {
  const settings = { r: 2, alpha: 4, dropout: 0, targetModules: ["q_proj"] };
  const of = (modulesToSave: readonly string[], targetModules = settings.targetModules, checkpoint = tied) =>
    trainablesOf(checkpoint, { kind: "lora", settings: { ...settings, targetModules, modulesToSave } });
  assert.equal(trainsVision(of([])), false);
  assert.equal(trainsVision(of(["merger"])), true);
  assert.deepEqual([...of(["lm_head"]).full], ["model.language_model.embed_tokens.weight"]);
  assert.deepEqual([...of(["lm_head"], ["q_proj"], untied).full], ["lm_head.weight"]);
  assert.throws(() => of(["nothing"]), /modules_to_save: no module with parameters is called "nothing"/);
  assert.throws(
    () => of(["layers.1"]),
    /^UserError: --train llm: model\.language_model\.layers\.1\.self_attn\.q_proj would/,
  );
  assert.throws(
    () => of(["merger"], ["linear_fc1"]),
    /^UserError: --train merger: .* \(and \d+ more\)|--train merger: /,
  );
  assert.throws(
    () => of(["embed_tokens"], ["lm_head"]),
    /--train head: lm_head would train whole and under an adapter/,
  );
});

test("rates: of a part, of B and magnitudes under LoRA+; the first is --lr's where anything follows it", () => {
  const none = { lrVision: null, lrMerger: null, lrLlm: null, lrHead: null, loraplusLrRatio: null };
  const names = ["model.visual.merger.norm.bias", "lm_head.weight"];
  const q = "base_model.model.model.language_model.layers.0.self_attn.q_proj";
  const adapter = ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"].map((part) => `${q}.${part}`);
  assert.deepEqual(adapter.map(rateOf), ["llm", "llm.lora_B", "llm.lora_B"]);
  const rates = (own: object, trained = [...names, ...adapter]) => peakRates({ lr: 1, ...none, ...own }, trained);
  assert.deepEqual(rates({}), { peak: 1, otherPeaks: {} });
  assert.deepEqual(rates({ lrMerger: 0.5, lrHead: 1 }), { peak: 1, otherPeaks: { merger: 0.5 } });
  assert.deepEqual(rates({ loraplusLrRatio: 4, lrLlm: 0.25 }), { peak: 1, otherPeaks: { llm: 0.25 } });
  assert.deepEqual(rates({ loraplusLrRatio: 8, lrLlm: 0.25 }, adapter), {
    peak: 0.25,
    otherPeaks: { "llm.lora_B": 2 },
  });
  assert.deepEqual(rates({ lrMerger: 0 }), { peak: 1, otherPeaks: { merger: 0 } });
  assert.throws(
    () => rates({ lrVision: 0.1 }),
    /^UserError: --lr-vision: nothing of the vision trains; add it to --train/,
  );
});
