/** Reverse-mode differentiation: one walk from the loss back to the trainable values, along the paths between them and nowhere else. */
import { InternalError } from "../utils/errors.ts";
import type { Builder } from "./builder.ts";
import { type GradientRule, gradientRules } from "./gradients.ts";
import type { Node, NodeOf, Value } from "./graph.ts";
import type { Op } from "./ops.ts";

function gradientsOf<O extends Op>(
  ops: Builder,
  grad: Value,
  node: NodeOf<O>,
  needs: readonly boolean[],
): readonly (Value | null)[] {
  return (gradientRules[node.op] as GradientRule<O>)(ops, grad, node, needs);
}

/** Values that depend on a target. */
function reachedFrom(targets: readonly Value[], nodes: readonly Node[]): Set<Value> {
  const reached = new Set(targets);
  for (const node of nodes) {
    if (node.inputs.some((input) => reached.has(input))) for (const output of node.outputs) reached.add(output);
  }
  return reached;
}

/**
 * Appends the gradients of the scalar `loss` to its graph.
 * @returns the gradient of each target, in their order and shapes
 * @throws InternalError when the loss does not depend on a target: an unused parameter is a mistake upstream
 */
export function differentiate(ops: Builder, loss: Value, targets: readonly Value[]): readonly Value[] {
  const nodes = [...ops.graph.nodes];
  const reached = reachedFrom(targets, nodes);
  const grads = new Map<Value, Value>([[loss, ops.scalar(1)]]);
  const accumulate = (value: Value, part: Value): void => {
    const known = grads.get(value);
    grads.set(value, known ? ops.add(known, part) : part);
  };
  for (const node of nodes.toReversed()) {
    const [output, ...others] = node.outputs;
    const grad = output && grads.get(output);
    if (others.some((other) => grads.has(other)))
      throw new InternalError(`gradient of ${node.op}: rules know of the first output alone, the loss uses another`);
    const needs = node.inputs.map((input) => reached.has(input));
    if (!grad || !needs.includes(true)) continue;
    ops.graph.within("grad", () => {
      const inputGrads = gradientsOf(ops, grad, node, needs);
      node.inputs.forEach((input, i) => {
        const part = inputGrads[i];
        if (part && needs[i]) accumulate(input, ops.sumTo(part, input.shape));
      });
    });
  }
  return targets.map((target) => {
    const grad = grads.get(target);
    if (!grad) throw new InternalError(`the loss does not depend on ${target.name}`);
    return grad;
  });
}
