/** What stands in a token row for pictures and videos: the template writes one placeholder for each, and this the rest. */
import { UserError } from "../utils/errors.ts";
import { imageTokenCount } from "../vision/patches.ts";
import type { MeasuredVisual, PlacedImage } from "../vision/placement.ts";
import type { VisionSettings } from "../vision/settings.ts";
import { timestampsOf } from "../vision/video.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Ids of the tokens that pictures and videos are written with. */
export interface VisualIds {
  /** Stands for one block of a picture's patches. */
  readonly imageTokenId: number;
  /** Stands for one block of a video's patches. */
  readonly videoTokenId: number;
  /** Open and close a picture or a piece of a video. */
  readonly visionStartId: number;
  readonly visionEndId: number;
}

/** A picture or video ready to be written. */
export interface Visual {
  readonly kind: "image" | "video";
  /** What takes the place of its placeholder. */
  readonly ids: readonly number[];
  /** One for a picture; for a video one for each temporal patch. */
  readonly images: readonly PlacedImage[];
}

/** The tokens [start, end) of one picture or video, its opening and closing marks included. */
export interface VisualBlock {
  readonly start: number;
  readonly end: number;
  /** How many of the row's images are its. */
  readonly images: number;
}

export interface WrittenVisuals {
  /** [T] */
  readonly inputIds: Int32Array;
  /** [T] which token before writing each one comes from */
  readonly origins: Int32Array;
  readonly images: readonly PlacedImage[];
  readonly blocks: readonly VisualBlock[];
}

/** What visuals are written with. */
export interface VisualWriting extends VisualIds {
  readonly tokenizer: Pick<Tokenizer, "encode">;
  readonly vision: VisionSettings;
}

/**
 * A picture as its image tokens; a video as its temporal patches, each behind its time and between marks of its own.
 * The template's marks stay around the whole video, as in transformers since 5.10; before, they were taken away.
 * @param images what `place` made of the visual
 * Source: transformers 5.18, processing_qwen3_vl.py, replace_video_token; processing_utils.py, get_text_with_replacements.
 */
export function visualOf(visual: MeasuredVisual, images: readonly PlacedImage[], writing: VisualWriting): Visual {
  const { imageTokenId, videoTokenId, visionStartId, visionEndId, tokenizer, vision } = writing;
  const tokensOf = ({ grid }: PlacedImage, id: number): number[] => new Array(imageTokenCount(grid, vision)).fill(id);
  if (visual.type === "image")
    return { kind: "image", ids: images.flatMap((image) => tokensOf(image, imageTokenId)), images };
  const times = timestampsOf(visual.video.length, visual.fps, vision);
  const ids = images.flatMap((image, i) => [
    ...tokenizer.encode(times[i] ?? ""),
    visionStartId,
    ...tokensOf(image, videoTokenId),
    visionEndId,
  ]);
  return { kind: "video", ids, images };
}

/**
 * Writes each picture and video in the place of its token, kind by kind in order.
 * @param ids token ids with one placeholder for each
 * @throws UserError when placeholders and visuals differ in number
 */
export function writeVisuals(ids: readonly number[], visuals: readonly Visual[], visualIds: VisualIds): WrittenVisuals {
  const placed = placeVisuals(ids, visuals, visualIds);
  const inputIds: number[] = [];
  const origins: number[] = [];
  const blocks: VisualBlock[] = [];
  ids.forEach((id, origin) => {
    const visual = placed.get(origin);
    const written = visual?.ids ?? [id];
    if (visual) {
      const start = inputIds.length - (ids[origin - 1] === visualIds.visionStartId ? 1 : 0);
      const end = inputIds.length + written.length + (ids[origin + 1] === visualIds.visionEndId ? 1 : 0);
      blocks.push({ start, end, images: visual.images.length });
    }
    for (const one of written) {
      inputIds.push(one);
      origins.push(origin);
    }
  });
  const images = [...placed.values()].flatMap((visual) => visual.images);
  return { inputIds: Int32Array.from(inputIds), origins: Int32Array.from(origins), images, blocks };
}

/** The visual of each placeholder, by its index and in order. */
function placeVisuals(
  ids: readonly number[],
  visuals: readonly Visual[],
  { imageTokenId, videoTokenId }: VisualIds,
): Map<number, Visual> {
  const placed = new Map<number, Visual>();
  const place = (kind: Visual["kind"], token: number): void => {
    const own = visuals.filter((visual) => visual.kind === kind);
    const places = [...ids.keys()].filter((at) => ids[at] === token);
    if (places.length !== own.length) refuse(kind, places.length, own.length);
    places.forEach((at, i) => {
      placed.set(at, own[i] as Visual);
    });
  };
  place("image", imageTokenId);
  place("video", videoTokenId);
  return new Map([...placed].sort(([one], [other]) => one - other));
}

function refuse(kind: Visual["kind"], tokens: number, count: number): never {
  const things = kind === "image" ? "pictures" : "videos";
  throw new UserError(
    `${tokens} ${kind} tokens for ${count} ${things}; expected one for each: the chat template may leave out ${things} that ` +
      `are not in a user's turn, and a text must not hold the ${kind} token itself`,
  );
}
