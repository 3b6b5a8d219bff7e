/**
 * Prints the inputs and outputs of every graph that a checkpoint becomes, or one graph node by node (docs/architecture.md).
 *
 *   npx tsx scripts/showGraphs.ts test/fixtures/tiny-qwen3vl/model                       LoRA, vision frozen
 *   npx tsx scripts/showGraphs.ts test/fixtures/tiny-qwen3vl/model full                  every weight trains
 *   npx tsx scripts/showGraphs.ts test/fixtures/tiny-qwen3vl/model lora training_model   its nodes
 */
import type { Shape } from "../src/graph/dim.ts";
import type { Graph } from "../src/graph/graph.ts";
import { printGraph } from "../src/graph/print.ts";
import { openCheckpoint } from "../src/model/checkpoint.ts";
import { decoderGraph, evalGraph, trainingGraph, visionGraph } from "../src/model/graphs.ts";
import { LLM_PROJECTIONS } from "../src/model/lora.ts";
import { FULL, type TrainableSpec, trainablesOf } from "../src/model/trainables.ts";
import { ADAMW_DEFAULTS, optimizerGraph } from "../src/train/optimizer.ts";
import { UserError } from "../src/utils/errors.ts";

const SPECS: Readonly<Record<string, TrainableSpec>> = {
  lora: { kind: "lora", settings: { r: 4, alpha: 32, dropout: 0.1, targetModules: LLM_PROJECTIONS } },
  full: FULL,
};

interface Port {
  readonly name: string;
  readonly dtype: string;
  readonly shape: Shape;
}

/** One line for all ports that differ by numbers in their names alone. */
function grouped(ports: readonly Port[]): string[] {
  const groups = new Map<string, { name: string; count: number }>();
  for (const { name, dtype, shape } of ports) {
    const type = `${dtype} [${shape.join(", ")}]`;
    const key = `${name.replace(/\d+/g, "N")} ${type}`;
    const known = groups.get(key);
    if (known) known.count++;
    else groups.set(key, { name: `${name.padEnd(24)} ${type}`, count: 1 });
  }
  return [...groups.values()].map(({ name, count }) => (count === 1 ? name : `${name}  and ${count - 1} more like it`));
}

function summary({ name, inputs, outputs, nodes, weights }: Graph): string {
  const ports = outputs.map(({ name, value }) => ({ name, dtype: value.dtype, shape: value.shape }));
  return [
    `${name}: ${nodes.length} nodes, ${weights.length} weights in files`,
    ...grouped(inputs).map((line) => `  in   ${line}`),
    ...grouped(ports).map((line) => `  out  ${line}`),
  ].join("\n");
}

function main([dir, kind = "lora", only]: readonly string[]): void {
  const spec = SPECS[kind];
  if (!dir || !spec) throw new UserError("usage: npx tsx scripts/showGraphs.ts MODEL_DIR [lora|full] [GRAPH]");
  const checkpoint = openCheckpoint(dir);
  const trainables = trainablesOf(checkpoint, spec);
  const models = [trainingGraph, evalGraph, visionGraph, decoderGraph].map((build) => build(checkpoint, trainables));
  const graphs = [...models.map(({ graph }) => graph), optimizerGraph(ADAMW_DEFAULTS)];
  const wanted = only ? graphs.filter(({ name }) => name === only) : graphs;
  if (wanted.length === 0)
    throw new UserError(`${only}: no such graph; expected one of ${graphs.map(({ name }) => name).join(", ")}`);
  for (const graph of wanted) console.log(only ? printGraph(graph) : `${summary(graph)}\n`);
}

if (import.meta.filename === process.argv[1]) {
  try {
    main(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof UserError ? error.message : error);
    process.exitCode = error instanceof UserError ? 2 : 1;
  }
}
