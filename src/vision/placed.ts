/** A picture with its place in the model's grid, not decoded: its size alone says how many tokens it takes. */
import type { GridThw, ImageSource } from "./image.ts";

/** A picture, or a piece of a video; the grid is the size that it will be resized to. */
export interface PlacedImage {
  /** The one picture, or the frames that make one temporal patch of a video. */
  readonly frames: readonly ImageSource[];
  /** [1, h, w] */
  readonly grid: GridThw;
  /** Which video of the conversation it is a piece of, from 0; absent for a picture. */
  readonly video?: number;
}
