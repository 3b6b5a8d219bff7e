/** Pictures and videos before they are decoded: what their headers announce, and the grid that each gets from it. */
import { UserError } from "../utils/errors.ts";
import { readImageSize } from "./decode.ts";
import { type GridThw, type ImageSize, type ImageSource, nameOf } from "./image.ts";
import { gridOf } from "./patches.ts";
import type { VisionSettings } from "./settings.ts";
import { temporalPatches, videoGridOf } from "./video.ts";
import type { VideoBudget } from "./videoBudget.ts";

/** A picture, or a piece of a video; the grid is the size that it will be resized to. */
export interface PlacedImage {
  /** The one picture, or the frames that make one temporal patch of a video. */
  readonly frames: readonly ImageSource[];
  /** [1, h, w] */
  readonly grid: GridThw;
  /** Which video of the conversation it is a piece of, from 0; absent for a picture. */
  readonly video?: number;
}

export type UnmeasuredVisual =
  | { readonly type: "image"; readonly image: ImageSource }
  | { readonly type: "video"; readonly video: readonly ImageSource[]; readonly fps: number };

/** With its size as headers announce it; all frames of a video have one. */
export type MeasuredVisual = UnmeasuredVisual & { readonly size: ImageSize };

/** @throws UserError naming the file when it is missing or unreadable, or a frame is of another size than the first */
export async function measure(visual: UnmeasuredVisual): Promise<MeasuredVisual> {
  if (visual.type === "image") return { ...visual, size: await readImageSize(visual.image) };
  const sizes = await Promise.all(visual.video.map(readImageSize));
  const [size] = sizes as [ImageSize];
  const other = sizes.findIndex(({ width, height }) => width !== size.width || height !== size.height);
  if (other < 0) return { ...visual, size };
  const { width, height } = sizes[other] as ImageSize;
  throw new UserError(
    `${nameOf(visual.video[other] as ImageSource)}: frame ${other + 1} of a video is ${width}x${height}, its first frame is ` +
      `${size.width}x${size.height}; expected frames of one size`,
  );
}

/** How large pictures and videos may be. */
export interface PixelLimits {
  readonly vision: VisionSettings;
  readonly video: VideoBudget;
}

/** The limits with a share of what lies between the smallest and the largest: 1 leaves them, 0 makes all as small as can be. */
export function shareOf({ vision, video }: PixelLimits, share: number): PixelLimits {
  const most = (limit: { readonly minPixels: number; readonly maxPixels: number }): number =>
    Math.floor(limit.minPixels + share * (limit.maxPixels - limit.minPixels));
  return { vision: { ...vision, maxPixels: most(vision) }, video: { ...video, maxPixels: most(video) } };
}

/** @returns for each visual in order its images: one for a picture, one a temporal patch for a video */
export function place(visuals: readonly MeasuredVisual[], limits: PixelLimits): PlacedImage[][] {
  let videos = 0;
  return visuals.map((visual) => {
    if (visual.type === "image") return [{ frames: [visual.image], grid: gridOf(visual.size, limits.vision) }];
    const size = { ...visual.size, frames: visual.video.length };
    const [, height, width] = videoGridOf(size, limits.vision, limits.video);
    const video = videos++;
    return temporalPatches(visual.video, limits.vision).map((frames) => ({ frames, grid: [1, height, width], video }));
  });
}
