/** How finely this CPU's products of whole numbers may round a factor and still be exact. */
import { builderOf } from "../../graph/builder.ts";
import { Graph } from "../../graph/graph.ts";
import { encodeOnnx } from "../../graph/onnx.ts";
import type { InputBits } from "../../graph/ops.ts";
import { CPU } from "../../runtime/device.ts";
import { openSession } from "../../runtime/session.ts";
import { floats } from "../../runtime/tensor.ts";

const SIZE = 64; // of matrices as the fast kernels take them
const LARGEST = 127;

let known: Promise<InputBits> | null = null;

/** 8, or 7 where sums of two products overflow their 16 bits. Found out once, by a product of the largest numbers. */
export function exactInputBits(): Promise<InputBits> {
  known ??= largestProductIs8Bit().then((isExact) => (isExact ? 8 : 7));
  return known;
}

async function largestProductIs8Bit(): Promise<boolean> {
  const graph = new Graph("largest_product");
  const ops = builderOf(graph);
  const ones = new Array<number>(SIZE).fill(1);
  const matrix = {
    values: graph.constant(new Array<number>(SIZE * SIZE).fill(LARGEST), [SIZE, SIZE], "int8"),
    scales: graph.constant(ones, [SIZE]),
    zeroPoints: null,
    form: { kind: "rows", rotation: 1, inputBits: 8, isPacked: false, isTurned: false },
  } as const;
  graph.output("y", ops.quantMatMul(graph.input("x", "float32", [SIZE, SIZE]), matrix, SIZE));
  const session = await openSession(encodeOnnx(graph), { device: CPU });
  try {
    const { y } = await session.run({ x: floats(new Float32Array(SIZE * SIZE).fill(1), [SIZE, SIZE]) });
    const exact = SIZE * LARGEST;
    return [...(y?.data ?? [])].every((value) => Math.abs(value - exact) < 0.01 * exact);
  } finally {
    await session.release();
  }
}
