/** Pictures and videos before they are decoded: what their headers announce, and the grid that each gets from it. */
import { UserError } from "../utils/errors.ts";
import { leastWhere } from "../utils/search.ts";
import { readImageSize } from "./decode.ts";
import { type GridThw, type ImageSize, type ImageSource, nameOf } from "./image.ts";
import { gridOf } from "./patches.ts";
import type { VisionSettings } from "./settings.ts";
import { countedFrames, temporalPatches, videoGridOf } from "./video.ts";
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

/**
 * @param share of what lies between the smallest and the largest budget: 1 leaves pictures as the limits have them, 0 makes
 *   them as small as may be
 * @returns for each visual in order its images: one for a picture, one a temporal patch for a video
 */
export function place(visuals: readonly MeasuredVisual[], limits: PixelLimits, share = 1): PlacedImage[][] {
  let videos = 0;
  return visuals.map((visual) => {
    const grid = visual.type === "image" ? imageGrid(visual.size, limits, share) : videoGrid(visual, limits, share);
    if (visual.type === "image") return [{ frames: [visual.image], grid }];
    const video = videos++;
    return temporalPatches(visual.video, limits.vision).map((frames) => ({ frames, grid, video }));
  });
}

const imageGrid = (size: ImageSize, { vision }: PixelLimits, share: number): GridThw =>
  gridWithin(vision, share, (maxPixels) => {
    const grid = gridOf(size, { ...vision, maxPixels });
    return { grid, pixels: areaOf(grid, vision) };
  });

/** The grid of one temporal patch. */
function videoGrid(visual: MeasuredVisual & { readonly type: "video" }, limits: PixelLimits, share: number): GridThw {
  const { vision, video } = limits;
  const frames = visual.video.length;
  return gridWithin(video, share, (maxPixels) => {
    const [, height, width] = videoGridOf({ ...visual.size, frames }, vision, { ...video, maxPixels });
    const grid: GridThw = [1, height, width];
    return { grid, pixels: countedFrames(frames, vision) * areaOf(grid, vision) };
  });
}

const areaOf = ([, height, width]: GridThw, { patchSize }: VisionSettings): number => height * width * patchSize ** 2;

/** The grid under a share of a budget. Sides are rounded down, so the smallest budget is raised until its pixels are there. */
function gridWithin(
  { minPixels, maxPixels }: { readonly minPixels: number; readonly maxPixels: number },
  share: number,
  at: (maxPixels: number) => { readonly grid: GridThw; readonly pixels: number },
): GridThw {
  const wanted = Math.floor(minPixels + share * (maxPixels - minPixels));
  return at(
    Math.min(
      maxPixels,
      leastWhere(wanted, maxPixels, (most) => at(most).pixels >= minPixels),
    ),
  ).grid;
}
