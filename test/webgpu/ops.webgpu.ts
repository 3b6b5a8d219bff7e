// Every operation's forward values on WebGPU, against PyTorch. Dropout's mask, which PyTorch does not draw, is in placement.webgpu.ts.
import { test } from "node:test";
import { cases, checkValues } from "../graph/opsCases.ts";

for (const golden of cases) test(`values of ${golden.name} on WebGPU`, () => checkValues(golden, { kind: "webgpu" }));
