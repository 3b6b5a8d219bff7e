// Adafactor against transformers over ten steps, whole tensors; what it remembers, and what it must not depend on.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { CPU } from "../../src/runtime/device.ts";
import { type Layout, layoutOf } from "../../src/train/layout.ts";
import {
  type Moment,
  type MomentGroup,
  momentShapes,
  NO_MOMENTS,
  type OptimName,
  optimOf,
  putMoments,
} from "../../src/train/moments.ts";
import { ADAMW_DEFAULTS, clipFactor, norm, type Optimizer } from "../../src/train/optimizer.ts";
import { optimizerFor } from "../../src/train/optimizers.ts";
import { elementCount } from "../../src/utils/safetensors.ts";
import { fill } from "./optimizerFixture.ts";

type Arrays = readonly (readonly number[] | null)[];
interface Run {
  readonly shapes: readonly (readonly number[])[];
  readonly weight_decay: number;
  readonly max_grad_norm: number;
  readonly has_zeros: boolean;
  readonly steps: readonly { readonly grad_norm: number; readonly values?: Arrays }[];
  readonly exp_avg_sq_row: Arrays;
  readonly exp_avg_sq_col: Arrays;
  readonly exp_avg_sq: Arrays;
}

const { runs } = JSON.parse(readFileSync("test/fixtures/train/adafactor.json", "utf8")) as { runs: readonly Run[] };
const F32 = 5e-7; // of the largest: means of float32 squares in another order

/** Layouts put what decays first: parameters are told apart by name. */
const nameOf = (i: number, shape: readonly number[]): string => `p${i}.${shape.length < 2 ? "bias" : "weight"}`;
const layoutFor = (shapes: Run["shapes"]): Layout =>
  layoutOf(new Map(shapes.map((shape, i) => [nameOf(i, shape), shape])));

interface Held {
  readonly layout: Layout;
  readonly optimizer: Optimizer;
  readonly values: Float32Array;
  readonly gradients: Float64Array;
}

function held(shapes: Run["shapes"], optim: OptimName = "adafactor"): Held {
  const layout = layoutFor(shapes);
  const settings = { ...ADAMW_DEFAULTS, optim, weightDecay: 0 };
  const state = { values: new Float32Array(layout.size), gradients: new Float64Array(layout.size) };
  return { layout, optimizer: optimizerFor(layout, settings, CPU), ...state };
}

function put(
  flat: Float32Array | Float64Array,
  { slots }: Layout,
  of: (i: number, size: number) => Float32Array,
): void {
  for (const { name, start, end } of slots) flat.set(of(Number(/\d+/.exec(name)?.[0]), end - start), start);
}

function gradientAt(run: Run, step: number): (i: number, size: number) => Float32Array {
  return (i, size) => {
    const gradient = fill(size, 100 * step + i, 10 ** ((step % 4) - 2));
    const [, columns = 1] = run.shapes[0] ?? [];
    if (run.has_zeros && i === 0) for (let at = 3; at < size; at += columns) gradient[at] = 0;
    return run.has_zeros && i === run.shapes.length - 1 ? gradient.fill(0) : gradient;
  };
}

async function step({ optimizer, layout, values, gradients }: Held, run: Run, n: number): Promise<number> {
  put(gradients, layout, gradientAt(run, n));
  const gradNorm = norm(gradients);
  const gradientScale = clipFactor(gradNorm, run.max_grad_norm);
  await optimizer.update({ values, gradients }, ({ isDecayed }) => ({
    ...{ learningRate: 1e-3 * n, step: n, gradientScale },
    weightDecay: isDecayed ? run.weight_decay : 0,
  }));
  return gradNorm;
}

function assertClose(got: Moment | undefined, expected: readonly number[], what: string): void {
  assert.equal(got?.length, expected.length, what);
  const largest = expected.reduce((max, v) => Math.max(max, Math.abs(v)), 0);
  expected.forEach((value, i) => {
    const error = Math.abs((got?.[i] ?? Number.NaN) - value);
    assert.ok(error <= F32 * largest, `${what}[${i}] is ${got?.[i]}, transformers has ${value}`);
  });
}

