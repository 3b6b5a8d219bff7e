/** Reverse-mode differentiation: one walk from the loss back to the trainable values, along the paths between them and nowhere else. */
import { InternalError, required } from "../utils/errors.ts";
import { type Builder, builderOf } from "./builder.ts";
import { type GradientRule, gradientRules } from "./gradients.ts";
import type { Graph, Node, NodeOf, Rule, Value } from "./graph.ts";
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
function fixedValues({ weights, constants, nodes }: Graph): Set<Value> {
  const fixed = new Set([...weights, ...constants].map(({ value }) => value));
  for (const { inputs, outputs } of nodes) {
    if (inputs.every((input) => fixed.has(input))) for (const output of outputs) fixed.add(output);
  }
  return fixed;
}

/**
 * Appends the gradients of the scalar `loss` to its graph.
 * @returns the gradient of each target, in their order and shapes
 * @throws InternalError when the loss does not depend on a target: an unused parameter is a mistake upstream
 */
export function differentiate({ graph }: Builder, loss: Value, targets: readonly Value[]): readonly Value[] {
  const walk = new Walk(graph, reachedFrom(targets, graph.nodes));
  walk.grads.set(loss, graph.constant([1], []));
  for (const step of graph.steps.toReversed()) walk.back(step);
  return targets.map((target) => {
    const grad = walk.grads.get(target);
    if (!grad) throw new InternalError(`the loss does not depend on ${target.name}`);
    return grad;
  });
}

class Walk {
  readonly grads = new Map<Value, Value>();
  /** Appends the gradients. It takes what was forgotten from `#recall`. */
  readonly #ops: Builder;
  /** Values on a path from a target. */
  readonly #reached: ReadonlySet<Value>;
  readonly #recall: Recall;
  readonly #isOrdered: boolean;
  readonly #stand = (value: Value): Value => this.#recall.value(value);
  /** Of gradients so far that are one product and nothing else. */
  readonly #products = new Map<Value, NodeOf<"MatMul">>();

  constructor(graph: Graph, reached: ReadonlySet<Value>) {
    this.#reached = reached;
    this.#isOrdered = graph.isOrdered;
    this.#recall = new Recall(graph);
    this.#ops = builderOf(graph, this.#stand);
  }

  back(step: Node | Rule): void {
    if ("op" in step) this.#node(step);
    else this.#byRule(step);
  }

  #node(node: Node): void {
    const { grads } = this;
    const [output, ...others] = node.outputs;
    const grad = output && grads.get(output);
    if (others.some((other) => grads.has(other)))
      throw new InternalError(`gradient of ${node.op}: rules know of the first output alone, the loss uses another`);
    const needs = node.inputs.map((input) => this.#reached.has(input));
    if (!grad || !needs.includes(true)) return;
    this.#recall.after(grad);
    const { nodes } = this.#ops.graph;
    const before = nodes.length;
    this.#ops.graph.within("grad", () => {
      const parts = gradientsOf(this.#ops, grad, node, needs);
      this.#accumulate(node.inputs, parts, nodes.slice(before));
    });
  }

  #byRule(rule: Rule): void {
    const grad = this.grads.get(rule.output);
    if (!grad || !rule.inputs.some((input) => this.#reached.has(input))) return;
    this.#recall.after(grad);
    this.#ops.graph.within("grad", () => {
      this.#accumulate(rule.inputs, rule.gradient(grad, this.#stand));
    });
  }

  /** @param made the nodes that made the parts */
  #accumulate(inputs: readonly Value[], parts: readonly (Value | null)[], made: readonly Node[] = []): void {
    inputs.forEach((input, i) => {
      const part = parts[i];
      if (!part || !this.#reached.has(input)) return;
      const known = this.grads.get(input);
      const summed = this.#ops.sumTo(part, input.shape);
      const product = this.#isOrdered ? productOf(summed, made) : null;
      this.grads.set(input, known ? this.#sum(known, summed, product) : summed);
      if (product && !known) this.#products.set(summed, product);
    });
  }

  /** The runtime makes one operation of a product and a sum where it knows their shapes, which an ordered graph keeps from it. */
  #sum(known: Value, part: Value, product: NodeOf<"MatMul"> | null): Value {
    const [addend, of] = product ? [known, product] : [part, this.#products.get(known)];
    return of ? this.#ops.gemm(...of.inputs, addend, of.attrs) : this.#ops.add(known, part);
  }
}

/** Values that were not kept, computed again when the backward pass first reads them, and shared by all that read them. */
class Recall {
  readonly #ops: Builder;
  readonly #fixed: ReadonlySet<Value>;
  readonly #again = new Map<Value, Value>();
  /** The latest gradient of lengths that only a run knows. */
  #latest: Value | null = null;

  constructor(graph: Graph) {
    this.#ops = builderOf(graph);
    this.#fixed = fixedValues(graph);
  }

  /** What is recalled from here on waits for this gradient. */
  after(grad: Value): void {
    if (hasOpenLengths(grad)) this.#latest = grad;
  }

  /** The value itself where it was kept. */
  value(value: Value): Value {
    const { graph } = this.#ops;
    const node = this.#fixed.has(value) ? undefined : graph.forgotten.get(value);
    if (!node) return value;
    const known = this.#again.get(value);
    if (known) return known;
    const inputs = node.inputs.map((input) => (graph.forgotten.has(input) ? this.value(input) : this.#kept(input)));
    const [{ name } = { name: "" }] = node.outputs;
    const outputs = graph.within(`again/${name.slice(0, name.lastIndexOf("/"))}`, () =>
      graph.append(node.op, inputs as never, node.attrs as never),
    );
    node.outputs.forEach((output, i) => {
      this.#again.set(output, required(outputs[i], output.name));
    });
    return required(this.#again.get(value), `${value.name} again`);
  }

  /** What was kept, and waits for the latest gradient: the runtime would compute at once what follows from it. */
  #kept(value: Value): Value {
    if (this.#fixed.has(value) || isParameter(value) || !this.#latest) return value;
    const known = this.#again.get(value);
    if (known) return known;
    const waiting = this.#ops.after(value, [this.#latest]);
    this.#again.set(value, waiting);
    return waiting;
  }
}

/** What has lengths that are known beforehand is small, and there throughout: what follows from it alone need not wait. */
const isParameter = (value: Value): boolean => value.shape.length > 0 && !hasOpenLengths(value);
const hasOpenLengths = ({ shape }: Value): boolean => shape.some((dim) => typeof dim !== "number");

/** The product of matrices that made a value, among these nodes. */
function productOf(value: Value, made: readonly Node[]): NodeOf<"MatMul"> | null {
  const node = made.find(({ outputs }) => outputs[0] === value);
  return node?.op === "MatMul" && value.shape.length === 2 ? node : null;
}
