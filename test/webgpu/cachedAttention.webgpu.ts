// Attention over a cache on a WebGPU adapter, an empty one too.
import { test } from "node:test";
import { CASES, checkCase } from "../graph/attentionCases.ts";

const TOLERANCE = 1e-5;

for (const [name, one] of Object.entries(CASES))
  test(name, () => checkCase(one, { target: "webgpu", device: { kind: "webgpu" } }, TOLERANCE));