for (const run of runs) {
  const about = `weight decay ${run.weight_decay}, clipped at ${run.max_grad_norm || "nothing"}`;
  test(`ten steps as transformers', ${about}${run.has_zeros ? ", with zeros" : ""}`, async () => {
    const state = held(run.shapes);
    const { layout, optimizer, values } = state;
    put(values, layout, (i, size) => fill(size, i + 1, 1));
    for (const [i, { grad_norm, values: expected }] of run.steps.entries()) {
      const gradNorm = await step(state, run, i + 1);
      assert.ok(Math.abs(gradNorm / grad_norm - 1) < F32, `norm ${gradNorm}, transformers has ${grad_norm}`);
      for (const { name, start, end } of expected ? layout.slots : []) {
        const index = Number(/\d+/.exec(name)?.[0]);
        assertClose(values.subarray(start, end), expected?.[index] ?? [], `step ${i + 1}, ${name}`);
      }
    }
    const moments = optimizer.moments();
    for (const group of ["exp_avg_sq_row", "exp_avg_sq_col", "exp_avg_sq"] as const) {
      const expected = run[group].flatMap((one, i) => (one ? [[nameOf(i, run.shapes[i] ?? []), one] as const] : []));
      assert.deepEqual([...(moments.get(group) ?? new Map()).keys()].sort(), expected.map(([name]) => name).sort());
      for (const [name, one] of expected) assertClose(moments.get(group)?.get(name), one, `${group} of ${name}`);
    }
    await optimizer.release();
  });
}

test("a matrix too large for one run comes out as its parts would together", async () => {
  const [rows, columns] = [1100, 2000];
  const large = held([[rows, columns]]);
  put(large.values, large.layout, (_, size) => fill(size, 1, 1));
  const values = Float64Array.from(large.values);
  const run = { shapes: [[rows, columns]], weight_decay: 0.1, max_grad_norm: 1, has_zeros: false } as unknown as Run;
  const gradNorm = await step(large, run, 1);
  // the formulas, in double; at the first step nothing is remembered
  const scale = clipFactor(gradNorm, 1);
  const g = Float64Array.from(gradientAt(run, 1)(0, rows * columns), (v) => v * scale);
  const [rowMeans, columnMeans] = [new Float64Array(rows), new Float64Array(columns)];
  g.forEach((v, i) => {
    const [r, c] = [Math.floor(i / columns), i % columns];
    rowMeans[r] = (rowMeans[r] as number) + (v * v) / columns;
    columnMeans[c] = (columnMeans[c] as number) + (v * v) / rows;
  });
  const mean = rowMeans.reduce((a, b) => a + b) / rows;
  const u = g.map((v, i) => {
    const [r, c] = [Math.floor(i / columns), i % columns];
    return v / Math.sqrt(((rowMeans[r] as number) / mean) * (columnMeans[c] as number));
  });
  const size = Math.max(1, Math.sqrt(u.reduce((sum, v) => sum + v * v, 0) / u.length));
  const expected = values.map((v, i) => v * (1 - 0.1 * 1e-3) - (1e-3 / size) * (u[i] as number));
  assertClose(large.values, [...expected], "value");
  await large.optimizer.release();
});

test("what it remembers takes a row and a column, and is all that the next step depends on", async () => {
  const [run] = runs as readonly [Run];
  const [one, other] = [held(run.shapes), held(run.shapes)];
  put(one.values, one.layout, (i, size) => fill(size, i + 1, 1));
  for (const n of [1, 2]) await step(one, run, n);
  for (const [group, arrays] of one.optimizer.moments())
    for (const [name, values] of arrays) other.optimizer.moments().get(group)?.get(name)?.set(values);
  other.values.set(one.values);
  for (const state of [one, other]) await step(state, run, 3);
  assert.deepEqual(other.values, one.values);
  assert.deepEqual(other.optimizer.moments(), one.optimizer.moments());
  const shapes = new Map(run.shapes.map((shape, i) => [nameOf(i, shape), shape]));
  const told: [MomentGroup, string, number][] = [...shapes].flatMap(([name, shape]) =>
    momentShapes("adafactor", shape).map((one): [MomentGroup, string, number] => [
      one.group,
      name,
      elementCount(one.shape),
    ]),
  );
  const found = [...one.optimizer.moments()].flatMap(([group, arrays]) =>
    [...arrays].map(([name, { length }]): [MomentGroup, string, number] => [group, name, length]),
  );
  assert.deepEqual(found.sort(), told.sort());
  for (const { optimizer } of [one, other]) await optimizer.release();
});

test("moments of one optimizer are not taken for another's", () => {
  const [adafactor, adamw] = [held([[2, 3]]).optimizer.moments(), held([[2, 3]], "adamw_torch").optimizer.moments()];
  assert.deepEqual([optimOf(adafactor.keys()), optimOf(adamw.keys()), optimOf([])], ["adafactor", "adamw_torch", null]);
  assert.throws(
    () => putMoments(adamw, adafactor),
    /--optim adamw_torch: the checkpoint holds what adafactor remembers; go on with --optim adafactor/,
  );
  assert.throws(
    () => putMoments(adafactor, adamw),
    /--optim adafactor: the checkpoint holds what adamw_torch remembers/,
  );
  adamw.get("exp_avg")?.get("p0.weight")?.fill(3);
  putMoments(adamw, NO_MOMENTS);
  assert.deepEqual(adamw, held([[2, 3]], "adamw_torch").optimizer.moments());
});
