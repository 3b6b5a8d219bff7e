// How memory is saved: when attention is cut, and that no graph of long rows then holds the scores of all heads.
import assert from "node:assert/strict";
import { test } from "node:test";
import { costOf, peakBytes } from "../../src/graph/cost.ts";
import { lengthOf, sizeOf } from "../../src/graph/dim.ts";
import type { Graph } from "../../src/graph/graph.ts";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { evalGraph, trainingGraph } from "../../src/model/graphs.ts";
import { LLM_PROJECTIONS } from "../../src/model/lora.ts";
import { type MemorySettings, memorySettings, NOTHING_SAVED } from "../../src/model/memory.ts";
import { FULL, trainablesOf } from "../../src/model/trainables.ts";
import { TINY } from "./folders.ts";

const tiny = openCheckpoint(TINY);
const { architecture } = tiny;
const lora = trainablesOf(tiny, {
  kind: "lora",
  settings: { r: 4, alpha: 8, dropout: 0, targetModules: [...LLM_PROJECTIONS] },
});
const LONG = 8192;
const settingsFor = (
  heads: number,
  layers: number,
  tokensPerRow: number,
  { rows = 1, checkpoints = true } = {},
): MemorySettings =>
  memorySettings(
    { ...architecture, text: { ...architecture.text, heads, layers } },
    { rows, tokensPerRow, patches: 0 },
    checkpoints,
  );

test("short rows stay whole; long ones are cut until 4 MiB of scores are left, or into blocks that open fast; further where 256 MiB would be left", () => {
  assert.deepEqual(memorySettings(architecture, { rows: 8, tokensPerRow: 300, patches: 200 }, false), NOTHING_SAVED);
  const blocks = (...of: Parameters<typeof settingsFor>): number => settingsFor(...of).tokenBlocks;
  assert.deepEqual(
    [blocks(16, 8, 724), blocks(16, 8, 725), blocks(16, 28, 1103), blocks(16, 28, 1103, { rows: 2 })],
    [1, 8, 4, 4],
  );
  assert.deepEqual(
    [blocks(16, 28, 4096), blocks(32, 36, 1103), blocks(32, 36, 4096), blocks(32, 36, 8192)],
    [4, 4, 8, 16],
  );
  const { heads } = architecture.vision;
  const patches = (count: number) =>
    memorySettings(architecture, { rows: 1, tokensPerRow: 10, patches: count }, false).patchBlocks;
  const most = Math.floor(Math.sqrt(2 ** 23 / heads));
  assert.deepEqual([patches(most), patches(most + 1), patches(10 * most)], [1, 2, 4]);
});

test("what queries take of keys is kept while it is small, and no layer is computed again", () => {
  const kept = (tokens: number, checkpoints = false) => settingsFor(16, 8, tokens, { checkpoints }).keepsShares;
  const most = Math.floor(Math.sqrt(2 ** 28 / (4 * 16 * 8 * (9 / 16)))); // of 8 blocks 9 / 16 are computed
  assert.deepEqual([kept(most), kept(most + 1)], [true, false]);
  assert.equal(kept(most, true), false);
});

test("what passes over memory leave behind is kept while it is small, what attention makes while it is beside layers computed again", () => {
  const chosen = (tokensPerRow: number, checkpoints: boolean) =>
    memorySettings(architecture, { rows: 1, tokensPerRow, patches: 0 }, checkpoints);
  const { text } = architecture;
  const mixed = text.heads * text.headDim;
  const passes = 2 * text.intermediateSize + 2 * text.hiddenSize + mixed + 2 * text.kvHeads * text.headDim;
  const most = Math.floor(2 ** 28 / (4 * text.layers * passes));
  assert.deepEqual([chosen(most, false).recomputes, chosen(most + 1, false).recomputes], ["nothing", "passes"]);
  const held = Math.floor(2 ** 29 / (4 * text.layers * mixed));
  assert.deepEqual([chosen(held, true).keepsMixtures, chosen(held + 1, true).keepsMixtures], [true, false]);
  assert.deepEqual([chosen(9, true).recomputes, chosen(held, false).keepsMixtures], ["layers", false]);
});

