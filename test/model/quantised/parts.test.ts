// Which parts of the weights in few bits a run asks for.
import assert from "node:assert/strict";
import { test } from "node:test";
import { openCheckpoint } from "../../../src/model/checkpoint.ts";
import { partsFor } from "../../../src/model/quantised/parts.ts";
import { TINY } from "../folders.ts";

const { architecture } = openCheckpoint(TINY);
/** 50.3 million numbers in a layer. */
const WIDE = { hiddenSize: 2048, intermediateSize: 6144, heads: 16, kvHeads: 8, headDim: 128 };

test("what a run does decides what is kept for it", () => {
  const parts = (trains: "nothing" | "text" | "tower", answers: boolean) =>
    partsFor(architecture, { trains, answers, savesMemory: true });
  assert.deepEqual(parts("nothing", true), ["text", "vision", "head"]);
  assert.deepEqual(parts("text", false), ["text", "vision", "text.transposed"]);
  assert.deepEqual(parts("tower", true), ["text", "vision", "text.transposed", "vision.transposed", "head"]);
});

test("turned values are kept while weights are few and memory is not to be saved", () => {
  const turns = (layers: number, savesMemory: boolean): boolean =>
    partsFor(
      { ...architecture, text: { ...architecture.text, ...WIDE, layers } },
      { trains: "text", answers: false, savesMemory },
    ).includes("text.turned");
  assert.deepEqual([turns(28, false), turns(28, true), turns(42, false), turns(43, false)], [true, false, true, false]);
});
