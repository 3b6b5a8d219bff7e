/** Pictures on their way to the model: decoded when needed, and the frozen tower's features computed once and kept. */
import { createHash } from "node:crypto";
import pLimit from "p-limit";
import type { PictureFeatures, PicturePixels } from "../model/feeds.ts";
import { required } from "../utils/errors.ts";
import { decodeImage } from "../vision/decode.ts";
import type { ImageSource } from "../vision/image.ts";
import { framePatchesOf, patchesOf } from "../vision/patches.ts";
import type { PlacedImage } from "../vision/placement.ts";
import type { VisionSettings } from "../vision/settings.ts";
import type { RemoteEngine } from "./start.ts";

const DECODING_AT_ONCE = 4; // sharp decodes in threads of its own; more only takes memory
export const MAX_PATCHES_A_RUN = 4096; // pictures of one size are encoded together up to this many patches
export const DEFAULT_FEATURE_BYTES = 2 ** 30;

/** Frames of a video are resized in another way than pictures. */
const keyOf = ({ frames, grid, video }: PlacedImage): string =>
  [video === undefined ? "picture" : "video", ...frames.map(identityOf), grid].join("|");

const identityOf = (source: ImageSource): string =>
  source.kind === "file" ? source.path : createHash("sha256").update(source.bytes).digest("hex");

const bytesOf = ({ imageEmbeds, deepstack }: PictureFeatures): number =>
  deepstack.reduce((sum, part) => sum + part.byteLength, imageEmbeds.byteLength);

export class PictureStore {
  readonly #engine: Pick<RemoteEngine, "encodePictures">;
  readonly #vision: VisionSettings;
  readonly #maxBytes: number;
  readonly #parameterSet: string | null;
  /** Least recently used first. */
  readonly #features = new Map<string, PictureFeatures>();
  readonly #underWay = new Map<string, Promise<PictureFeatures>>();
  readonly #decoding = pLimit(DECODING_AT_ONCE);
  #bytes = 0;

  /** @param options.parameterSet as in `Engine.generate`; adapters that leave the tower alone may share one store */
  constructor(
    engine: Pick<RemoteEngine, "encodePictures">,
    vision: VisionSettings,
    { maxBytes = DEFAULT_FEATURE_BYTES, parameterSet = null }: { maxBytes?: number; parameterSet?: string | null } = {},
  ) {
    this.#engine = engine;
    this.#vision = vision;
    this.#maxBytes = maxBytes;
    this.#parameterSet = parameterSet;
  }

  /** Patches of each picture, in order. */
  pixels(images: readonly PlacedImage[]): Promise<PicturePixels[]> {
    return Promise.all(images.map((image) => this.#decoding(() => this.#patches(image))));
  }

  /** What the frozen tower makes of each picture, in order; a picture that is asked for twice is computed once. */
  async features(images: readonly PlacedImage[]): Promise<PictureFeatures[]> {
    const missing = new Map<string, PlacedImage>();
    for (const image of images) {
      const key = keyOf(image);
      if (!this.#features.has(key) && !this.#underWay.has(key)) missing.set(key, image);
    }
    for (const group of groupedByGrid(missing)) this.#encode(group);
    return Promise.all(images.map((image) => this.#lookUp(keyOf(image))));
  }

  /** Of the size that the grid says, which may be smaller than the settings' budget. */
  async #patches({ frames, grid, video }: PlacedImage): Promise<PicturePixels> {
    const decoded = await Promise.all(frames.map(decodeImage));
    return video === undefined
      ? patchesOf(required(decoded[0], "picture"), this.#vision, grid)
      : framePatchesOf(decoded, this.#vision, grid);
  }

  #encode(group: readonly (readonly [string, PlacedImage])[]): void {
    const run = this.pixels(group.map(([, image]) => image)).then((pixels) =>
      this.#engine.encodePictures(pixels, this.#parameterSet),
    );
    group.forEach(([key], i) => {
      const one = run.then((features) => this.#keep(key, required(features[i], "features")));
      this.#underWay.set(key, one);
      const forget = (): void => void this.#underWay.delete(key);
      one.then(forget, forget);
    });
  }

  async #lookUp(key: string): Promise<PictureFeatures> {
    const known = this.#features.get(key);
    if (!known) return required(this.#underWay.get(key), "picture under way");
    this.#features.delete(key); // and back in as the most recently used
    this.#features.set(key, known);
    return known;
  }

  #keep(key: string, features: PictureFeatures): PictureFeatures {
    this.#features.set(key, features);
    this.#bytes += bytesOf(features);
    for (const [oldest, old] of this.#features) {
      if (this.#bytes <= this.#maxBytes || oldest === key) break;
      this.#features.delete(oldest);
      this.#bytes -= bytesOf(old);
    }
    return features;
  }
}

function* groupedByGrid(images: ReadonlyMap<string, PlacedImage>): Generator<(readonly [string, PlacedImage])[]> {
  for (const group of grouped(images).values()) {
    const [t, h, w] = required(group[0], "picture")[1].grid;
    const size = Math.max(1, Math.floor(MAX_PATCHES_A_RUN / (t * h * w)));
    for (let start = 0; start < group.length; start += size) yield group.slice(start, start + size);
  }
}

function grouped(images: ReadonlyMap<string, PlacedImage>): Map<string, [string, PlacedImage][]> {
  const groups = new Map<string, [string, PlacedImage][]>();
  for (const entry of images) {
    const key = `${entry[1].grid}`;
    const group = groups.get(key);
    if (group) group.push(entry);
    else groups.set(key, [entry]);
  }
  return groups;
}
