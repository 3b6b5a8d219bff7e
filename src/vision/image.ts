/** Where a picture comes from and what it is once decoded. */

/** A picture not yet decoded; `name` is what messages call it. */
export type ImageSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "bytes"; readonly name: string; readonly bytes: Uint8Array };

/** What messages call a picture. */
export const nameOf = (source: ImageSource): string => (source.kind === "file" ? source.path : source.name);

/** In pixels, as a person sees the picture: after its EXIF orientation. */
export interface ImageSize {
  readonly width: number;
  readonly height: number;
}

/** A decoded picture. */
export interface RgbImage extends ImageSize {
  /** [height, width, 3] red, green, blue */
  readonly data: Uint8Array;
}

/** [t, h, w] of one picture in patches (not merged): t is 1 for a still picture. */
export type GridThw = readonly [t: number, h: number, w: number];
