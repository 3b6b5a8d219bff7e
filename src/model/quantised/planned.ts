/** Weights in few bits as graphs will name them, whose files need not be there: for forecasts. */
import { join } from "node:path";
import { required } from "../../utils/errors.ts";
import { byteLengthOf, type TensorDtype, type TensorEntry } from "../../utils/safetensors.ts";
import type { Checkpoint } from "../checkpoint.ts";
import type { QuantKind } from "./matrix.ts";
import { isForGradients, type QuantPart, quantisedNames } from "./parts.ts";
import { type QuantisedEntry, storedOf } from "./store.ts";

export function plannedQuantised(checkpoint: Checkpoint, kind: QuantKind, parts: readonly QuantPart[]): Checkpoint {
  const of = (areForGradients: boolean): ReadonlyMap<string, QuantisedEntry> =>
    new Map(
      parts
        .filter((part) => isForGradients(part) === areForGradients)
        .flatMap((part) => entriesOf(checkpoint, kind, part)),
    );
  return { ...checkpoint, quantised: { kind, inputBits: 8, weights: of(false), forGradients: of(true) } };
}

function entriesOf(checkpoint: Checkpoint, kind: QuantKind, part: QuantPart): [string, QuantisedEntry][] {
  return quantisedNames(checkpoint.architecture, kind, part).map((name) => {
    const stored = storedOf(required(checkpoint.tensors.get(name), name), kind, part);
    const entry = (dtype: TensorDtype, shape: readonly number[]): TensorEntry => {
      const byteLength = byteLengthOf({ name, dtype, shape });
      return { name, dtype, shape, file: join(checkpoint.dir, `${kind}.${part}`), offset: 0, byteLength };
    };
    return [
      name,
      {
        values: entry(stored.dtype, stored.values),
        scales: entry("F32", stored.scales),
        zeroPoints: stored.zeroPoints && entry("U8", stored.zeroPoints),
      },
    ];
  });
}
