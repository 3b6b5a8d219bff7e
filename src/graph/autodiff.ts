/** Reverse-mode differentiation: one walk from the loss back to the trainable values, along the paths between them and nowhere else. */
import { InternalError, required } from "../utils/errors.ts";
import type { Builder } from "./builder.ts";
import { type GradientRule, gradientRules } from "./gradients.ts";
import type { Item, Node, NodeOf, Segment, SegmentRule, Value } from "./graph.ts";
import type { Op } from "./ops.ts";

function gradientsOf<O extends Op>(
  ops: Builder,
  grad: Value,
  node: NodeOf<O>,
  needs: readonly boolean[],
): readonly (Value | null)[] {
  return (gradientRules[node.op] as GradientRule<O>)(ops, grad, node, needs);
}

/** Values that depend on one of `values`, and these. */
function reachedFrom(values: readonly Value[], nodes: readonly Node[]): Set<Value> {
  const reached = new Set(values);
  for (const node of nodes) {
    if (node.inputs.some((input) => reached.has(input))) for (const output of node.outputs) reached.add(output);
  }
  return reached;
}

/** Values of no input: weights, constants, and what follows from these alone. */
function fixedValues({ graph }: Builder): Set<Value> {
  const fixed = new Set([...graph.weights, ...graph.constants].map(({ value }) => value));
  for (const { inputs, outputs } of graph.nodes) {
    if (inputs.every((input) => fixed.has(input))) for (const output of outputs) fixed.add(output);
  }
  return fixed;
}

/**
 * Appends the gradients of the scalar `loss` to its graph.
 * @returns the gradient of each target, in their order and shapes
 * @throws InternalError when the loss does not depend on a target: an unused parameter is a mistake upstream
 */
export function differentiate(ops: Builder, loss: Value, targets: readonly Value[]): readonly Value[] {
  const items = [...ops.graph.items];
  const walk = new Walk(ops, reachedFrom(targets, ops.graph.nodes), fixedValues(ops));
  walk.grads.set(loss, ops.scalar(1));
  walk.back(items);
  return targets.map((target) => {
    const grad = walk.grads.get(target);
    if (!grad) throw new InternalError(`the loss does not depend on ${target.name}`);
    return grad;
  });
}

class Walk {
  readonly grads = new Map<Value, Value>();
  readonly #ops: Builder;
  /** Values on a path from a target. */
  readonly #reached: Set<Value>;
  readonly #fixed: ReadonlySet<Value>;
  readonly #isSegmented: boolean;
  /** Of gradients so far that are one product and nothing else. */
  readonly #products = new Map<Value, NodeOf<"MatMul">>();

  constructor(ops: Builder, reached: Set<Value>, fixed: ReadonlySet<Value>) {
    this.#ops = ops;
    this.#reached = reached;
    this.#fixed = fixed;
    this.#isSegmented = ops.graph.isSegmented;
  }

  back(items: readonly Item[]): void {
    for (const item of items.toReversed()) {
      if ("op" in item) this.#node(item);
      else if (item.rule) this.#byRule(item.rule);
      else this.#again(item);
    }
  }

