/** Pictures for a run: through the vision tower once, and where the tower is frozen kept for later runs. */
import { FeatureFiles } from "../engine/featureFiles.ts";
import { PictureStore } from "../engine/pictures.ts";
import type { RemoteEngine } from "../engine/start.ts";
import { towerIdentity, towerSize } from "../engine/towerIdentity.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { type TrainableSpec, trainablesOf } from "../model/trainables.ts";
import type { Device } from "../runtime/device.ts";
import { required } from "../utils/errors.ts";
import type { Log } from "../utils/log.ts";
import { userCache } from "../utils/userCache.ts";
import type { Model } from "./model.ts";

export interface VisionCacheUse {
  readonly model: Model;
  /** What trains, or the kind of adapter that is used. */
  readonly spec: TrainableSpec;
  /** One of those that compute: they are of one kind. */
  readonly device: Device | undefined;
  /** null: by the size of the tower. */
  readonly visionCacheGb: number | null;
  /** As in `Engine.generate`. */
  readonly parameterSet?: string | null;
  readonly log: Log;
}

const DEFAULT_GB = 10;
/** A tower below this takes milliseconds a picture, as long as reading a file and comparing its hash. */
const WORTH_KEEPING = 10_000_000;

/** Bytes that files may take; 0: none are kept. */
export const fileRoom = (checkpoint: Checkpoint, visionCacheGb: number | null): number =>
  1e9 * (visionCacheGb ?? (towerSize(checkpoint) < WORTH_KEEPING ? 0 : DEFAULT_GB));

/** @returns a store with files where these are wanted and the tower stays as it is */
export function pictureStore(engine: RemoteEngine, use: VisionCacheUse): PictureStore {
  const { model, parameterSet = null } = use;
  return new PictureStore(engine, model.processor.vision, { parameterSet, files: filesFor(use) });
}

function filesFor({ model, spec, device, visionCacheGb, log }: VisionCacheUse): FeatureFiles | null {
  const { checkpoint, processor } = model;
  const maxBytes = fileRoom(checkpoint, visionCacheGb);
  if (maxBytes === 0) return null;
  const tower = towerIdentity(checkpoint, trainablesOf(checkpoint, spec), {
    device: required(device, "device"),
    vision: processor.vision,
  });
  if (tower === null) return null;
  const root = userCache("vision");
  log.line(
    `what the vision tower makes of pictures is kept in ${root}, at most ${maxBytes / 1e9} GB (--vision-cache-gb)`,
  );
  return new FeatureFiles({ root, tower, maxBytes, onNote: log.warn });
}

/** Tells how often the tower ran. */
export function tellPictures(pictures: PictureStore, log: Log): void {
  const { computed, onDisk, inMemory } = pictures.counts();
  if (computed + onDisk + inMemory === 0) return;
  log.line(`vision tower: ${computed} pictures computed, ${onDisk} found on disk, ${inMemory} times in memory`);
}
