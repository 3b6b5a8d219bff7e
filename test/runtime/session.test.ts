// Sessions: what they take, and what they say when they cannot run.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { builderOf } from "../../src/graph/builder.ts";
import { Graph } from "../../src/graph/graph.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { CPU } from "../../src/runtime/device.ts";
import { openSession, type Session } from "../../src/runtime/session.ts";
import { floats, ints } from "../../src/runtime/tensor.ts";
import { InternalError, UserError } from "../../src/utils/errors.ts";

function model(): Uint8Array {
  const graph = new Graph("session");
  const ops = builderOf(graph);
  const [x, w] = [graph.input("x", "float32", ["T", 3]), graph.input("w", "float32", [3, 2])];
  graph.output("y", ops.matMul(x, w));
  graph.output("places", ops.iota("T"));
  return encodeOnnx(graph);
}

async function withSession(use: (session: Session) => Promise<void>): Promise<void> {
  const session = await openSession(model(), { device: CPU });
  try {
    await use(session);
  } finally {
    await session.release();
  }
}

const x = floats(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
const w = floats(Float32Array.of(1, 0, 0, 1, 1, 1), [3, 2]);

test("feeds beyond the inputs are left out, outputs may be chosen, views are read in their place", () =>
  withSession(async (session) => {
    assert.deepEqual(
      [session.inputNames, session.outputNames],
      [
        ["x", "w"],
        ["y", "places"],
      ],
    );
    const view = floats(Float32Array.of(9, 9, 9, 1, 2, 3).subarray(3), [1, 3]);
    const out = await session.run({ x: view, w, more: w }, ["y"]);
    assert.deepEqual(out, { y: floats(Float32Array.of(4, 5), [1, 2]) });
    assert.deepEqual((await session.run({ x, w })).places, ints(Int32Array.of(0, 1), [2]));
  }));

test("a run that lacks an input, or has one of another shape", () =>
  withSession(async (session) => {
    await assert.rejects(session.run({ x }), (error: Error) => {
      assert.match(error.message, /internal: a run lacks its input "w"/);
      return error instanceof InternalError;
    });
    const wrong = floats(new Float32Array(8), [2, 4]);
    await assert.rejects(
      session.run({ x: wrong, w }),
      /internal: the runtime refused a run: .*inputs x \[2,4\], w \[3,2\]/s,
    );
    assert.deepEqual((await session.run({ x, w })).y?.dims, [2, 2], "the session goes on");
  }));

test("a model that is none, or not there, or whose weights are not", async () => {
  await assert.rejects(openSession(Uint8Array.of(1, 2, 3), { device: CPU }), /the runtime refused a model of 3 bytes/);
  await assert.rejects(
    openSession("nowhere.onnx", { device: CPU }),
    (error: Error) => error instanceof UserError && error.message === "nowhere.onnx: no such model file",
  );
  const graph = new Graph("weights");
  const place = { location: "gone.safetensors", offset: 0, byteLength: 8 };
  graph.output("y", builderOf(graph).neg(graph.weight({ name: "w", dtype: "float32", shape: [2], ...place })));
  await assert.rejects(
    openSession(encodeOnnx(graph), { device: CPU, weightsDir: tmpdir() }),
    /the runtime refused a model of .*gone\.safetensors/s,
  );
});

test("a model from a file", async () => {
  const dir = mkdtempSync(join(tmpdir(), "session-"));
  try {
    const file = join(dir, "model.onnx");
    writeFileSync(file, model());
    const session = await openSession(file, { device: CPU });
    assert.deepEqual((await session.run({ x, w })).y?.data, Float32Array.of(4, 5, 10, 11));
    await session.release();
  } finally {
    rmSync(dir, { recursive: true });
  }
});
