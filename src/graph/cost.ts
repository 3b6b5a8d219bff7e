/** What a graph costs to run, read off its nodes: arithmetic, numbers moved, and the most bytes that are alive at once. */
import { addDims, type Dim, lengthOf, mulDims, sizeOf } from "./dim.ts";
import { type Graph, type Node, type NodeOf, usedNodes, type Value } from "./graph.ts";
import { wantsPacking } from "./quantMatMul.ts";
import { MOST_AT_ONCE } from "./storedMatMul.ts";

/** Lengths of the symbols: `{ B: 1, T: 1103, N: 25, M: 966 }`. */
export type Lengths = Readonly<Record<string, number>>;

export interface Cost {
  /** Multiplications and additions of products of two matrices. */
  readonly matrixFlops: number;
  /** Of many small products at a time: the scores and mixtures of attention. */
  readonly batchedFlops: number;
  /** Of products of whole numbers, as weights by rows in 8 bits are multiplied. */
  readonly wholeFlops: number;
  /** Bytes that all other operations read and write, and the bytes of weights that products read. */
  readonly movedBytes: number;
}

const BYTES = {
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  uint32: 4,
  int8: 1,
  uint8: 1,
  bool: 1,
} as const;

/** Sums of products of symbols, each kept once. */
class Polynomial {
  readonly #terms = new Map<string, { readonly dim: Dim; factor: number }>();

  add(dim: Dim, factor = 1): void {
    const known = this.#terms.get(String(dim));
    if (known) known.factor += factor;
    else this.#terms.set(String(dim), { dim, factor });
  }

