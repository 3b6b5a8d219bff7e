/**
 * Sine and cosine from sums and products. WGSL promises sin and cos to 2^-11 within one turn and nothing beyond (W3C,
 * WebGPU Shading Language, "Accuracy of Built-in Functions"); rotary angles reach thousands and their tables must be right.
 */
import type { Writer } from "./writer.ts";

/** pi in three parts; the first two are short, so that whole multiples of them are exact for angles up to 40,000 and beyond. */
const PI_PARTS = [3.140625, 0.0009670257568359375, 6.278329465203569e-7] as const;

/** Coefficients of sin(y) / y and cos(y) in powers of y^2; within [-pi/2, pi/2] what is left out is under 1e-9. */
const SINE = taylor(7, 1);
const COSINE = taylor(8, 0);

function taylor(terms: number, odd: 0 | 1): number[] {
  let factorial = 1;
  return Array.from({ length: terms }, (_, i) => {
    const power = 2 * i + odd;
    if (power > 1) factorial *= power * (power - 1);
    return (i % 2 === 0 ? 1 : -1) / factorial;
  });
}

/** x = k pi + y with y in [-pi/2, pi/2]: sin(x) = (-1)^k sin(y), and cos(x) likewise. Within 2e-7 of the true values. */
export function sine(w: Writer, x: string, output: string, of: "sin" | "cos"): void {
  const number = (value: number): string => w.constant([value], [], "float32");
  const op = (opType: string, ...inputs: string[]): string => w.value(opType, inputs);
  const k = w.once(`half turns of ${x}`, () => op("Floor", op("Add", op("Mul", x, number(1 / Math.PI)), number(0.5))));
  const sign = w.once(`sign of ${x}`, () => {
    const odd = op("Sub", k, op("Mul", op("Floor", op("Mul", k, number(0.5))), number(2)));
    return op("Sub", number(1), op("Mul", odd, number(2)));
  });
  const y = w.once(`rest of ${x}`, () =>
    PI_PARTS.reduce((rest, part) => op("Sub", rest, op("Mul", k, number(part))), x),
  );
  const square = w.once(`square of ${y}`, () => op("Mul", y, y));
  const series = (coefficients: readonly number[]): string =>
    coefficients.map(number).reduceRight((sum, coefficient) => op("Add", op("Mul", sum, square), coefficient));
  const signed = of === "sin" ? op("Mul", sign, y) : sign;
  w.node("Mul", [signed, series(of === "sin" ? SINE : COSINE)], [output]);
}
