// A base with an adapter worked into its weights, as a folder of its own: W + (alpha / r) B A, written in float32.
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Checkpoint } from "../../src/model/checkpoint.ts";
import { type LoraSettings, loraModules } from "../../src/model/lora.ts";
import type { NamedArrays } from "../../src/train/replica.ts";
import { required } from "../../src/utils/errors.ts";
import { randomFrom } from "../../src/utils/random.ts";
import { readFloat32, writeSafetensors } from "../../src/utils/safetensors.ts";

/** Both matrices random, so that every adapted layer differs from the base's. */
export function randomAdapter({ architecture }: Checkpoint, settings: LoraSettings, size: number): NamedArrays {
  const filled = (name: string, length: number, deviation: number): Float32Array => {
    const random = randomFrom("adapter", name);
    return Float32Array.from({ length }, () => deviation * random.normal());
  };
  return new Map(
    loraModules(architecture, settings).flatMap(({ keyA, keyB, inFeatures, outFeatures }) => [
      [keyA, filled(keyA, settings.r * inFeatures, 1 / Math.sqrt(inFeatures))],
      [keyB, filled(keyB, outFeatures * settings.r, size)],
    ]),
  );
}

export async function writeMerged(
  dir: string,
  { checkpoint, settings, adapter }: { checkpoint: Checkpoint; settings: LoraSettings; adapter: NamedArrays },
): Promise<void> {
  cpSync(checkpoint.dir, dir, { recursive: true });
  for (const { file } of checkpoint.tensors.values())
    rmSync(join(dir, file.slice(checkpoint.dir.length + 1)), { force: true });
  const changes = new Map<string, Float64Array>(
    loraModules(checkpoint.architecture, settings).map(({ name, keyA, keyB, inFeatures, outFeatures }) => {
      const [a, b] = [required(adapter.get(keyA), keyA), required(adapter.get(keyB), keyB)];
      return [
        `${name}.weight`,
        product({ a, b, r: settings.r, inFeatures, outFeatures, scale: settings.alpha / settings.r }),
      ] as const;
    }),
  );
  const tensors = [...checkpoint.tensors].map(([name, entry]) => {
    const change = changes.get(name);
    const values = () => readFloat32(entry).map((weight, i) => weight + (change?.[i] ?? 0));
    return { name, shape: entry.shape, dtype: "F32" as const, values };
  });
  await writeSafetensors(join(dir, "model.safetensors"), tensors);
}

interface Factors {
  readonly a: Float32Array; // [R, in]
  readonly b: Float32Array; // [out, R]
  readonly r: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly scale: number;
}

/** scale B A [out, in], in double. */
function product({ a, b, r, inFeatures, outFeatures, scale }: Factors): Float64Array {
  const out = new Float64Array(outFeatures * inFeatures);
  for (let o = 0; o < outFeatures; o++) {
    for (let k = 0; k < r; k++) {
      const factor = scale * (b[o * r + k] ?? 0);
      for (let i = 0; i < inFeatures; i++)
        out[o * inFeatures + i] = (out[o * inFeatures + i] ?? 0) + factor * (a[k * inFeatures + i] ?? 0);
    }
  }
  return out;
}
