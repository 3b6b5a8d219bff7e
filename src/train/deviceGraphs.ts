/** The graphs of a training state that stays in a device's memory: what Replica does with arrays on the host, for all parameters at once. */
import { builderOf } from "../graph/builder.ts";
import { Graph, type Value } from "../graph/graph.ts";
import type { Layout, Slot } from "./layout.ts";
import { type AdamWSettings, adamwStep } from "./optimizer.ts";

/** What is kept of each parameter. */
export type Part = "values" | "expAvg" | "expAvgSq" | "average";
export const partName = (part: Part | "gradients" | "earlier", name: string): string => `${part}/${name}`;
export const newName = (part: Part | "gradients", name: string): string => `new/${partName(part, name)}`;

const inputOf =
  (graph: Graph, part: Part | "gradients" | "earlier") =>
  ({ name, shape }: Slot): Value =>
    graph.input(partName(part, name), "float32", shape);

/** values/<name> -> new/values/<name>, unchanged: the way onto a device and off it. */
export function copyGraph({ slots }: Layout): Graph {
  const graph = new Graph("copy_model");
  for (const slot of slots) graph.output(newName("values", slot.name), inputOf(graph, "values")(slot));
  return graph;
}

/** gradients/<name>, weight -> new/gradients/<name>, their product, added to earlier/<name> where there is something earlier. */
export function sumGraph({ slots }: Layout, hasEarlier: boolean): Graph {
  const graph = new Graph("sum_model");
  const ops = builderOf(graph);
  const weight = graph.input("weight", "float32", []);
  for (const slot of slots) {
    const weighted = ops.mul(inputOf(graph, "gradients")(slot), weight);
    const sum = hasEarlier ? ops.add(inputOf(graph, "earlier")(slot), weighted) : weighted;
    graph.output(newName("gradients", slot.name), sum);
  }
  return graph;
}

/** gradients/<name> -> squares [], the sum of all squares. */
export function normGraph({ slots }: Layout): Graph {
  const graph = new Graph("norm_model");
  const ops = builderOf(graph);
  const squares = slots.map((slot) => {
    const gradient = inputOf(graph, "gradients")(slot);
    return ops.reduceSum(
      ops.mul(gradient, gradient),
      slot.shape.map((_, axis) => axis),
    );
  });
  graph.output("squares", squares.reduce(ops.add));
  return graph;
}

/** Inputs that differ between the ranges of a layout. */
export const rangeName = (scalar: "decay_factor" | "step_size", range: number): string => `${scalar}/${range}`;

/**
 * One update of every parameter: values, expAvg, expAvgSq, gradients and, where one is kept, average, each /<name>, with the
 * scalars of AdamW (two of them for each range of the layout) and ema_rate -> new/<part>/<name>.
 */
export function updateGraph(
  { slots, ranges }: Layout,
  settings: Pick<AdamWSettings, "betas" | "epsilon">,
  hasAverage: boolean,
): Graph {
  const graph = new Graph("update_model");
  const ops = builderOf(graph);
  const scalar = (name: string): Value => graph.input(name, "float32", []);
  const shared = { gradient_scale: scalar("gradient_scale"), root_bias_correction2: scalar("root_bias_correction2") };
  const rate = hasAverage ? scalar("ema_rate") : null;
  for (const [k, { start, end }] of ranges.entries()) {
    const ofRange = {
      decay_factor: scalar(rangeName("decay_factor", k)),
      step_size: scalar(rangeName("step_size", k)),
    };
    for (const slot of slots.filter((one) => one.start >= start && one.end <= end)) {
      const [parameter, expAvg] = [inputOf(graph, "values")(slot), inputOf(graph, "expAvg")(slot)];
      const [expAvgSq, gradient] = [inputOf(graph, "expAvgSq")(slot), inputOf(graph, "gradients")(slot)];
      const changed = adamwStep(ops, { parameter, expAvg, expAvgSq, gradient }, { ...shared, ...ofRange }, settings);
      graph.output(newName("values", slot.name), changed.parameter);
      graph.output(newName("expAvg", slot.name), changed.expAvg);
      graph.output(newName("expAvgSq", slot.name), changed.expAvgSq);
      if (!rate) continue;
      const average = inputOf(graph, "average")(slot);
      const moved = ops.add(average, ops.mul(rate, ops.sub(changed.parameter, average)));
      graph.output(newName("average", slot.name), moved);
    }
  }
  return graph;
}
