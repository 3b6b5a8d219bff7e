/** ScatterRows, alike on all devices but for the numbers that name rows. */
import type { Dim } from "./dim.ts";
import { fullShape, reshaped } from "./shapeValues.ts";
import type { Lowering, Writer } from "./writer.ts";

/**
 * The CPU kernel of ScatterND adds repeated rows from several threads at once; ScatterElements works through its list in
 * order. So additions spell out the row of every element; where rows are distinct, ScatterND puts down what replaces them.
 * @param asPlaces row numbers as the device's ScatterND takes them
 */
export const scatterRows =
  (asPlaces: (w: Writer, rows: string) => string): Lowering<"ScatterRows"> =>
  (w, { inputs: [, rows, updates], attrs: { reduction } }, [x = "", at = "", values = ""], outputs) => {
    const count = rows.shape[0] as Dim;
    if (reduction === "add") {
      const column = reshaped(w, at, [count, ...updates.shape.slice(1).map(() => 1)]);
      const places = w.value("Expand", [column, fullShape(w, updates.shape)]);
      return w.node("ScatterElements", [x, places, values], outputs, { axis: 0, reduction: "add" });
    }
    const replacing = reduction === "none" ? values : w.value("Add", [w.value("Gather", [x, at]), values]);
    w.node("ScatterND", [x, asPlaces(w, reshaped(w, at, [count, 1])), replacing], outputs);
  };
