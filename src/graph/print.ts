/** A graph as text, one line a node: `layers.0/mlp/MatMul:f32[B*T, 64] = MatMul(x, w) {transB}`. */
import type { DType, Graph, Node, Value } from "./graph.ts";

const SHORT: Readonly<Record<DType, string>> = {
  float32: "f32",
  float16: "f16",
  bfloat16: "bf16",
  int64: "i64",
  int32: "i32",
  uint32: "u32",
  int8: "i8",
  uint8: "u8",
  bool: "bool",
};

const typed = (value: Value): string => `${value.name}:${SHORT[value.dtype]}[${value.shape.join(", ")}]`;

function attributes(node: Node): string {
  const shown = Object.entries(node.attrs).filter(
    ([key, value]) => value !== false && key !== "backward" && !(value === 1 && node.op === "MatMul"),
  );
  if (shown.length === 0) return "";
  return ` {${shown.map(([key, value]) => (value === true ? key : `${key}: ${Array.isArray(value) ? `[${value.join(", ")}]` : value}`)).join(", ")}}`;
}

const line = (node: Node): string =>
  `${node.outputs.map(typed).join(", ")} = ${node.op}(${node.inputs.map((v) => v.name).join(", ")})${attributes(node)}`;

/** Inputs, nodes and outputs in order; constants are shown with their numbers, weights only where they are used. */
export function printGraph(graph: Graph): string {
  return [
    `graph ${graph.name}`,
    ...graph.inputs.map((input) => `  input  ${typed(input)}`),
    ...graph.constants.map(
      ({ value, data }) =>
        `  const  ${typed(value)} = ${data.length > 8 ? `${data.slice(0, 8).join(", ")}, ...` : data.join(", ")}`,
    ),
    ...graph.nodes.map((node) => `  ${line(node)}`),
    ...graph.outputs.map(({ name, value }) => `  output ${name} = ${value.name}`),
  ].join("\n");
}
