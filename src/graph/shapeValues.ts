/** Shapes as ONNX values: numbers where they are known, else read off an input when a run begins. */
import { type Dim, factorOf, type Shape, symbolsOf } from "./dim.ts";
import type { DType } from "./value.ts";
import { type Attribute, int64s, lengths, type Writer } from "./writer.ts";

/** One dimension as int64 [1]. */
export function dimension(w: Writer, dim: Dim): string {
  if (typeof dim === "number") return int64s(w, [dim]);
  return w.once(`dim ${dim}`, () => {
    const factors = [
      ...symbolsOf(dim).map((symbol) => w.symbol(symbol)),
      ...(factorOf(dim) === 1 ? [] : [int64s(w, [factorOf(dim)])]),
    ];
    return factors.reduce((product, factor) => w.value("Mul", [product, factor]));
  });
}

/** One dimension as int64 []. */
export const scalarDimension = (w: Writer, dim: Dim): string =>
  w.value("Reshape", [dimension(w, dim), w.constant([], [0], "int64")]);

/** A whole shape as int64 [rank], every dimension in numbers. */
export function fullShape(w: Writer, shape: Shape): string {
  if (shape.every((dim) => typeof dim === "number")) return int64s(w, shape as readonly number[]);
  if (shape.length === 1) return dimension(w, shape[0] as Dim);
  return w.once(`shape ${shape}`, () =>
    w.value(
      "Concat",
      shape.map((dim) => dimension(w, dim)),
      { axis: 0 },
    ),
  );
}

/**
 * A shape as a Reshape takes it. One unknown dimension may be left to the runtime, which is cheaper than computing it. In a computed shape a 0 is a
 * length (`allowzero`): without it the runtime would read "as in x".
 */
export function reshapeTarget(
  w: Writer,
  shape: Shape,
): { readonly target: string; readonly attributes: Readonly<Record<string, Attribute>> } {
  const unknown = shape.filter((dim) => typeof dim !== "number").length;
  if (unknown > 1 || shape.includes(0)) return { target: fullShape(w, shape), attributes: { allowzero: 1 } };
  const left = shape.map((dim) => (typeof dim === "number" ? dim : -1));
  return { target: lengths(w, left), attributes: {} };
}

export function reshaped(w: Writer, x: string, shape: Shape, output?: string): string {
  const { target, attributes } = reshapeTarget(w, shape);
  if (output === undefined) return w.value("Reshape", [x, target], attributes);
  w.node("Reshape", [x, target], [output], attributes);
  return output;
}

export const filled = (w: Writer, shape: Shape, value: number, dtype: DType): string =>
  w.value("Expand", [w.constant([value], [], dtype), fullShape(w, shape)]);
