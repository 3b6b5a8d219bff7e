/** What the outputs of a frozen vision tower depend on besides the picture, as one hash: they are kept under it. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { encodeOnnx } from "../graph/onnx.ts";
import { type Checkpoint, weightsDir } from "../model/checkpoint.ts";
import { visionGraph } from "../model/graphs.ts";
import type { Trainables } from "../model/layers.ts";
import { isVision } from "../model/parameters.ts";
import { type Device, deviceName, targetOf } from "../runtime/device.ts";
import { UserError } from "../utils/errors.ts";
import { isJsonObject } from "../utils/json.ts";
import { elementCount, readTensorBytes } from "../utils/safetensors.ts";
import { decoderVersions } from "../vision/decode.ts";
import type { VisionSettings } from "../vision/settings.ts";

/** Raised whenever the same picture would give other patches. */
const PREPARATION = 1;

export interface TowerUse {
  readonly device: Device;
  readonly vision: VisionSettings;
}

/**
 * A hash of the tower's graph as the runtime is given it, of every weight in it, of how pictures are prepared, of the packages
 * that decode and compute, and of the processor and its cores: with others, sums come out in other bits.
 * @returns null where parameters that train change the tower
 */
export function towerIdentity(
  checkpoint: Checkpoint,
  trainables: Trainables,
  { device, vision }: TowerUse,
): string | null {
  const { graph, trainable } = visionGraph(checkpoint, trainables);
  if (trainable.length > 0) return null;
  const { minPixels: _, maxPixels: __, ...preparation } = vision; // the size that comes of a budget is told with each picture
  const hash = createHash("sha256");
  hash.update(
    JSON.stringify([
      PREPARATION,
      preparation,
      decoderVersions(),
      runtimeVersion(),
      deviceName(device),
      cpus()[0]?.model,
      availableParallelism(),
    ]),
  );
  hash.update(encodeOnnx(graph, targetOf(device)));
  const dir = weightsDir(checkpoint);
  for (const { value, location, offset, byteLength } of graph.weights) {
    const file = join(dir, location);
    hash.update(value.name);
    hash.update(readTensorBytes({ name: value.name, dtype: "U8", shape: [byteLength], file, offset, byteLength }));
  }
  return hash.digest("hex").slice(0, 32);
}

/** Numbers in the weights that the tower reads. */
export const towerSize = (checkpoint: Checkpoint): number =>
  [...checkpoint.tensors]
    .filter(([name]) => isVision(name))
    .reduce((sum, [, { shape }]) => sum + elementCount(shape), 0);

/** Of the runtime, as it is installed. */
function runtimeVersion(): string {
  const file = createRequire(import.meta.url).resolve("onnxruntime-node/package.json");
  const manifest: unknown = JSON.parse(readFileSync(file, "utf8"));
  if (isJsonObject(manifest) && typeof manifest.version === "string") return manifest.version;
  throw new UserError(`${file}: has no version; install the packages again`);
}