  #node(node: Node): void {
    const { grads } = this;
    const [output, ...others] = node.outputs;
    const grad = output && grads.get(output);
    if (others.some((other) => grads.has(other)))
      throw new InternalError(`gradient of ${node.op}: rules know of the first output alone, the loss uses another`);
    const needs = node.inputs.map((input) => this.#reached.has(input));
    if (!grad || !needs.includes(true)) return;
    const { nodes } = this.#ops.graph;
    const before = nodes.length;
    this.#ops.graph.within("grad", () => {
      const parts = gradientsOf(this.#ops, grad, node, needs);
      this.#accumulate(node.inputs, parts, nodes.slice(before));
    });
  }

  #byRule(rule: SegmentRule): void {
    const grad = this.grads.get(rule.output);
    if (!grad || !rule.inputs.some((input) => this.#reached.has(input))) return;
    this.#ops.graph.within("grad", () => {
      this.#accumulate(
        rule.inputs,
        rule.gradient(grad, (value) => value),
      );
    });
  }

  /** @param made the nodes that made the parts */
  #accumulate(inputs: readonly Value[], parts: readonly (Value | null)[], made: readonly Node[] = []): void {
    inputs.forEach((input, i) => {
      const part = parts[i];
      if (!part || !this.#reached.has(input)) return;
      const known = this.grads.get(input);
      const summed = this.#ops.sumTo(part, input.shape);
      const product = this.#isSegmented ? productOf(summed, made) : null;
      this.grads.set(input, known ? this.#sum(known, summed, product) : summed);
      if (product && !known) this.#products.set(summed, product);
    });
  }

  /** The runtime makes one operation of a product and a sum where it knows their shapes, which a graph with segments keeps from it. */
  #sum(known: Value, part: Value, product: NodeOf<"MatMul"> | null): Value {
    const [addend, of] = product ? [known, product] : [part, this.#products.get(known)];
    return of ? this.#ops.gemm(...of.inputs, addend, of.attrs) : this.#ops.add(known, part);
  }

  /** Computes the segment again, once the gradients that reach it are known, and goes back through that copy. */
  #again(segment: Segment): void {
    const ends = valuesOf(segment).filter((value) => this.grads.has(value));
    if (ends.length === 0) return;
    const grads = ends.map((value) => required(this.grads.get(value), value.name));
    const copies = new Map<Value, Value>();
    const { items } = this.#copy(segment, copies, grads);
    ends.forEach((value, i) => {
      this.grads.set(required(copies.get(value), `copy of ${value.name}`), required(grads[i], "gradient"));
    });
    this.back(items);
  }

  #copy(segment: Segment, copies: Map<Value, Value>, wanted: readonly Value[]): Segment {
    const { graph } = this.#ops;
    const copyOf = (value: Value): Value => {
      if (this.#fixed.has(value)) return value;
      const copy = copies.get(value) ?? (isParameter(value) ? value : this.#ops.after(value, wanted));
      if (this.#reached.has(value)) this.#reached.add(copy);
      copies.set(value, copy);
      return copy;
    };
    return graph.segment(() => {
      for (const item of segment.items) {
        if (!("op" in item)) this.#copy(item, copies, wanted);
        else if (!item.outputs.every((output) => this.#fixed.has(output)))
          this.#copyNode(item, copies, item.inputs.map(copyOf));
      }
      const { rule } = segment;
      if (!rule) return null;
      const gradient: SegmentRule["gradient"] = (grad) => rule.gradient(grad, copyOf);
      return { inputs: rule.inputs.map(copyOf), output: copyOf(rule.output), gradient };
    });
  }

  #copyNode(node: Node, copies: Map<Value, Value>, inputs: readonly Value[]): void {
    const { graph } = this.#ops;
    const [{ name } = { name: "" }] = node.outputs;
    const outputs = graph.within(`again/${name.slice(0, name.lastIndexOf("/"))}`, () =>
      graph.append(node.op, inputs as never, node.attrs as never),
    );
    node.outputs.forEach((output, i) => {
      const copy = required(outputs[i], output.name);
      copies.set(output, copy);
      if (this.#reached.has(output)) this.#reached.add(copy);
    });
  }
}

/** What has lengths that are known beforehand is small, and there throughout: what follows from it alone need not wait. */
const isParameter = ({ shape }: Value): boolean => shape.length > 0 && shape.every((dim) => typeof dim === "number");

/** The product of matrices that made a value, among these nodes. */
function productOf(value: Value, made: readonly Node[]): NodeOf<"MatMul"> | null {
  const node = made.find(({ outputs }) => outputs[0] === value);
  return node?.op === "MatMul" && value.shape.length === 2 ? node : null;
}

const nodesOf = ({ items }: Segment): Node[] => items.flatMap((item) => ("op" in item ? [item] : nodesOf(item)));
const valuesOf = (segment: Segment): Value[] => nodesOf(segment).flatMap(({ outputs }) => [...outputs]);
