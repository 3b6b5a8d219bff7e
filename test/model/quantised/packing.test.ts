// Which graphs pack their 8-bit weights: read off the graphs of a planned model whose layers are wide enough for rows.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Graph } from "../../../src/graph/graph.ts";
import { plannedCheckpoint } from "../../../src/model/checkpoint.ts";
import { decoderGraph, evalGraph, trainingGraph, visionGraph } from "../../../src/model/graphs.ts";
import { LLM_PROJECTIONS } from "../../../src/model/lora.ts";
import { partsFor } from "../../../src/model/quantised/parts.ts";
import { plannedQuantised } from "../../../src/model/quantised/planned.ts";
import { trainablesOf } from "../../../src/model/trainables.ts";
import { readJsonObject } from "../../../src/utils/json.ts";
import { scratchFolder } from "../../train/folders.ts";
import { TINY } from "../folders.ts";

const dir = scratchFolder("packing");
const config = readJsonObject(join(TINY, "config.json"), "the tiny model's");
const wide = (section: string, settings: object) => ({ [section]: { ...(config[section] as object), ...settings } });
const text = wide("text_config", { hidden_size: 512, intermediate_size: 1024, num_attention_heads: 32 });
const vision = wide("vision_config", { hidden_size: 512, intermediate_size: 1024, out_hidden_size: 512 });
writeFileSync(join(dir, "config.json"), JSON.stringify({ ...config, ...text, ...vision }));
const stored = plannedCheckpoint(dir);
const settings = { r: 4, alpha: 8, dropout: 0, targetModules: [...LLM_PROJECTIONS] };
const trainables = trainablesOf(stored, { kind: "lora", settings });

/** Whether products by rows ask for packing: [true], [false], or both. */
const packing = ({ nodes }: Graph): boolean[] => [
  ...new Set(
    nodes.flatMap((node) =>
      node.op === "QuantMatMul" && node.attrs.form.kind === "rows" && node.attrs.transposed
        ? [node.attrs.form.isPacked]
        : [],
    ),
  ),
];

for (const savesMemory of [false, true])
  test(`training packs where the turned values have a file: ${!savesMemory}; losses never do, answers and the tower always`, () => {
    const parts = partsFor(stored.architecture, { trains: "text", answers: true, savesMemory });
    const checkpoint = plannedQuantised(stored, "int8", parts);
    assert.deepEqual(packing(trainingGraph(checkpoint, trainables).graph), [!savesMemory]);
    assert.deepEqual(packing(evalGraph(checkpoint, trainables).graph), [false]);
    assert.deepEqual(packing(decoderGraph(checkpoint, trainables).graph), [true]);
    assert.deepEqual(packing(visionGraph(checkpoint, trainables).graph), [true]);
  });
