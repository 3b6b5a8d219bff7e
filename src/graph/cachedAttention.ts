/**
 * Attention over a cache that is never copied: scores of cached and of new keys are two products, softmax runs over both, and
 * so are the mixtures. Where nothing is cached yet (a whole prompt), the CPU has a kernel that keeps no scores and leaves out
 * what lies above the diagonal; it would copy a cache, so that it is chosen by a branch at run time.
 */
import { type Builder, builderOf } from "./builder.ts";
import { type Dim, mulDims } from "./dim.ts";
import { Graph, type Node, type NodeOf, type Value } from "./graph.ts";
import { dimension, fullShape, reshapeTarget, scalarDimension } from "./shapeValues.ts";
import { int64s, type Lowering, MICROSOFT, ONNX_DTYPES, type Writer } from "./writer.ts";

/** Added to the scores of keys that must not be seen; exp() of it is zero. */
export const HIDDEN = -1e30;

type Attention = NodeOf<"CachedAttention">;
type LowerNode = (w: Writer, node: Node, inputs: readonly string[], outputs: readonly string[]) => void;

interface Sizes {
  readonly batch: Dim;
  readonly length: Dim;
  readonly past: Dim;
  readonly kvHeads: number;
  /** Query heads that share a key head. */
  readonly group: number;
  readonly headDim: number;
}

function sizesOf({ inputs: [q, , , pastKey] }: Attention): Sizes {
  const [batch = 0, length = 0, width] = q.shape;
  const [, kvHeads, past = 0, headDim] = pastKey.shape;
  const [heads, size] = [Number(kvHeads), Number(headDim)];
  return { batch, length, past, kvHeads: heads, group: Number(width) / (heads * size), headDim: size };
}

/** 0 where a token sees another of its run, else HIDDEN: [T, T] */
function causalBias(ops: Builder, length: Dim): Value {
  const place = ops.iota(length);
  const isSeen = ops.lessOrEqual(ops.reshape(place, [1, length]), ops.reshape(place, [length, 1]));
  return ops.where(isSeen, ops.scalar(0), ops.scalar(HIDDEN));
}

/** The operation by products that every device has: [B, T, H*Dh] */
function products(ops: Builder, [causal, ...inputs]: readonly [Value, ...Attention["inputs"]], sizes: Sizes): Value {
  const [q, k, v, pastKey, pastValue, pastBias] = inputs;
  const { batch, length, past, kvHeads, group, headDim } = sizes;
  const rows = mulDims(group, length);
  const perKeyHead = (x: Value): Value =>
    ops.transpose(ops.reshape(x, [batch, length, kvHeads, headDim]), [0, 2, 1, 3]); // [B, K, T, Dh]
  const queries = ops.transpose(ops.reshape(q, [batch, length, kvHeads, group, headDim]), [0, 2, 3, 1, 4]);
  const perGroup = ops.reshape(queries, [batch, kvHeads, rows, headDim]); // the heads of a group stand below each other
  const scores = (keys: Value, count: Dim, bias: Value): Value => {
    const product = ops.matMul(perGroup, keys, { transB: true, alpha: 1 / Math.sqrt(headDim) });
    return ops.add(ops.reshape(product, [batch, kvHeads, group, length, count]), bias);
  };
  const both = [
    scores(pastKey, past, ops.reshape(pastBias, [batch, 1, 1, 1, past])),
    scores(perKeyHead(k), length, ops.reshape(causal, [1, 1, 1, length, length])),
  ];
  const [before, now] = ops.splitAt(ops.softmax(ops.concat(both, 4)), 4, [past, length]);
  const mixed = ops.add(
    ops.matMul(ops.reshape(before, [batch, kvHeads, rows, past]), pastValue),
    ops.matMul(ops.reshape(now, [batch, kvHeads, rows, length]), perKeyHead(v)),
  ); // [B, K, H/K*T, Dh]
  const perToken = ops.transpose(ops.reshape(mixed, [batch, kvHeads, group, length, headDim]), [0, 3, 1, 2, 4]);
  return ops.reshape(perToken, [batch, length, kvHeads * group * headDim]);
}

/** Some nodes and the names of the values that they are given. */
interface Part {
  readonly nodes: readonly Node[];
  readonly names: ReadonlyMap<Value, string>;
}

