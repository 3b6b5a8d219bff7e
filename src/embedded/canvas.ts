/** Painting into bytes: gradients, rounded boxes, sprites and text, with nothing but arithmetic that is the same everywhere. */
import { GLYPH_ROWS, setText } from "./glyphs.ts";
import type { Sprite } from "./icons.ts";

export type Colour = readonly [red: number, green: number, blue: number];

/** A rectangle in pixels. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** A picture being painted. @property rgb [height, width, 3] bytes */
export interface Canvas {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

export const newCanvas = (width: number, height: number): Canvas => ({
  width,
  height,
  rgb: new Uint8Array(width * height * 3),
});

/** Fills the whole canvas from one colour at the top to another at the bottom. */
export function paintGradient(canvas: Canvas, top: Colour, bottom: Colour): void {
  for (let y = 0; y < canvas.height; y++) {
    const colour = mixed(top, bottom, Math.round((y * 255) / (canvas.height - 1)));
    for (let x = 0; x < canvas.width; x++) tint(canvas.rgb, (y * canvas.width + x) * 3, colour, 255);
  }
}

/** @param share 0 gives `from`, 255 gives `to` */
export function mixed(from: Colour, to: Colour, share: number): Colour {
  return [blend(from[0], to[0], share), blend(from[1], to[1], share), blend(from[2], to[2], share)];
}

/** Fills a box with rounded, smooth corners; `radius` is at most half its shorter side, `alpha` is 0..255. */
export function paintBox(canvas: Canvas, box: Box, look: { colour: Colour; radius?: number; alpha?: number }): void {
  const { colour, radius = 0, alpha = 255 } = look;
  const [halfWidth, halfHeight] = [box.width / 2, box.height / 2];
  forPixels(canvas, box, (x, y, at) => {
    // how far the pixel's centre lies in a corner's square
    const inX = Math.abs(x + 0.5 - box.x - halfWidth) - halfWidth + radius;
    const inY = Math.abs(y + 0.5 - box.y - halfHeight) - halfHeight + radius;
    const share = inX > 0 && inY > 0 ? Math.round(alpha * covered(inX, inY, radius)) : alpha;
    tint(canvas.rgb, at, colour, share);
  });
}

/** The share of a pixel inside a circle, from its centre's distance to the edge. */
const covered = (x: number, y: number, radius: number): number =>
  Math.min(1, Math.max(0, radius + 0.5 - Math.sqrt(x * x + y * y)));

/** Mixes `share` (0..255) of a colour into one pixel. */
function tint(rgb: Uint8Array, at: number, colour: Colour, share: number): void {
  rgb[at] = blend(rgb[at] as number, colour[0], share);
  rgb[at + 1] = blend(rgb[at + 1] as number, colour[1], share);
  rgb[at + 2] = blend(rgb[at + 2] as number, colour[2], share);
}

/** Lays a sprite over the canvas, its top left corner at (`left`, `top`); parts outside are cut. */
export function paintSprite(canvas: Canvas, sprite: Sprite, left: number, top: number): void {
  forPixels(canvas, { x: left, y: top, width: sprite.size, height: sprite.size }, (x, y, at) => {
    const from = ((y - top) * sprite.size + (x - left)) * 4;
    const rest = 255 - (sprite.rgba[from + 3] as number);
    for (let c = 0; c < 3; c++)
      canvas.rgb[at + c] =
        (sprite.rgba[from + c] as number) + Math.round(((canvas.rgb[at + c] as number) * rest) / 255);
  });
}

/** How a text stands: `centre` or `left` gives x, `top` the first row of pixels; `zoom` is whole pixels per dot. */
export interface TextPlace {
  readonly colour: Colour;
  readonly top: number;
  readonly left?: number;
  readonly centre?: number;
  readonly zoom?: number;
  readonly alpha?: number;
}

export const textWidth = (text: string): number => setText(text).width;

export function paintText(canvas: Canvas, text: string, place: TextPlace): void {
  const { colour, top, zoom = 1, alpha = 255 } = place;
  const { placed, width } = setText(text);
  const left = place.left ?? Math.floor((place.centre ?? 0) - (width * zoom) / 2);
  for (const [glyph, start] of placed)
    for (let y = 0; y < GLYPH_ROWS; y++)
      for (let x = 0; x < glyph.width; x++)
        if (glyph.inked(x, y)) {
          const dot = { x: left + (start + x) * zoom, y: top + y * zoom, width: zoom, height: zoom };
          paintBox(canvas, dot, { colour, alpha });
        }
}

/** Calls `paint` for each pixel of the box that lies on the canvas; `at` is the pixel's first byte. */
function forPixels(canvas: Canvas, box: Box, paint: (x: number, y: number, at: number) => void): void {
  const [right, bottom] = [Math.min(canvas.width, box.x + box.width), Math.min(canvas.height, box.y + box.height)];
  for (let y = Math.max(0, box.y); y < bottom; y++)
    for (let x = Math.max(0, box.x); x < right; x++) paint(x, y, (y * canvas.width + x) * 3);
}

/** @param share 0..255 of `to`, in whole numbers */
const blend = (from: number, to: number, share: number): number =>
  Math.floor((from * (255 - share) + to * share + 127) / 255);
