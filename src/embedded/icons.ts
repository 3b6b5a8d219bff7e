/** The real pictures on the embedded screens, from assets/icons, scaled once to each size that is drawn. */
import { readFileSync } from "node:fs";
import path from "node:path";
import sharp from "sharp";
import { z } from "zod";
import { required } from "../utils/errors.ts";

const FOLDER = path.resolve(import.meta.dirname, "../../assets/icons");

/** A square picture. @property rgba [size, size, 4] bytes, colours already multiplied by alpha */
export interface Sprite {
  readonly size: number;
  readonly rgba: Uint8Array;
}

/** Gives a picture by its name at a size in pixels. */
export type Icons = (name: string, size: number) => Sprite;

const Names = z.object({ size: z.number(), columns: z.number(), pictures: z.record(z.string(), z.string()) });

/** Reads and decodes the sheet. The sheet is lossless, so every machine gets the same pixels. */
export async function loadIcons(): Promise<Icons> {
  const { size, columns, pictures } = Names.parse(JSON.parse(readFileSync(path.join(FOLDER, "names.json"), "utf8")));
  const { data, info } = await sharp(path.join(FOLDER, "sheet.png"))
    .ensureAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  const originals = new Map(
    Object.keys(pictures).map((name, i) => {
      const corner = (Math.floor(i / columns) * info.width + (i % columns)) * size;
      return [name, cutOut(data, { start: corner * 4, stride: info.width * 4, size })] as const;
    }),
  );
  const scaled = new Map<string, Sprite>();
  return (name, target) => {
    const key = `${name}@${target}`;
    const known = scaled.get(key) ?? scaleDown(required(originals.get(name), `the icon "${name}"`), target);
    scaled.set(key, known);
    return known;
  };
}

function cutOut(sheet: Uint8Array, at: { start: number; stride: number; size: number }): Sprite {
  const rgba = new Uint8Array(at.size * at.size * 4);
  for (let y = 0; y < at.size; y++) {
    const from = at.start + y * at.stride;
    rgba.set(sheet.subarray(from, from + at.size * 4), y * at.size * 4);
  }
  for (let i = 0; i < rgba.length; i += 4) {
    const alpha = rgba[i + 3] as number;
    for (let c = i; c < i + 3; c++) rgba[c] = Math.round(((rgba[c] as number) * alpha) / 255);
  }
  return { size: at.size, rgba };
}

/** Each new pixel is the mean of the area that it covers; plain sums and products, so the same everywhere. */
function scaleDown(from: Sprite, size: number): Sprite {
  const spans = coveredSpans(from.size, size);
  const rgba = new Uint8Array(size * size * 4);
  const area = (from.size / size) ** 2;
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++)
      for (let c = 0; c < 4; c++) {
        let sum = 0;
        for (const [sourceY, shareY] of spans[y] ?? [])
          for (const [sourceX, shareX] of spans[x] ?? [])
            sum += shareY * shareX * (from.rgba[(sourceY * from.size + sourceX) * 4 + c] as number);
        rgba[(y * size + x) * 4 + c] = Math.round(sum / area);
      }
  return { size, rgba };
}

/** For each of `to` pixels, which of `from` source pixels it covers and how much of each. */
function coveredSpans(from: number, to: number): (readonly [source: number, share: number])[][] {
  return Array.from({ length: to }, (_, i) => {
    const start = (i * from) / to;
    const end = ((i + 1) * from) / to;
    const first = Math.floor(start);
    return Array.from({ length: Math.ceil(end) - first }, (_, k) => {
      const pixel = first + k;
      return [pixel, Math.min(end, pixel + 1) - Math.max(start, pixel)] as const;
    });
  });
}
