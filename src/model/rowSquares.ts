/** Squared lengths of the rows of frozen weights: what DoRA's magnitudes are measured by. */
import { required } from "../utils/errors.ts";
import { readFloat32 } from "../utils/safetensors.ts";
import type { Checkpoint } from "./checkpoint.ts";

const known = new WeakMap<Checkpoint["tensors"], Map<string, Float64Array>>();

/**
 * Read off the file once for all graphs of a checkpoint; as nodes, the runtime would hold every weight in float32 to compute it.
 * @param name of a matrix [rows, columns]
 * @returns [rows]; zeros where the checkpoint is only planned
 */
export function rowSquares({ tensors, isPlanned }: Checkpoint, name: string): Float64Array {
  const entry = required(tensors.get(name), `parameter ${name}`);
  const [rows = 0] = entry.shape;
  if (isPlanned) return new Float64Array(rows);
  const ofCheckpoint = known.get(tensors) ?? new Map<string, Float64Array>();
  known.set(tensors, ofCheckpoint);
  const found = ofCheckpoint.get(name) ?? squared(readFloat32(entry), rows);
  ofCheckpoint.set(name, found);
  return found;
}

function squared(matrix: Float32Array, rows: number): Float64Array {
  const columns = matrix.length / rows;
  return Float64Array.from({ length: rows }, (_, row) => {
    let sum = 0;
    for (let i = row * columns; i < (row + 1) * columns; i++) sum += (matrix[i] as number) ** 2;
    return sum;
  });
}
