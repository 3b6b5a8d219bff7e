// Products with weights in few bits, and their gradients: whole tensors against plain arithmetic and against float32.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { differentiate } from "../../../src/graph/autodiff.ts";
import { builderOf } from "../../../src/graph/builder.ts";
import { Graph } from "../../../src/graph/graph.ts";
import { encodeOnnx } from "../../../src/graph/onnx.ts";
import type { InputBits, QuantForm, QuantMatrix } from "../../../src/graph/ops.ts";
import { wantsPacking } from "../../../src/graph/quantMatMul.ts";
import { exactInputBits } from "../../../src/model/quantised/inputBits.ts";
import {
  formForGradients,
  formOf,
  type QuantKind,
  quantise,
  storedShapes,
} from "../../../src/model/quantised/matrix.ts";
import { CPU } from "../../../src/runtime/device.ts";
import { openSession } from "../../../src/runtime/session.ts";
import { floats } from "../../../src/runtime/tensor.ts";
import { readModel } from "../../graph/protobuf.ts";
import { scratchFolder } from "../../train/folders.ts";
import {
  cosine,
  largestShare,
  type Matrix,
  matrixOf,
  product,
  randomMatrix,
  rotated,
  roundedBlocks,
  roundedRows,
  transposed,
} from "./reference.ts";

const folder = scratchFolder("product");
const T = 9;
/** More would be another machine's affair. */
const most = await exactInputBits();
type Kind = readonly [QuantKind, InputBits];

/** W, or what is kept of it for gradients, as a graph takes it. */
function stored(graph: Graph, w: Matrix, [kind, inputBits]: Kind, isForGradients: boolean): QuantMatrix {
  const { values, scales, zeroPoints } = quantise(
    { ...w, read: (start, end) => Float32Array.from(w.values.subarray(start * w.columns, end * w.columns)) },
    kind,
    isForGradients,
  );
  const straight = formOf(kind, w.columns, { inputBits });
  const form = isForGradients ? formForGradients(straight) : straight;
  const shapes = storedShapes(straight, [w.rows, w.columns], isForGradients);
  const name = `${kind}-${w.rows}-${w.columns}-${isForGradients}`;
  const weight = (part: string, dtype: "int8" | "uint8" | "float32", shape: readonly number[], data: Uint8Array) => {
    writeFileSync(join(folder, `${name}.${part}`), data);
    const place = { location: `${name}.${part}`, offset: 0, byteLength: data.byteLength };
    return graph.weight({ name: `${name}.${part}`, dtype, shape, ...place });
  };
  const bytes = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => new Uint8Array(buffer, byteOffset, byteLength);
  return {
    values: weight("values", shapes.dtype === "I8" ? "int8" : "uint8", shapes.values, bytes(values)),
    scales: weight("scales", "float32", shapes.scales, bytes(scales)),
    zeroPoints: zeroPoints && weight("zeroPoints", "uint8", shapes.zeroPoints ?? [], zeroPoints),
    form,
  };
}

interface Sides {
  readonly x: Matrix;
  readonly g: Matrix;
}

/** x W^T, and what reaches x of a gradient g of it. */
async function computed(w: Matrix, kind: Kind, { x, g }: Sides, hasSecond: boolean) {
  const graph = new Graph("product");
  const ops = builderOf(graph);
  const input = graph.input("x", "float32", ["T", w.columns]);
  const forward = stored(graph, w, kind, false);
  const backward = hasSecond ? stored(graph, w, kind, true) : null;
  const y = ops.quantMatMul(input, forward, w.rows, { backward });
  const loss = ops.reduceSum(ops.mul(y, graph.input("g", "float32", ["T", w.rows])), [0, 1]);
  const [dx = loss] = differentiate(ops, loss, [input]);
  graph.output("y", y);
  graph.output("dx", dx);
  const packWeights = hasSecond && wantsPacking(forward.form);
  const session = await openSession(encodeOnnx(graph), { device: CPU, weightsDir: folder, packWeights });
  const feed = ({ rows, columns, values }: Matrix) => floats(Float32Array.from(values), [rows, columns]);
  const outputs = await session.run({ x: feed(x), g: feed(g) });
  await session.release();
  return { y: outputs.y?.data as Float32Array, dx: outputs.dx?.data as Float32Array };
}

/** a W^T as the form computes it, in double. */
function expected(a: Matrix, w: Matrix, form: QuantForm): Matrix {
  if (form.kind === "blocks") return product(a, roundedBlocks(w, form.bits, form.block));
  const left = roundedRows(rotated(a, form.rotation), 2 ** (form.inputBits - 1) - 1);
  const right = roundedRows(rotated(w, form.rotation), 127);
  const whole = product(left.rounded, right.rounded);
  const scaled = whole.values.map((value, i) => {
    const [row, column] = [Math.floor(i / w.rows), i % w.rows];
    return value * (left.scales[row] ?? Number.NaN) * (right.scales[column] ?? Number.NaN);
  });
  return matrixOf(whole.rows, whole.columns, scaled);
}

