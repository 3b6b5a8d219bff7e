/** Weights in few bits as graphs will name them, whose files need not be there: for forecasts. */
import { join } from "node:path";
import { required } from "../../utils/errors.ts";
import { byteLengthOf, type TensorDtype, type TensorEntry } from "../../utils/safetensors.ts";
import type { Checkpoint } from "../checkpoint.ts";
import { type QuantKind, storedShapes } from "./matrix.ts";
import { PARTS, type QuantisedEntry, type QuantPart, quantisedNames } from "./store.ts";

export function plannedQuantised(checkpoint: Checkpoint, kind: QuantKind): Checkpoint {
  const of = (suffix: "" | ".transposed"): ReadonlyMap<string, QuantisedEntry> =>
    new Map(
      PARTS.filter((part) => part.endsWith(".transposed") === (suffix !== "")).flatMap((part) =>
        entriesOf(checkpoint, kind, part),
      ),
    );
  return { ...checkpoint, quantised: { kind, inputBits: 8, weights: of(""), transposed: of(".transposed") } };
}

function entriesOf(checkpoint: Checkpoint, kind: QuantKind, part: QuantPart): [string, QuantisedEntry][] {
  return quantisedNames(checkpoint, part).map((name) => {
    const { shape } = required(checkpoint.tensors.get(name), name);
    const [rows = 0, columns = 0] = part.endsWith(".transposed") ? shape.toReversed() : shape;
    const stored = storedShapes(kind, rows, columns);
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
