/** Where a picture comes from. */

/** A picture not yet decoded; `name` is what messages call it. */
export type ImageSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "bytes"; readonly name: string; readonly bytes: Uint8Array };

/** [t, h, w] of one picture in patches (not merged): t is 1 for a still picture. */
export type GridThw = readonly [t: number, h: number, w: number];