/** What `build` appends, with one result called `output`; constants are written. */
function partOf(
  w: Writer,
  given: readonly { readonly value: Value; readonly name: string }[],
  build: (ops: Builder, inputs: readonly Value[]) => Value,
  output: string,
): Part {
  const graph = new Graph(output);
  const inputs = given.map(({ value: { dtype, shape } }, i) => graph.input(`input ${i}`, dtype, shape));
  const result = build(builderOf(graph), inputs);
  const names = new Map(inputs.map((input, i) => [input, given[i]?.name ?? ""]));
  for (const { value, data } of graph.constants)
    names.set(value, w.constant(data, value.shape as readonly number[], value.dtype));
  for (const value of graph.nodes.flatMap((node) => node.outputs)) names.set(value, `${output}/${value.name}`);
  return { nodes: graph.nodes, names: names.set(result, output) };
}

/** Writes the nodes in the device's own forms. */
function writePart(w: Writer, { nodes, names }: Part, lowerNode: LowerNode): void {
  const nameOf = (value: Value): string => names.get(value) ?? "";
  for (const node of nodes) lowerNode(w, node, node.inputs.map(nameOf), node.outputs.map(nameOf));
}

function causalOf(w: Writer, length: Dim, lowerNode: LowerNode): { readonly value: Value; readonly name: string } {
  const name = w.once(`causal ${length}`, () => {
    const output = w.freshName("causal");
    writePart(w, partOf(w, [], (ops) => causalBias(ops, length), output), lowerNode); // biome-ignore format: one line
    return output;
  });
  return { value: { name, dtype: "float32", shape: [length, length] }, name };
}

/** The products, not yet written. What all layers share is: the bias, and the shapes that have to be computed. */
function productsOf(w: Writer, node: Attention, inputs: readonly string[], output: string, lowerNode: LowerNode): Part {
  const sizes = sizesOf(node);
  const given = [
    causalOf(w, sizes.length, lowerNode),
    ...node.inputs.map((value, i) => ({ value, name: inputs[i] ?? "" })),
  ];
  type Inputs = readonly [Value, ...Attention["inputs"]];
  const part = partOf(w, given, (ops, values) => products(ops, values as unknown as Inputs, sizes), output);
  for (const { op, attrs } of part.nodes) {
    if (op === "Reshape") reshapeTarget(w, attrs.shape);
    if (op === "SplitAt") fullShape(w, attrs.sizes);
  }
  return part;
}

export const cachedAttentionByProducts =
  (lowerNode: LowerNode): Lowering<"CachedAttention"> =>
  (w, node, inputs, [output = ""]) =>
    writePart(w, productsOf(w, node, inputs, output, lowerNode), lowerNode);

/** One kernel for a prompt, the products for tokens behind a cache. */
export const cachedAttention =
  (lowerNode: LowerNode): Lowering<"CachedAttention"> =>
  (w, node, inputs, outputs) => {
    const { batch, length, past } = sizesOf(node);
    const isPrompt = w.once(`${past} is 0`, () => w.value("Equal", [dimension(w, past), int64s(w, [0])]));
    const places = promptPlaces(w, batch, length);
    const [whole, output] = [w.freshName("branch"), w.freshName("branch")];
    const behindCache = productsOf(w, node, inputs, output, lowerNode); // here, so that every branch sees what is shared
    const [result] = node.outputs as readonly [Value];
    w.node("If", [isPrompt], outputs, {
      then_branch: w.branch(result, whole, () => promptAttention(w, node, inputs, places, whole)),
      else_branch: w.branch(result, output, () => writePart(w, behindCache, lowerNode)),
    });
  };

interface PromptPlaces {
  /** Index of each row's last token, int32 [B]. */
  readonly last: string;
  /** Tokens of the longest row, int32 []. */
  readonly total: string;
}

/** Rows count as full: what fills up a short one stands behind its tokens, which do not see it. */
function promptPlaces(w: Writer, batch: Dim, length: Dim): PromptPlaces {
  const total = w.once("prompt length", () => w.value("Cast", [scalarDimension(w, length)], { to: ONNX_DTYPES.int32 }));
  const last = w.once("last places", () =>
    w.value("Expand", [w.value("Sub", [total, w.constant([1], [], "int32")]), dimension(w, batch)]),
  );
  return { last, total };
}

function promptAttention(
  w: Writer,
  node: Attention,
  [q = "", k = "", v = ""]: readonly string[],
  { last, total }: PromptPlaces,
  output: string,
): void {
  const { kvHeads, group } = sizesOf(node);
  const attributes = { num_heads: kvHeads * group, kv_num_heads: kvHeads };
  const inputs = [q, k, v, "", "", last, total];
  w.node("GroupQueryAttention", inputs, [output, `${output}/key`, `${output}/value`], attributes, MICROSOFT);
}