  at(lengths: Lengths): number {
    let sum = 0;
    for (const { dim, factor } of this.#terms.values()) sum += factor * lengthOf(dim, lengths);
    return sum;
  }
}

/** @returns the cost of one run as a function of the lengths, cheap to ask for many */
export function costOf(graph: Graph): (lengths: Lengths) => Cost {
  const matrix = new Polynomial();
  const batched = new Polynomial();
  const moved = new Polynomial();
  const whole = new Polynomial();
  const rounded = new Set<string>();
  for (const node of runNodes(graph)) {
    const product = productOf(node);
    const values = product === null ? [...node.inputs, ...node.outputs] : node.inputs.filter(isFixed);
    if (product !== null)
      (isOfWholeNumbers(node) ? whole : node.inputs[0]?.shape.length === 2 ? matrix : batched).add(product, 2);
    if (isOfWholeNumbers(node)) addRounding(moved, node, rounded);
    if (!isView(node)) for (const value of values) addBytes(moved, node, value);
    moved.add(convertedBytes(node), 2); // written, and read by the product
    if (node.op === "CachedAttention") for (const value of node.inputs.slice(3)) addBytes(moved, node, value);
    if (node.op === "FusedAttention") moved.add(scoresOf(node), BYTES.float32); // never stored, but made one by one
  }
  return (lengths) => ({
    matrixFlops: matrix.at(lengths),
    batchedFlops: batched.at(lengths),
    wholeFlops: whole.at(lengths),
    movedBytes: moved.at(lengths),
  });
}

/** The nodes that a run computes: what follows from weights and constants alone, the runtime computes once, when it opens a session. */
function runNodes(graph: Graph): readonly Node[] {
  const fixed = new Set([...graph.weights, ...graph.constants].map(({ value }) => value.name));
  return usedNodes(graph).filter(({ inputs, outputs }) => {
    const isFolded = inputs.length > 0 && inputs.every(({ name }) => fixed.has(name));
    if (isFolded) for (const { name } of outputs) fixed.add(name);
    return !isFolded;
  });
}

/** Of one size whatever the batch, as weights are. */
const isFixed = ({ shape }: Value): boolean => shape.every((dim) => typeof dim === "number");

const isOfWholeNumbers = (node: Node): node is NodeOf<"QuantMatMul"> =>
  node.op === "QuantMatMul" && node.attrs.form.kind === "rows";

const isTurnedAnew = ({ attrs: { form, transposed } }: NodeOf<"QuantMatMul">): boolean =>
  !transposed && form.kind === "rows" && !form.isTurned;

/** Passes over a factor until it is rounded, once for all products that read it, and over a product, which is scaled. */
const ROUNDING_PASSES = { factor: 6, product: 2 };

function addRounding(
  moved: Polynomial,
  { inputs: [x], outputs, attrs }: NodeOf<"QuantMatMul">,
  rounded: Set<string>,
): void {
  if (!rounded.has(x.name) || !attrs.transposed) moved.add(sizeOf(x.shape), ROUNDING_PASSES.factor * BYTES.float32);
  rounded.add(x.name);
  moved.add(sizeOf(outputs[0]?.shape ?? []), ROUNDING_PASSES.product * BYTES.float32);
}

/** A mask is a hash of every place: so many passes over its elements (lowering.ts). */
const DROPOUT_PASSES = 16;

function addBytes(moved: Polynomial, node: Node, value: Value): void {
  // of a table, only the rows that are taken
  const shape = node.op === "Gather" && value === node.inputs[0] ? node.outputs[0]?.shape : value.shape;
  const passes = node.op === "DropoutMask" ? DROPOUT_PASSES : 1;
  moved.add(sizeOf(shape ?? []), passes * BYTES[value.dtype]);
}

/** Bytes of the copy that a product of a weight makes and forgets: in float32 where it is stored in less (of large ones, a part), or turned. */
function convertedBytes(node: Node): number {
  if (node.op === "QuantMatMul") return isTurnedAnew(node) ? lengthOf(sizeOf(node.inputs[1].shape), {}) : 0;
  if (node.op !== "StoredMatMul" || node.inputs[1].dtype === "float32") return 0;
  return BYTES.float32 * lengthOf(sizeOf(node.inputs[1].shape), {});
}

/** The multiplications of a matrix product; null for other operations. */
function productOf(node: Node): Dim | null {
  if (node.op === "StoredMatMul" || node.op === "QuantMatMul") {
    const [x] = node.inputs;
    return mulDims(sizeOf(node.outputs[0]?.shape ?? []), x.shape[1] ?? 1);
  }
  if (node.op === "MatMul" || node.op === "Gemm") {
    const [a] = node.inputs;
    const inner = a.shape[a.shape.length - (node.attrs.transA ? 2 : 1)] ?? 1;
    return mulDims(sizeOf(node.outputs[0]?.shape ?? []), inner);
  }
  if (node.op === "FusedAttention") {
    const [q, k] = node.inputs;
    return mulDims(2, sizeOf(q.shape), k.shape[1] ?? 1); // scores and mixture
  }
  if (node.op === "CachedAttention") {
    const [q, , , pastKey] = node.inputs;
    return mulDims(2, sizeOf(q.shape), addDims(pastKey.shape[2] ?? 0, q.shape[1] ?? 0));
  }
  return null;
}

const scoresOf = ({ inputs: [q, k], attrs }: NodeOf<"FusedAttention">): Dim =>
  mulDims(attrs.heads, ...q.shape.slice(0, 2), k.shape[1] ?? 1);

/** Operations that give their input's numbers under another shape. */
const isView = ({ op }: Node): boolean => op === "Reshape" || op === "Detach" || op === "After";

/** Operations that may write over an input of the same size that nobody else needs. */
const IN_PLACE: ReadonlySet<string> = new Set(
  "Add Sub Mul Div Neg Exp Sqrt Sin Cos Erf Tanh Sigmoid Silu Gelu Where Softmax Gemm ScatterRows".split(" "),
);

/**
 * The most bytes of values that are alive at once, in the order of the nodes. Inputs, constants and weights are not
 * counted; an output stays to the end.
 */
export function peakBytes(graph: Graph, lengths: Lengths): number {
  const nodes = runNodes(graph);
  const owner = ownersOf(nodes);
  const lastUse = lastUsesOf(graph, nodes, owner);
  const sizes = new Map<string, number>();
  let [alive, peak] = [0, 0];
  nodes.forEach((node, i) => {
    const made = isView(node) ? [] : node.outputs;
    const dying = [...new Set(node.inputs.map(({ name }) => owner.get(name) ?? name))].filter(
      (name) => lastUse.get(name) === i && sizes.has(name),
    );
    for (const value of made) {
      const bytes = BYTES[value.dtype] * lengthOf(sizeOf(value.shape), lengths);
      const reused = IN_PLACE.has(node.op) ? dying.findIndex((name) => sizes.get(name) === bytes) : -1;
      if (reused >= 0) sizes.delete(dying.splice(reused, 1)[0] ?? "");
      else alive += bytes;
      sizes.set(value.name, bytes);
    }
    peak = Math.max(peak, alive + Math.min(convertedBytes(node), BYTES.float32 * MOST_AT_ONCE));
    for (const name of [...dying, ...made.map((value) => value.name)]) {
      if ((lastUse.get(name) ?? i) > i) continue;
      alive -= sizes.get(name) ?? 0;
      sizes.delete(name);
    }
  });
  return peak;
}

/** For each view, the value whose memory it shows. */
function ownersOf(nodes: readonly Node[]): ReadonlyMap<string, string> {
  const owner = new Map<string, string>();
  for (const node of nodes) {
    const [input] = node.inputs;
    const [output] = node.outputs;
    if (isView(node) && input && output) owner.set(output.name, owner.get(input.name) ?? input.name);
  }
  return owner;
}

function lastUsesOf(
  { outputs }: Graph,
  nodes: readonly Node[],
  owner: ReadonlyMap<string, string>,
): ReadonlyMap<string, number> {
  const lastUse = new Map<string, number>();
  nodes.forEach((node, i) => {
    for (const { name } of node.inputs) lastUse.set(owner.get(name) ?? name, i);
  });
  for (const { value } of outputs) lastUse.set(owner.get(value.name) ?? value.name, nodes.length);
  return lastUse;
}

/** What a session holds of weights. */
export interface WeightMemory {
  /** Bytes of the files that are used as they lie there, by name, so that what several graphs read is counted once. */
  readonly mapped: ReadonlyMap<string, number>;
  /** Bytes of copies: in float32 of weights stored in less, and of blocks in few bits as their kernels like them. */
  readonly copiedBytes: number;
}

/** The runtime converts or packs a weight when the session opens and lets go of the file's; a table of which rows are taken stays. */
export function weightMemory(graph: Graph): WeightMemory {
  const uses = new Map(graph.weights.map(({ value }) => [value.name, new Set<string>()]));
  for (const { op, inputs } of graph.nodes) for (const { name } of inputs) uses.get(name)?.add(op);
  const isUsed = (name: string, by: (op: string) => boolean): boolean => [...(uses.get(name) ?? [])].some(by);
  const products = graph.nodes.filter((node): node is NodeOf<"QuantMatMul"> => node.op === "QuantMatMul");
  const valuesOf = (isMeant: (node: NodeOf<"QuantMatMul">) => boolean): ReadonlySet<string> =>
    new Set(products.filter(isMeant).map(({ inputs: [, { name }] }) => name));
  const turned = valuesOf(isTurnedAnew);
  const packed = valuesOf((node) => wantsPacking(node.attrs.form) && !isTurnedAnew(node));
  const copied = graph.weights.filter(({ value }) => isUsed(value.name, (op) => op === "Cast"));
  const mapped = graph.weights.filter(
    ({ value: { name } }) => isUsed(name, (op) => op !== "Cast") && (turned.has(name) || !packed.has(name)),
  );
  return {
    mapped: new Map(mapped.map(({ value, byteLength }) => [value.name, byteLength])),
    copiedBytes:
      copied.reduce((sum, { value }) => sum + BYTES.float32 * lengthOf(sizeOf(value.shape), {}), 0) +
      graph.weights.reduce((sum, { value, byteLength }) => sum + (packed.has(value.name) ? byteLength : 0), 0),
  };
}