/** a W as a matrix by rows computes it that is kept for a W^T, in double. */
function expectedAgainst(a: Matrix, w: Matrix, { rotation, inputBits }: Extract<QuantForm, { kind: "rows" }>): Matrix {
  const right = roundedRows(rotated(w, rotation), 127);
  const scaled = a.values.map((value, i) => value * (right.scales[i % a.columns] ?? Number.NaN));
  const left = roundedRows(matrixOf(a.rows, a.columns, scaled), 2 ** (inputBits - 1) - 1);
  const whole = product(left.rounded, transposed(right.rounded));
  const sized = whole.values.map((value, i) => value * (left.scales[Math.floor(i / w.columns)] ?? Number.NaN));
  const identity = matrixOf(
    w.columns,
    w.columns,
    Float64Array.from({ length: w.columns ** 2 }, (_, i) => Number(i % (w.columns + 1) === 0)),
  );
  return product(matrixOf(a.rows, w.columns, sized), rotated(identity, rotation)); // times R^T
}

/** Of the largest number: sums in float32; a number of a row that is rounded the other way; in int4 x is rounded by the runtime. */
const WITHIN = { rows: 1e-3, blocks: 1e-5, roundedInput: 2e-2 };
const COSINE = { int8: { 8: 0.9995, 7: 0.999 }, int4: { 8: 0.98, 7: 0.98 } };
/** Gradients by rows are rounded as they come, W being rotated for the other product. */
const COSINE_AGAINST = { 8: 0.9993, 7: 0.997 };

for (const [kind, inputBits, rows, columns] of [
  ["int8", 8, 320, 200],
  ["int8", 8, 576, 1024],
  ["int8", 7, 576, 1024],
  ["int8", 8, 640, 200],
  ["int8", 8, 200, 640],
  ["int8", 8, 64, 520],
  ["int4", 8, 320, 200],
  ["int4", 8, 576, 1024],
] as const)
  test(`${kind}, W [${rows}, ${columns}], x in ${inputBits} bits: x W^T and its gradient`, {
    skip: inputBits > most,
  }, async (t) => {
    const w = randomMatrix(rows, columns, "w", 4);
    const [x, g] = [randomMatrix(T, columns, "x", 20), randomMatrix(T, rows, "g", 20)];
    const { y, dx } = await computed(w, [kind, inputBits], { x, g }, true);
    const form = formOf(kind, columns, { inputBits });
    const isByRows = form.kind === "rows";
    if (isByRows)
      assert.deepEqual(await computed(w, [kind, inputBits], { x, g }, false), { y, dx }, "turned in the run");
    const limit = isByRows ? WITHIN.rows : form.roundsInput ? WITHIN.roundedInput : WITHIN.blocks;
    const enough = COSINE[kind][inputBits];
    for (const [name, got, own, exact, least] of [
      ["y", y, expected(x, w, form), product(x, w), enough],
      [
        "dx",
        dx,
        isByRows ? expectedAgainst(g, w, form) : expected(g, transposed(w), form),
        product(g, transposed(w)),
        isByRows ? COSINE_AGAINST[inputBits] : enough,
      ],
    ] as const) {
      const share = largestShare(got, own.values);
      const alike = cosine(got, exact.values);
      t.diagnostic(
        `${name}: ${form.kind}, ${share.toExponential(1)} from its own arithmetic, cosine ${alike.toFixed(6)} to float32`,
      );
      assert.ok(share <= limit, `${name}: ${share} apart`);
      assert.ok(alike >= least, `${name}: cosine ${alike}`);
    }
  });

test("a gradient through blocks needs their transpose", () => {
  const graph = new Graph("blocks alone");
  const ops = builderOf(graph);
  const w = randomMatrix(32, 64, "w", 4);
  const x = graph.input("x", "float32", ["T", 64]);
  const loss = ops.reduceSum(ops.quantMatMul(x, stored(graph, w, ["int4", 8], false), 32), [0, 1]);
  assert.throws(() => differentiate(ops, loss, [x]), /in blocks without a transpose/);
});

test("rows are turned when their gradient is there: the runtime would turn all of them before the first product", () => {
  const graph = new Graph("turned late");
  const ops = builderOf(graph);
  const w = randomMatrix(32, 512, "w", 4);
  const x = graph.input("x", "float32", ["T", 512]);
  const loss = ops.reduceSum(ops.quantMatMul(x, stored(graph, w, ["int8", 8], false), 32), [0, 1]);
  const [dx = loss] = differentiate(ops, loss, [x]);
  graph.output("dx", dx);
  const { nodes, initializers } = readModel(encodeOnnx(graph));
  const turning = nodes.filter(({ op }) => op === "Transpose");
  assert.equal(turning.length, 1);
  assert.ok(initializers.every(({ name }) => !turning[0]?.inputs.includes(name)));
});
