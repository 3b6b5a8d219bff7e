/** Looks of a phone: wallpaper, tiles under icons, captions. Users and generic screens draw from the same looks. */
import type { Random } from "../utils/random.ts";
import { LANGUAGES, type Language } from "./apps.ts";
import type { Colour } from "./canvas.ts";

export const TILES = ["rounded", "disc", "square", "none"] as const;
export type Tile = (typeof TILES)[number];

export interface Theme {
  readonly dark: boolean;
  /** Colours of the wallpaper, from top to bottom. */
  readonly wallpaper: readonly [Colour, Colour];
  readonly tile: Tile;
  readonly tileColour: Colour;
  /** Language of the captions under icons, or null where the user hides them. */
  readonly captions: Language | null;
  /** What cards, bars and lists are made of, and what is written on them. */
  readonly surface: Colour;
  readonly ink: Colour;
  readonly accent: Colour;
}

const DARK_WALLPAPERS: readonly (readonly [Colour, Colour])[] = [
  [
    [38, 44, 92],
    [122, 70, 134],
  ],
  [
    [16, 62, 78],
    [52, 128, 118],
  ],
  [
    [60, 32, 74],
    [176, 84, 88],
  ],
  [
    [28, 36, 48],
    [78, 92, 114],
  ],
  [
    [24, 52, 110],
    [72, 146, 196],
  ],
  [
    [34, 66, 44],
    [132, 150, 74],
  ],
  [
    [84, 40, 46],
    [204, 126, 74],
  ],
];

const LIGHT_WALLPAPERS: readonly (readonly [Colour, Colour])[] = [
  [
    [196, 222, 246],
    [246, 222, 232],
  ],
  [
    [252, 232, 206],
    [246, 196, 188],
  ],
  [
    [206, 238, 222],
    [226, 242, 200],
  ],
  [
    [230, 224, 246],
    [196, 204, 240],
  ],
  [
    [236, 238, 242],
    [206, 214, 224],
  ],
  [
    [248, 240, 202],
    [200, 228, 214],
  ],
  [
    [202, 234, 240],
    [174, 206, 232],
  ],
];

const ACCENTS: readonly Colour[] = [
  [52, 120, 246],
  [32, 158, 118],
  [214, 84, 108],
  [132, 92, 214],
  [226, 132, 40],
];

const PALE_TILES: readonly Colour[] = [
  [252, 252, 250],
  [232, 240, 250],
  [250, 240, 224],
  [232, 246, 232],
];

export function drawTheme(random: Random): Theme {
  const dark = random.uniform() < 0.5;
  // half of the icons are dark themselves: on a dark wallpaper they always get a pale tile
  const tile = random.pick(dark ? TILES.slice(0, 3) : TILES);
  return {
    dark,
    wallpaper: random.pick(dark ? DARK_WALLPAPERS : LIGHT_WALLPAPERS),
    tile,
    tileColour: random.pick(PALE_TILES),
    captions: random.uniform() < 0.75 ? random.pick(LANGUAGES) : null,
    surface: dark ? [44, 48, 58] : [255, 255, 255],
    ink: dark ? [240, 242, 246] : [44, 50, 62],
    accent: random.pick(ACCENTS),
  };
}
