/** ScatterRows for the CPU and CUDA. */
import type { Dim } from "./dim.ts";
import type { AttrsOf } from "./ops.ts";
import { fullShape, reshaped } from "./shapeValues.ts";
import type { Lowering, Writer } from "./writer.ts";

/**
 * The CPU kernel of ScatterND adds repeated rows from several threads at once; ScatterElements works through its list in
 * order. So additions spell out the row of every element; where rows are distinct, ScatterND puts down what replaces them.
 */
export const scatterRows: Lowering<"ScatterRows"> = (
  w,
  { inputs: [, rows, updates], attrs },
  [x = "", at = "", values = ""],
  outputs,
) => {
  const count = rows.shape[0] as Dim;
  if (attrs.reduction !== "add")
    return w.node("ScatterND", [x, reshaped(w, at, [count, 1]), replacing(w, [x, at, values], attrs)], outputs);
  const column = reshaped(w, at, [count, ...updates.shape.slice(1).map(() => 1)]);
  w.node("ScatterElements", [x, w.value("Expand", [column, fullShape(w, updates.shape)]), values], outputs, {
    axis: 0,
    reduction: "add",
  });
};

/** What will stand in rows that are distinct. */
export const replacing = (
  w: Writer,
  [x, at, values]: readonly [string, string, string],
  { reduction }: AttrsOf<"ScatterRows">,
): string => (reduction === "none" ? values : w.value("Add", [w.value("Gather", [x, at]), values]));