/** The most elements of a value in a graph. */
function largestValue(graph: Graph, lengths: Readonly<Record<string, number>>): number {
  return Math.max(
    ...graph.nodes.flatMap(({ outputs }) => outputs.map(({ shape }) => lengthOf(sizeOf(shape), lengths))),
  );
}

test("no graph for 8192 tokens holds the scores of all heads", () => {
  const { heads } = architecture.text;
  const { tokenBlocks } = settingsFor(heads, architecture.text.layers, LONG);
  const lengths = { B: 1, T: LONG, Q: LONG / tokenBlocks, M: 12, N: 5 };
  const whole = trainingGraph(tiny, lora).graph;
  assert.equal(largestValue(whole, lengths), heads * LONG ** 2);
  for (const build of [trainingGraph, evalGraph])
    for (const recomputes of ["nothing", "passes", "layers"] as const) {
      const { graph } = build(tiny, lora, { ...NOTHING_SAVED, recomputes, tokenBlocks });
      const largest = Math.max(LONG ** 2, (heads * LONG ** 2) / tokenBlocks); // first what may be seen, once for all heads
      assert.ok(largestValue(graph, lengths) <= largest, `${largestValue(graph, lengths)}`);
    }
  const saved = trainingGraph(tiny, lora, { ...NOTHING_SAVED, recomputes: "layers", tokenBlocks }).graph;
  assert.ok(peakBytes(saved, lengths) < peakBytes(whole, lengths) / 8);
});

test("half of the scores of a causal model are never computed", () => {
  const tokenBlocks = 16;
  const flops = (memory: MemorySettings) =>
    costOf(evalGraph(tiny, lora, memory).graph)({ B: 1, T: LONG, Q: LONG / tokenBlocks, M: 12, N: 5 }).batchedFlops;
  const share = flops({ ...NOTHING_SAVED, tokenBlocks }) / flops(NOTHING_SAVED);
  assert.equal(share, (tokenBlocks + 1) / (2 * tokenBlocks));
});

test("a tower that trains holds a quarter of the scores of its patches", () => {
  const spec = trainablesOf(tiny, FULL);
  const { heads } = architecture.vision;
  const lengths = { B: 1, T: 16, N: 5, M: 1000 };
  const largest = (memory: MemorySettings) => largestValue(trainingGraph(tiny, spec, memory).graph, lengths);
  assert.equal(largest(NOTHING_SAVED), heads * 4000 ** 2);
  assert.equal(largest({ ...NOTHING_SAVED, recomputes: "layers", patchBlocks: 4 }), Math.max(heads / 4, 1) * 4000 ** 2);
});

test("each way to save memory saves some, and the backward pass reads nothing of what was to be forgotten", () => {
  const lengths = { B: 1, T: 512, Q: 128, M: 12, N: 5 };
  const inBlocks: MemorySettings = { ...NOTHING_SAVED, tokenBlocks: 4 };
  const built = (memory: MemorySettings) => {
    const { graph } = trainingGraph(tiny, lora, memory);
    const backward = graph.nodes.filter(({ outputs }) => outputs[0]?.name.startsWith("grad/"));
    const read = backward.flatMap(({ inputs }) => inputs.filter((input) => graph.forgotten.has(input)));
    assert.deepEqual(
      read.map(({ name }) => name),
      [],
    );
    return { peak: peakBytes(graph, lengths), flops: costOf(graph)(lengths).batchedFlops };
  };
  const kept = built(inBlocks);
  const passes = built({ ...inBlocks, recomputes: "passes" });
  const layers = built({ ...inBlocks, recomputes: "layers" });
  const mixtures = built({ ...inBlocks, recomputes: "layers", keepsMixtures: true });
  assert.ok(kept.peak > 1.2 * passes.peak && passes.peak > 1.2 * layers.peak, "peaks");
  assert.ok(layers.peak < mixtures.peak && mixtures.peak < passes.peak, "mixtures take some of it");
  assert.equal(kept.flops, passes.flops);
  assert.ok(layers.flops > kept.flops, "layers are computed again");
  assert.equal(mixtures.flops, kept.flops, "but not their mixtures");
  const shares = built({ ...inBlocks, keepsShares: true });
  assert.ok(shares.peak > kept.peak, "shares take memory");
  assert.equal(
    7 * shares.flops,
    6 * kept.flops,
    "of scores, mixtures, four gradients, and scores again, all but the last",
  );
});
