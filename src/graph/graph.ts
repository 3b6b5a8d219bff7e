/** The graph: named values and the nodes that make them, in the order in which they run. */
import { InternalError } from "../utils/errors.ts";
import type { Shape } from "./dim.ts";
import type { AttrsOf, InputsOf, Op } from "./ops.ts";
import { inferOutputs } from "./shapes.ts";
import type { DType, Value } from "./value.ts";

export type { DType, Value } from "./value.ts";

export interface NodeOf<O extends Op> {
  readonly op: O;
  readonly inputs: InputsOf<O>;
  readonly attrs: AttrsOf<O>;
  readonly outputs: readonly Value[];
}
export type Node = { [O in Op]: NodeOf<O> }[Op];

/** The gradient of nodes appended together, better than what would follow from each of them. */
export interface Rule {
  readonly inputs: readonly Value[];
  readonly output: Value;
  /**
   * @param stand what to read in place of a value: it may have been forgotten (`builderOf` takes this)
   * @returns the gradient of each input
   */
  gradient(grad: Value, stand: (value: Value) => Value): readonly Value[];
}

/** Numbers that belong to the graph itself. */
export interface Constant {
  readonly value: Value;
  readonly data: readonly number[];
}

/** A tensor that lies in a file: never read by us, only pointed at. */
export interface Weight {
  readonly value: Value;
  /** File name relative to the folder that the session is given. */
  readonly location: string;
  readonly offset: number;
  readonly byteLength: number;
}

/** A graph under construction. Every append infers and checks shapes, so that a mistake shows where it is made. */
export class Graph {
  readonly inputs: Value[] = [];
  readonly constants: Constant[] = [];
  readonly weights: Weight[] = [];
  readonly nodes: Node[] = [];
  readonly outputs: { readonly name: string; readonly value: Value }[] = [];
  /** What the backward pass goes through: the nodes, and for those that have a rule together, that rule. */
  readonly steps: (Node | Rule)[] = [];
  /** Values that the backward pass computes again instead of keeping them, and the nodes that do. */
  readonly forgotten = new Map<Value, Node>();
  #isForgetting = false;
  #isInRule = false;
  readonly #names = new Set<string>();
  /** The last number behind a name, by name. */
  readonly #counts = new Map<string, number>();
  readonly #constants = new Map<string, Value>();
  #scope = "";

  constructor(readonly name: string) {}

  /** Nodes appended inside `build` are named `<scope>/...`: `graph.within("layers.3/self_attn", () => ...)`. */
  within<T>(scope: string, build: () => T): T {
    const outer = this.#scope;
    this.#scope = outer ? `${outer}/${scope}` : scope;
    try {
      return build();
    } finally {
      this.#scope = outer;
    }
  }

  /** What `build` appends is not kept for the backward pass, which computes it again from what it is made of. */
  forgetting<T>(build: () => T): T {
    const outer = this.#isForgetting;
    this.#isForgetting = true;
    try {
      return build();
    } finally {
      this.#isForgetting = outer;
    }
  }

  /** Keeps a value after all. */
  keep(value: Value): Value {
    this.forgotten.delete(value);
    return value;
  }

  /** The backward pass takes what `build` appends as one, by the rule that it returns. */
  byRule(build: () => Rule): Value {
    if (this.#isInRule) throw new InternalError(`graph ${this.name}: a rule inside a rule`);
    this.#isInRule = true;
    try {
      const rule = build();
      this.steps.push(rule);
      return rule.output;
    } finally {
      this.#isInRule = false;
    }
  }

  /** Whether memory is saved by the order in which nodes run: what is computed anew must wait until it is wanted. */
  get isOrdered(): boolean {
    return this.forgotten.size > 0 || this.steps.some((step) => !("op" in step));
  }

  input(name: string, dtype: DType, shape: Shape): Value {
    const value = { name: this.#claim(name), dtype, shape };
    this.inputs.push(value);
    return value;
  }

  weight(weight: Omit<Weight, "value"> & { name: string; dtype: DType; shape: readonly number[] }): Value {
    const value = { name: this.#claim(weight.name), dtype: weight.dtype, shape: weight.shape };
    this.weights.push({ value, location: weight.location, offset: weight.offset, byteLength: weight.byteLength });
    return value;
  }

  /** The same numbers asked for twice are stored once. */
  constant(data: readonly number[], shape: readonly number[], dtype: DType = "float32"): Value {
    const key = `${dtype}[${shape}]${data}`;
    const known = this.#constants.get(key);
    if (known) return known;
    const value = { name: this.#unused("const"), dtype, shape };
    this.constants.push({ value, data });
    this.#constants.set(key, value);
    return value;
  }

  append<O extends Op>(op: O, inputs: InputsOf<O>, attrs: AttrsOf<O>): readonly Value[] {
    const base = this.#unused(this.#scope ? `${this.#scope}/${op}` : op);
    const outputs = inferOutputs(op, inputs, attrs).map((out, i) => ({
      ...out,
      name: i === 0 ? base : this.#claim(`${base}.${out.suffix}`),
    }));
    // The union of node types cannot be built from a generic one; op, inputs and attrs fit by this method's own types.
    const node = { op, inputs, attrs, outputs } as unknown as Node;
    this.nodes.push(node);
    if (!this.#isInRule) this.steps.push(node);
    if (this.#isForgetting) for (const output of outputs) this.forgotten.set(output, node);
    return outputs;
  }

  /** Makes `value` an output called `name`. */
  output(name: string, value: Value): void {
    if (this.outputs.some((known) => known.name === name))
      throw new InternalError(`graph ${this.name} has two outputs "${name}"`);
    if (name !== value.name) this.#claim(name);
    this.outputs.push({ name, value });
  }

  #claim(name: string): string {
    if (this.#names.has(name)) throw new InternalError(`graph ${this.name} has two values "${name}"`);
    this.#names.add(name);
    return name;
  }

  #unused(base: string): string {
    let name = base;
    let count = this.#counts.get(base) ?? 0;
    while (this.#names.has(name)) name = `${base}_${++count}`;
    this.#counts.set(base, count);
    return this.#claim(name);
  }
}

/** Nodes that some output depends on: a builder may leave unused ones behind. */
export function usedNodes(graph: Graph): readonly Node[] {
  const wanted = new Set(graph.outputs.map((output) => output.value));
  const used = graph.nodes.toReversed().filter((node) => {
    const isUsed = node.outputs.some((output) => wanted.has(output));
    if (isUsed) for (const input of node.inputs) wanted.add(input);
    return isUsed;
  });
  return used.reverse();
}
