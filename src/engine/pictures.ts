/** Pictures on their way to the model: decoded when needed, and the frozen tower's features computed once and kept, in memory and on disk. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import pLimit from "p-limit";
import type { PictureFeatures, PicturePixels } from "../model/feeds.ts";
import { messageOf, required, UserError } from "../utils/errors.ts";
import { decodeImage } from "../vision/decode.ts";
import type { ImageSource } from "../vision/image.ts";
import { framePatchesOf, patchesOf } from "../vision/patches.ts";
import type { PlacedImage } from "../vision/placement.ts";
import type { VisionSettings } from "../vision/settings.ts";
import type { FeatureFiles } from "./featureFiles.ts";
import type { RemoteEngine } from "./start.ts";

const DECODING_AT_ONCE = 4; // sharp decodes in threads of its own; more only takes memory
export const MAX_PATCHES_A_RUN = 4096; // pictures of one size are encoded together up to this many patches
/**
 * Smaller ones go alone: the runtime multiplies so few rows in an order of its own, and what a picture becomes must not depend
 * on its company, which differs between a run and its continuation, and with what is found on disk.
 */
const FEWEST_PATCHES_TOGETHER = 48;
export const DEFAULT_FEATURE_BYTES = 2 ** 30;

/** Frames of a video are resized in another way than pictures. */
const keyOf = ({ frames, grid, video }: PlacedImage): string =>
  [video === undefined ? "picture" : "video", ...frames.map(identityOf), grid].join("|");

const identityOf = (source: ImageSource): string =>
  source.kind === "file" ? source.path : createHash("sha256").update(source.bytes).digest("hex");

/** The same wherever the pictures lie. */
async function contentOf({ frames, grid, video }: PlacedImage): Promise<string> {
  const hash = createHash("sha256").update(`${video === undefined ? "picture" : "video"} ${grid}`);
  for (const source of frames) hash.update(await sumOf(source));
  return hash.digest("hex").slice(0, 40);
}

async function sumOf(source: ImageSource): Promise<Buffer> {
  const bytes = source.kind === "file" ? await bytesIn(source.path) : source.bytes;
  return createHash("sha256").update(bytes).digest();
}

const bytesIn = (path: string): Promise<Buffer> =>
  readFile(path).catch((cause: unknown) => {
    throw new UserError(`${path}: the picture cannot be read: ${messageOf(cause)}`, { cause });
  });

const bytesOf = ({ imageEmbeds, deepstack }: PictureFeatures): number =>
  deepstack.reduce((sum, part) => sum + part.byteLength, imageEmbeds.byteLength);

export interface PictureStoreOptions {
  /** Of features in memory. */
  readonly maxBytes?: number;
  /** As in `Engine.generate`; adapters that leave the tower alone may share one store. */
  readonly parameterSet?: string | null;
  /** Where features outlive the run; null or absent: nowhere. Only for a tower that stays as it is. */
  readonly files?: FeatureFiles | null;
}

/** Where features came from. */
export interface PictureCounts {
  /** Pictures that went through the tower. */
  readonly computed: number;
  readonly onDisk: number;
  readonly inMemory: number;
}

export class PictureStore {
  readonly #engine: Pick<RemoteEngine, "encodePictures">;
  readonly #vision: VisionSettings;
  readonly #maxBytes: number;
  readonly #parameterSet: string | null;
  /** Least recently used first. */
  readonly #features = new Map<string, PictureFeatures>();
  readonly #underWay = new Map<string, Promise<PictureFeatures>>();
  readonly #decoding = pLimit(DECODING_AT_ONCE);
  readonly #files: FeatureFiles | null;
  #bytes = 0;
  #counts: PictureCounts = { computed: 0, onDisk: 0, inMemory: 0 };

  constructor(
    engine: Pick<RemoteEngine, "encodePictures">,
    vision: VisionSettings,
    { maxBytes = DEFAULT_FEATURE_BYTES, parameterSet = null, files = null }: PictureStoreOptions = {},
  ) {
    this.#engine = engine;
    this.#vision = vision;
    this.#maxBytes = maxBytes;
    this.#parameterSet = parameterSet;
    this.#files = files;
  }

  /** How often features were asked for so far, by where they came from. */
  counts(): PictureCounts {
    return this.#counts;
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
      if (this.#features.has(key) || this.#underWay.has(key) || missing.has(key)) this.#count("inMemory", 1);
      else missing.set(key, image);
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
    const run = this.#featuresOf(group.map(([, image]) => image));
    group.forEach(([key], i) => {
      const one = run.then((features) => this.#keep(key, required(features[i], "features")));
      this.#underWay.set(key, one);
      const forget = (): void => void this.#underWay.delete(key);
      one.then(forget, forget);
    });
  }

  /** From disk, or through the tower, and then to disk. */
  async #featuresOf(images: readonly PlacedImage[]): Promise<PictureFeatures[]> {
    const files = this.#files;
    if (files === null) return this.#compute(images);
    const names = await Promise.all(images.map((image) => this.#decoding(() => contentOf(image))));
    const found = await Promise.all(names.map((name) => files.find(name)));
    const missing = images.flatMap((image, i) => (found[i] ? [] : [{ image, name: required(names[i], "name") }]));
    this.#count("onDisk", images.length - missing.length);
    if (missing.length === 0) return found.map((one) => required(one, "features"));
    const computed = await this.#compute(missing.map(({ image }) => image));
    for (const [i, features] of computed.entries()) await files.keep(required(missing[i], "picture").name, features);
    const fresh = computed.values();
    return found.map((one) => one ?? required(fresh.next().value, "features"));
  }

  async #compute(images: readonly PlacedImage[]): Promise<PictureFeatures[]> {
    this.#count("computed", images.length);
    return this.#engine.encodePictures(await this.pixels(images), this.#parameterSet);
  }

  #count(where: keyof PictureCounts, pictures: number): void {
    this.#counts = { ...this.#counts, [where]: this.#counts[where] + pictures };
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
    const patches = t * h * w;
    const size = patches < FEWEST_PATCHES_TOGETHER ? 1 : Math.max(1, Math.floor(MAX_PATCHES_A_RUN / patches));
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
