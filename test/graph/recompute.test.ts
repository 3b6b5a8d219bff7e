// What was forgotten is computed again in the backward pass: by the runtime, not only in the graph, and in the order that saves memory.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { differentiate } from "../../src/graph/autodiff.ts";
import { type Builder, builderOf } from "../../src/graph/builder.ts";
import { peakBytes } from "../../src/graph/cost.ts";
import { Graph, type Value } from "../../src/graph/graph.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { ShapeError } from "../../src/graph/shapes.ts";
import { CPU } from "../../src/runtime/device.ts";
import { openSession } from "../../src/runtime/session.ts";
import { type Feeds, floats } from "../../src/runtime/tensor.ts";
import { readModel } from "./protobuf.ts";

const LAYERS = 6;
const WIDTH = 16;
const T = 32;

/** x -> exp(tanh(x w_i)) for each layer; the loss is the sum. */
function deepGraph(wrap: (graph: Graph, build: () => Value) => Value): { graph: Graph; ops: Builder } {
  const graph = new Graph("deep");
  const ops = builderOf(graph);
  const weights = Array.from({ length: LAYERS }, (_, i) => graph.input(`w${i}`, "float32", [WIDTH, WIDTH]));
  let x = graph.input("x", "float32", ["T", WIDTH]);
  weights.forEach((weight, i) => {
    x = wrap(graph, () => graph.within(`layer.${i}`, () => ops.exp(ops.tanh(ops.matMul(x, weight)))));
  });
  const loss = ops.reduceSum(x, [0, 1]);
  graph.output("loss", loss);
  differentiate(ops, loss, weights).forEach((grad, i) => {
    graph.output(`grad/w${i}`, grad);
  });
  return { graph, ops };
}

const kept = deepGraph((_, build) => build());
const again = deepGraph((graph, build) => graph.keep(graph.forgetting(build)));

const numbers = (size: number): Float32Array => Float32Array.from({ length: size }, (_, i) => Math.sin(7 * i) / 4);
const feeds: Feeds = {
  x: floats(numbers(T * WIDTH), [T, WIDTH]),
  ...Object.fromEntries(
    Array.from({ length: LAYERS }, (_, i) => [`w${i}`, floats(numbers(WIDTH * WIDTH), [WIDTH, WIDTH])]),
  ),
};

