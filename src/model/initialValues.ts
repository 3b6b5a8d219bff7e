/** The values that training starts from: a fresh adapter, and the checkpoint's own where whole parameters train. */
import { required } from "../utils/errors.ts";
import { randomFrom } from "../utils/random.ts";
import { readFloat32 } from "../utils/safetensors.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { Trainables } from "./layers.ts";
import { EMBED } from "./parameters.ts";
import { rowSquares } from "./rowSquares.ts";

/**
 * A model that does as the checkpoint does. A is drawn from U(-1/sqrt(in), 1/sqrt(in)), which is PyTorch's kaiming_uniform
 * with a = sqrt(5); B is zero, so DoRA's magnitudes are the lengths of the rows of W.
 * @param seed null leaves A zero too: an adapter that is only used, as the base
 */
export function initialValues(
  checkpoint: Checkpoint,
  { full, lora }: Trainables,
  seed: number | null,
): ReadonlyMap<string, Float32Array> {
  const values = new Map<string, Float32Array>();
  for (const name of full) values.set(name, weightsOf(checkpoint, name));
  for (const { name, keyA, keyB, keyMagnitude, inFeatures, outFeatures } of lora?.modules ?? []) {
    const { r, useDora } = required(lora, "lora").settings;
    values.set(keyA, seed === null ? new Float32Array(r * inFeatures) : initialA(seed, keyA, r, inFeatures));
    values.set(keyB, new Float32Array(outFeatures * r));
    if (useDora)
      values.set(keyMagnitude, Float32Array.from(rowSquares(checkpoint, weightName(checkpoint, name)), Math.sqrt));
  }
  return values;
}

/** A tied head has no weight of its own. */
const weightName = ({ architecture }: Checkpoint, module: string): string =>
  module === "lm_head" && architecture.isHeadTied ? EMBED : `${module}.weight`;

function initialA(seed: number, key: string, r: number, inFeatures: number): Float32Array {
  const random = randomFrom(seed, "lora", key);
  const bound = 1 / Math.sqrt(inFeatures);
  return Float32Array.from({ length: r * inFeatures }, () => (2 * random.uniform() - 1) * bound);
}

const weightsOf = ({ tensors }: Checkpoint, name: string): Float32Array =>
  readFloat32(required(tensors.get(name), `parameter ${name}`));
