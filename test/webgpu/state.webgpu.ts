// Parameters, moments, averages and gradients that stay on the device, against those that the host keeps.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { RemoteEngine } from "../../src/engine/start.ts";
import { FULL } from "../../src/model/trainables.ts";
import type { NamedArrays, ReplicaState } from "../../src/train/replica.ts";
import { required } from "../../src/utils/errors.ts";
import { adapterOf, batchesOf, largestDifference, loadTiny, loraSpec, openEngine } from "../tiny.ts";

const tiny = await loadTiny();
const WEBGPU = { kind: "webgpu" } as const;
const RATE = 1e-3;
const GRADIENT_TOLERANCE = 1e-4; // of the largest number of each tensor
const VALUE_TOLERANCE = 2e-4; // Adam turns the sign of a gradient near zero into a step of RATE

function assertNear(got: NamedArrays, expected: NamedArrays, tolerance: number, what: string): void {
  const { share, at } = largestDifference(got, expected);
  assert.ok(share <= tolerance, `${what}: ${at} is off by ${share}, allowed ${tolerance}`);
}

function assertNearAbsolute(got: NamedArrays, expected: NamedArrays, what: string): void {
  for (const [name, values] of expected) {
    const other = required(got.get(name), name);
    values.forEach((value, i) => {
      const error = Math.abs((other[i] as number) - value);
      assert.ok(error <= VALUE_TOLERANCE, `${what}: ${name}[${i}] is ${other[i]}, on the CPU ${value}`);
    });
  }
}

async function train(engine: RemoteEngine, steps: number): Promise<number[]> {
  const { batch } = batchesOf(tiny, engine);
  const norms: number[] = [];
  for (let step = 1; step <= steps; step++) {
    let total = 0;
    for (const index of [0, 1]) {
      const { tokenCount } = await engine.accumulate(await batch([index]), { weight: 0.5, dropoutSeed: 0 });
      total += 0.5 * tokenCount;
    }
    norms.push(await engine.update({ total, learningRate: RATE, step }));
  }
  return norms;
}

const partsOf = ({ values, average, moments }: ReplicaState) => ({ values, average, moments });

test("two steps of two micro-batches: norms, values, average and moments", async () => {
  const choices = { weightDecay: 0.01, emaDecay: 0.9 };
  const [host, device] = [
    openEngine(tiny, loraSpec(), choices),
    openEngine(tiny, loraSpec(), { ...choices, device: WEBGPU }),
  ];
  for (const engine of [host, device]) await engine.setValues(adapterOf(tiny));
  const [expectedNorms, norms] = [await train(host, 2), await train(device, 2)];
  norms.forEach((norm, i) => {
    assert.ok(Math.abs(norm / (expectedNorms[i] as number) - 1) < 1e-4, `norm ${norm}, on the CPU ${expectedNorms[i]}`);
  });
  const [expected, got] = [await host.state(), await device.state()];
  for (const [group, arrays] of expected.moments as ReadonlyMap<string, NamedArrays>) {
    const others = (got.moments as ReadonlyMap<string, NamedArrays>).get(group);
    assertNear(required(others, group), arrays, GRADIENT_TOLERANCE, group);
  }
  assertNearAbsolute(got.values, expected.values, "values");
  assertNearAbsolute(required(got.average, "average"), required(expected.average, "average"), "average");
  assert.ok([...got.values].some(([name, values]) => values.some((v, i) => v !== adapterOf(tiny).get(name)?.[i])));

  await device.setState(expected);
  assert.deepEqual(partsOf(await device.state()), partsOf(expected), "what is set comes back, bit for bit");
  await device.releaseTraining();
  assert.deepEqual(partsOf(await device.state()), partsOf(expected), "and outlives the sessions");
});

test("gradients are summed, divided and forgotten", async () => {
  const [host, device] = [openEngine(tiny, loraSpec()), openEngine(tiny, loraSpec(), { device: WEBGPU })];
  for (const engine of [host, device]) {
    await engine.setValues(adapterOf(tiny));
    const { batch } = batchesOf(tiny, engine);
    await engine.accumulate(await batch([0, 1]), { weight: 1, dropoutSeed: 0 });
    await engine.accumulate(await batch([2]), { weight: 0.25, dropoutSeed: 0 });
  }
  assertNear(await device.gradients(7), await host.gradients(7), GRADIENT_TOLERANCE, "gradients");
  await device.clearGradients();
  for (const values of (await device.gradients(1)).values()) assert.ok(values.every((value) => value === 0));
});

test("a gradient that is not finite changes nothing", async () => {
  const device = openEngine(tiny, loraSpec(), { device: WEBGPU });
  await device.setValues(adapterOf(tiny));
  const before = await device.state();
  const { batch } = batchesOf(tiny, device);
  const { tokenCount } = await device.accumulate(await batch([0]), { weight: Number.NaN, dropoutSeed: 0 });
  assert.ok(!Number.isFinite(await device.update({ total: tokenCount, learningRate: RATE, step: 1 })));
  assert.deepEqual(partsOf(await device.state()), partsOf(before));
});

test("whole parameters start from the checkpoint, bit for bit", async () => {
  const [host, device] = [openEngine(tiny, FULL), openEngine(tiny, FULL, { device: WEBGPU })];
  assert.deepEqual((await device.state()).values, (await host.state()).values);
});