/** Outputs, and the names of the nodes in the order in which the runtime computed them. */
async function profiled({ graph }: { graph: Graph }) {
  const dir = mkdtempSync(join(tmpdir(), "recompute-"));
  try {
    const session = await openSession(encodeOnnx(graph), { device: CPU, profilePrefix: join(dir, "run") });
    const outputs = await session.run(feeds);
    await session.release();
    const events = JSON.parse(readFileSync(join(dir, readdirSync(dir)[0] ?? ""), "utf8")) as {
      cat: string;
      name: string;
    }[];
    const suffix = "_kernel_time";
    const names = events.filter(({ cat, name }) => cat === "Node" && name.endsWith(suffix));
    return { outputs, order: names.map(({ name }) => name.slice(0, -suffix.length)) };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

test("gradients are those of the graph that keeps all, to the last bit", async () => {
  const [plain, twice] = [await profiled(kept), await profiled(again)];
  assert.deepEqual(Object.keys(twice.outputs).sort(), Object.keys(plain.outputs).sort());
  for (const [name, { data }] of Object.entries(plain.outputs)) assert.deepEqual(twice.outputs[name]?.data, data, name);
});

test("the runtime computes each layer twice, and the second time when its gradient is there", async () => {
  const { order } = await profiled(again);
  const count = (part: string): number => order.filter((name) => name.includes(part)).length;
  assert.equal(count("Tanh"), 2 * LAYERS);
  const at = (name: string): number => {
    const index = order.indexOf(name);
    assert.ok(index >= 0, `${name} in ${order.join(" ")}`);
    return index;
  };
  for (let i = 0; i < LAYERS; i++) assert.ok(at(`grad/again/layer.${i}/Tanh`) > at(`layer.${LAYERS - 1}/Tanh`));
  for (let i = 0; i + 1 < LAYERS; i++) {
    assert.ok(at(`grad/again/layer.${i}/Tanh`) > at(`grad/again/layer.${i + 1}/Tanh`));
    assert.ok(
      at(`grad/again/layer.${i}/Tanh`) > at(`grad/w${i + 1}`),
      "what a layer has kept is let go before the next",
    );
  }
});

test("nothing that was forgotten is used behind its layer", () => {
  const { nodes } = again.graph;
  const inside = new Set(
    nodes.filter(({ outputs }) => /^layer.*(MatMul|Tanh)/.test(outputs[0]?.name ?? "")).flatMap((node) => node.outputs),
  );
  assert.equal(inside.size, 2 * LAYERS);
  const users = nodes.filter(({ inputs }) => inputs.some((input) => inside.has(input)));
  assert.ok(users.every(({ outputs }) => outputs[0]?.name.startsWith("layer.")));
});

test("the forecast of memory sees it", () => {
  // kept: the exp and the tanh of each layer; computed again: the exp of each, and one layer's insides
  const [all, few] = [kept, again].map(({ graph }) => peakBytes(graph, { T: 1000 }) / (4 * 1000 * WIDTH));
  assert.ok((all ?? 0) >= 2 * LAYERS && (few ?? 0) <= LAYERS + 4, `${all}, ${few}`);
});

test("what depends on no input is not computed again", () => {
  const graph = new Graph("fixed");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", ["T", 2]);
  const table = graph.constant([1, 2], [2]);
  const y = graph.keep(graph.forgetting(() => ops.mul(ops.exp(x), ops.exp(table))));
  differentiate(ops, ops.reduceSum(ops.mul(y, y), [0, 1]), [x]);
  assert.equal(graph.nodes.filter(({ op }) => op === "Exp").length, 3);
});

test("a value of known lengths is nothing to wait for: the runtime would not wait", () => {
  const graph = new Graph("folded");
  const ops = builderOf(graph);
  const [x, fixed] = [graph.input("x", "float32", ["T"]), graph.input("y", "float32", [2])];
  assert.throws(() => ops.after(x, [fixed]), ShapeError);
  assert.throws(() => ops.after(x, []), /values of lengths that only a run knows/);
});

test("what several rules recall is computed again once", () => {
  const graph = new Graph("shared");
  const ops = builderOf(graph);
  const [x, w] = [graph.input("x", "float32", ["T", WIDTH]), graph.input("w", "float32", [WIDTH, WIDTH])];
  const y = graph.keep(
    graph.forgetting(() => {
      const t = ops.tanh(ops.matMul(x, w));
      return ops.mul(ops.mul(t, ops.sqrt(t)), ops.exp(t));
    }),
  );
  differentiate(ops, ops.reduceSum(y, [0, 1]), [w]);
  const count = (op: string): number => graph.nodes.filter((node) => node.op === op).length;
  assert.deepEqual(["Tanh", "Sqrt", "Exp"].map(count), [2, 2, 2]);
});

test("an ordered graph tells the CPU no shapes, by which it would look for buffers node by node", () => {
  const told = (wrap: (graph: Graph, build: () => Value) => Value): number => {
    const graph = new Graph("reshaped");
    const ops = builderOf(graph);
    const x = graph.input("x", "float32", ["T", WIDTH]);
    const y = wrap(graph, () => ops.exp(ops.reshape(x, ["T", WIDTH / 2, 2])));
    const [grad = y] = differentiate(ops, ops.reduceSum(y, [0, 1, 2]), [x]);
    graph.output("grad", grad);
    const { nodes, initializers } = readModel(encodeOnnx(graph));
    const constants = new Set(initializers.map(({ name }) => name));
    return nodes.filter(({ op, inputs }) => op === "Reshape" && constants.has(inputs[1] ?? "")).length;
  };
  assert.ok(told((_, build) => build()) > 0);
  assert.equal(
    told((graph, build) => graph.keep(graph.forgetting(build))),
    0,
  );
});
