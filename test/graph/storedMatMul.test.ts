// Products with weights that stay in their file, stored in float32, bfloat16 and float16: against products worked out in double.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { builderOf } from "../../src/graph/builder.ts";
import { Graph } from "../../src/graph/graph.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { MOST_AT_ONCE } from "../../src/graph/storedMatMul.ts";
import { CPU } from "../../src/runtime/device.ts";
import { openSession } from "../../src/runtime/session.ts";
import { floats } from "../../src/runtime/tensor.ts";
import { bf16ToFloat32, float16ToFloat32, float32ToBf16, float32ToFloat16 } from "../../src/utils/bf16.ts";
import { required } from "../../src/utils/errors.ts";
import { randomFrom } from "../../src/utils/random.ts";

const folder = mkdtempSync(join(tmpdir(), "stored-"));
after(() => rmSync(folder, { recursive: true }));

const random = (size: number, seed: string): Float32Array => {
  const source = randomFrom(seed);
  return Float32Array.from({ length: size }, () => source.normal());
};

/** What is stored of some numbers, and what they are after it. */
const STORED = {
  float32: (values: Float32Array) => ({ bytes: values, values }),
  bfloat16: (values: Float32Array) => ({ bytes: float32ToBf16(values), values: bf16ToFloat32(float32ToBf16(values)) }),
  float16: (values: Float32Array) => ({
    bytes: float32ToFloat16(values),
    values: float16ToFloat32(float32ToFloat16(values)),
  }),
};

/** Largest difference from the exact product, as a share of its largest number. */
function errorOf(got: ArrayLike<number>, expected: readonly number[]): number {
  const largest = Math.max(...expected.map(Math.abs));
  return expected.reduce((worst, value, i) => Math.max(worst, Math.abs(value - (got[i] ?? Number.NaN)) / largest), 0);
}

for (const dtype of ["float32", "bfloat16", "float16"] as const) {
  test(`x W^T + b and x W, W stored in ${dtype} at an odd place`, async () => {
    const [T, K, N] = [3, 8, 5];
    const { bytes, values: w } = STORED[dtype](random(N * K, dtype));
    const file = `${dtype}.bin`;
    writeFileSync(join(folder, file), Buffer.concat([Buffer.alloc(10), Buffer.from(bytes.buffer)]));
    const graph = new Graph("stored");
    const ops = builderOf(graph);
    const place = { location: file, offset: 10, byteLength: bytes.byteLength };
    const weight = graph.weight({ name: "w", dtype, shape: [N, K], ...place });
    const [x, g, b] = [random(T * K, "x"), random(T * N, "g"), random(N, "b")];
    const bias = graph.input("b", "float32", [N]);
    graph.output("y", ops.storedMatMul(graph.input("x", "float32", ["T", K]), weight, { bias }));
    graph.output("dx", ops.storedMatMul(graph.input("g", "float32", ["T", N]), weight, { transposed: false }));
    const session = await openSession(encodeOnnx(graph), { device: CPU, weightsDir: folder });
    const out = await session.run({ x: floats(x, [T, K]), g: floats(g, [T, N]), b: floats(b, [N]) });
    await session.release();
    const sum = (count: number, term: (i: number) => number): number =>
      Array.from({ length: count }, (_, i) => term(i)).reduce((total, value) => total + value, 0);
    const at = (values: Float32Array, i: number): number => values[i] ?? Number.NaN;
    const y = Array.from({ length: T * N }, (_, i) => {
      const [t, n] = [Math.floor(i / N), i % N];
      return at(b, n) + sum(K, (k) => at(x, t * K + k) * at(w, n * K + k));
    });
    const dx = Array.from({ length: T * K }, (_, i) => {
      const [t, k] = [Math.floor(i / K), i % K];
      return sum(N, (n) => at(g, t * N + n) * at(w, n * K + k));
    });
    assert.ok(errorOf(out.y?.data ?? [], y) < 1e-6);
    assert.ok(errorOf(out.dx?.data ?? [], dx) < 1e-6);
  });
}

test("a large weight is converted in parts, to the same product", async () => {
  const [T, K] = [2, 64];
  const N = MOST_AT_ONCE / K + 1000; // a whole part and a rest
  const { bytes, values: w } = STORED.bfloat16(Float32Array.from({ length: N * K }, (_, i) => Math.sin(i)));
  writeFileSync(join(folder, "large.bin"), bytes);
  const graph = new Graph("stored");
  const ops = builderOf(graph);
  const place = { location: "large.bin", offset: 0, byteLength: bytes.byteLength };
  const weight = graph.weight({ name: "w", dtype: "bfloat16", shape: [N, K], ...place });
  const y = ops.storedMatMul(graph.input("x", "float32", ["T", K]), weight);
  graph.output("y", y);
  graph.output("dx", ops.storedMatMul(y, weight, { transposed: false }));
  const session = await openSession(encodeOnnx(graph), { device: CPU, weightsDir: folder });
  const x = random(T * K, "x");
  const out = await session.run({ x: floats(x, [T, K]) });
  await session.release();
  for (const n of [0, 1, MOST_AT_ONCE / K - 1, MOST_AT_ONCE / K, N - 1]) {
    for (let t = 0; t < T; t++) {
      let expected = 0;
      for (let k = 0; k < K; k++) expected += (x[t * K + k] ?? 0) * (w[n * K + k] ?? 0);
      assert.ok(Math.abs(expected - (out.y?.data[t * N + n] ?? Number.NaN)) < 1e-4, `y[${t}, ${n}]`);
    }
  }
  const got = out.y?.data as Float32Array;
  const expected = Array.from({ length: K }, (_, k) => {
    let sum = 0;
    for (let n = 0; n < N; n++) sum += (got[n] ?? 0) * (w[n * K + k] ?? 0);
    return sum;
  });
  assert.ok(errorOf(out.dx?.data.slice(0, K) ?? [], expected) < 1e-5);
});

test("a weight of 16 bits is converted in the run, not kept as float32 by the session", async () => {
  const [K, N] = [8, 5];
  const { bytes } = STORED.bfloat16(random(N * K, "w"));
  writeFileSync(join(folder, "run.bin"), bytes);
  const graph = new Graph("stored");
  const place = { location: "run.bin", offset: 0, byteLength: bytes.byteLength };
  const weight = graph.weight({ name: "w", dtype: "bfloat16", shape: [N, K], ...place });
  graph.output("y", builderOf(graph).storedMatMul(graph.input("x", "float32", ["T", K]), weight));
  const options = { device: CPU, weightsDir: folder, profilePrefix: join(folder, "profile") };
  const session = await openSession(encodeOnnx(graph), options);
  await session.run({ x: floats(random(3 * K, "x"), [3, K]) });
  await session.release();
  const profile = required(
    readdirSync(folder).find((name) => name.startsWith("profile")),
    "a profile",
  );
  const events = JSON.parse(readFileSync(join(folder, profile), "utf8")) as { args?: { op_name?: string } }[];
  assert.ok(events.some(({ args }) => args?.op_name === "Cast"));
});
