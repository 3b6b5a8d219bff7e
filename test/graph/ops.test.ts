// Every operation's forward values on the CPU, against PyTorch.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CPU } from "../../src/runtime/device.ts";
import { builds, cases, checkValues } from "./opsCases.ts";

for (const golden of cases) test(`values of ${golden.name}`, () => checkValues(golden, CPU));

test("every reference has a build and every build a reference", () => {
  assert.deepEqual(Object.keys(builds).sort(), cases.map(({ name }) => name).sort());
});
