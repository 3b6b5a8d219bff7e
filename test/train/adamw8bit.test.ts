// AdamW with 8-bit moments against torchao's over five steps: maps, codes, scales and values in full.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { CPU } from "../../src/runtime/device.ts";
import { DynamicMap } from "../../src/train/dynamicMap.ts";
import { layoutOf } from "../../src/train/layout.ts";
import { type Moment, type MomentGroup, momentShapes } from "../../src/train/moments.ts";
import { ADAMW_DEFAULTS } from "../../src/train/optimizer.ts";
import { optimizerFor } from "../../src/train/optimizers.ts";
import { elementCount } from "../../src/utils/safetensors.ts";
import { fill } from "./optimizerFixture.ts";

type Kept = { readonly codes: string; readonly largest: string } | { readonly numbers: string };
interface Fixture {
  readonly maps: { readonly signed: readonly number[]; readonly unsigned: readonly number[] };
  readonly run: {
    readonly shapes: readonly (readonly number[])[];
    readonly weight_decay: number;
    readonly steps: number;
    readonly values: readonly string[];
    readonly first: readonly Kept[];
    readonly second: readonly Kept[];
  };
}

const { maps, run } = JSON.parse(readFileSync("test/fixtures/train/adamw8bit.json", "utf8")) as Fixture;
const bytesIn = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(text, "base64"));
const floatsIn = (text: string): Float32Array => new Float32Array(bytesIn(text).buffer);

test("the maps are bitsandbytes', every number of them", () => {
  assert.deepEqual([...new DynamicMap(true).values], maps.signed);
  assert.deepEqual([...new DynamicMap(false).values], maps.unsigned);
});

test("a number becomes the nearest of the map", () => {
  for (const isSigned of [true, false]) {
    const map = new DynamicMap(isSigned);
    const tries = Float32Array.from({ length: 20_000 }, (_, i) => {
      const size = 10 ** (-9 * ((i * 0.618) % 1));
      return isSigned && i % 2 === 1 ? -size : size;
    });
    const all = Float32Array.from([...tries, ...map.values, 0, -0, 1, ...(isSigned ? [-1] : [])]);
    const codes = new Uint8Array(all.length);
    map.encode(all, new Uint32Array(all.buffer), codes);
    for (const [i, x] of all.entries()) {
      const distance = Math.abs(x - (map.values[codes[i] as number] as number));
      const least = map.values.reduce((best, one) => Math.min(best, Math.abs(x - one)), 2);
      assert.ok(distance <= least * (1 + 1e-5) + 1e-12, `${x} became ${map.values[codes[i] as number]}`);
    }
  }
});

const nameOf = (i: number, shape: readonly number[]): string => `p${i}.${shape.length < 2 ? "bias" : "weight"}`;

function opened(shapes: readonly (readonly number[])[]) {
  const layout = layoutOf(new Map(shapes.map((shape, i) => [nameOf(i, shape), shape])));
  const optimizer = optimizerFor(layout, { ...ADAMW_DEFAULTS, optim: "adamw_8bit", weightDecay: 0 }, CPU);
  return { layout, optimizer, values: new Float32Array(layout.size), gradients: new Float64Array(layout.size) };
}

const indexOf = (name: string): number => Number(/\d+/.exec(name)?.[0]);

async function step({ layout, optimizer, ...flats }: ReturnType<typeof opened>, n: number): Promise<void> {
  for (const { name, start, end } of layout.slots) {
    const gradient = fill(end - start, 100 * n + indexOf(name), 10 ** ((n % 3) - 1));
    for (let i = 0; i < gradient.length; i += 7) gradient[i] = Math.fround((gradient[i] as number) * Math.fround(0.03));
    if (indexOf(name) === 0) gradient.fill(0, 256, 512);
    flats.gradients.set(gradient, start);
  }
  await optimizer.update(flats, ({ isDecayed }) => ({
    ...{ learningRate: 1e-3 * n, step: n, gradientScale: 1 },
    weightDecay: isDecayed ? run.weight_decay : 0,
  }));
}

/** Where they differ at all: the last bit of a sum, or a number on the border of two codes. */
function assertNear(got: Moment | undefined, expected: Moment, within: number, what: string): void {
  assert.equal(got?.length, expected.length, what);
  expected.forEach((value, i) => {
    const error = Math.abs((got?.[i] ?? Number.NaN) - value);
    assert.ok(error <= within, `${what}[${i}] is ${got?.[i]}, torchao has ${value}`);
  });
}

const largestOf = (values: Float32Array): number => values.reduce((max, v) => Math.max(max, Math.abs(v)), 0);

test("five steps as torchao's AdamW8bit: a block of zeros, a parameter too small for 8 bits", async () => {
  const state = opened(run.shapes);
  for (const { name, start, end } of state.layout.slots)
    state.values.set(fill(end - start, indexOf(name) + 1, 1), start);
  for (let n = 1; n <= run.steps; n++) await step(state, n);
  const moments = state.optimizer.moments();
  for (const { name, shape, start, end } of state.layout.slots) {
    const i = indexOf(name);
    assertNear(state.values.subarray(start, end), floatsIn(run.values[i] ?? ""), 1e-6, `value of ${name}`);
    for (const [kind, groups] of [
      ["first", ["state1", "absmax1", "exp_avg"]],
      ["second", ["state2", "absmax2", "exp_avg_sq"]],
    ] as const) {
      // biome-ignore format: one line
      const kept = run[kind][i] as Kept;
      const found = groups.map((group) => moments.get(group)?.get(name));
      assert.equal("numbers" in kept, elementCount(shape) < 4096);
      if ("numbers" in kept) {
        const expected = floatsIn(kept.numbers);
        assertNear(found[2], expected, 3e-7 * largestOf(expected), `${groups[2]} of ${name}`);
        continue;
      }
      assert.deepEqual(found[0], bytesIn(kept.codes), `${groups[0]} of ${name}`);
      const largest = floatsIn(kept.largest);
      assertNear(found[1], largest, 3e-7 * largestOf(largest), `${groups[1]} of ${name}`);
    }
  }
});

test("a last block that is not full, and all that the next step depends on", async () => {
  const [one, other] = [opened([[4097], [70, 70]]), opened([[4097], [70, 70]])];
  for (const n of [1, 2]) await step(one, n);
  for (const [group, arrays] of one.optimizer.moments())
    for (const [name, values] of arrays) other.optimizer.moments().get(group)?.get(name)?.set(values);
  other.values.set(one.values);
  for (const state of [one, other]) await step(state, 3);
  assert.deepEqual(other.values, one.values);
  assert.deepEqual(other.optimizer.moments(), one.optimizer.moments());
  const told: [MomentGroup, number][] = momentShapes("adamw_8bit", [4097]).map((of) => [
    of.group,
    elementCount(of.shape),
  ]);
  assert.deepEqual(told, [["state1", 4097], ["absmax1", 17], ["state2", 4097], ["absmax2", 17]]); // biome-ignore format: one line
  for (const [group, length] of told) assert.equal(one.optimizer.moments().get(group)?.get("p0.bias")?.length, length);
});
