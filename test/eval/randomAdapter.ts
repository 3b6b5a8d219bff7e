// An adapter that changes every layer it is on.
import type { Checkpoint } from "../../src/model/checkpoint.ts";
import { type LoraSettings, loraModules } from "../../src/model/lora.ts";
import type { NamedArrays } from "../../src/train/replica.ts";
import { randomFrom } from "../../src/utils/random.ts";

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
