/** A small alphabet of pixels, six rows high (the last for descenders): no font of the machine is used, so every machine draws the same. */

/** Rows from top to bottom; `#` is ink. Letters are as wide as their rows. */
const DRAWN: Readonly<Record<string, string>> = {
  a: "... .## #.# #.# .## ...",
  b: "#.. ##. #.# #.# ##. ...",
  c: "... .## #.. #.. .## ...",
  d: "..# .## #.# #.# .## ...",
  e: "... .## #.# ##. .## ...",
  f: ".# #. ## #. #. ..",
  g: "... .## #.# #.# .## ##.",
  h: "#.. ##. #.# #.# #.# ...",
  i: "# . # # # .",
  j: ".# .. .# .# .# #.",
  k: "#.. #.# ##. #.# #.# ...",
  l: "# # # # # .",
  m: "..... ####. #.#.# #.#.# #.#.# .....",
  n: "... ##. #.# #.# #.# ...",
  o: "... .#. #.# #.# .#. ...",
  p: "... ##. #.# #.# ##. #..",
  q: "... .## #.# #.# .## ..#",
  r: ".. ## #. #. #. ..",
  s: "... .## ##. .## ##. ...",
  t: "#. ## #. #. .# ..",
  u: "... #.# #.# #.# .## ...",
  v: "... #.# #.# #.# .#. ...",
  w: "..... #.#.# #.#.# #.#.# .#.#. .....",
  x: "... #.# .#. .#. #.# ...",
  y: "... #.# #.# #.# .## ##.",
  z: "... ### .#. #.. ### ...",
  "0": "### #.# #.# #.# ### ...",
  "1": "## .# .# .# .# ..",
  "2": "### ..# ### #.. ### ...",
  "3": "### ..# ### ..# ### ...",
  "4": "#.# #.# ### ..# ..# ...",
  "5": "### #.. ### ..# ### ...",
  "6": "### #.. ### #.# ### ...",
  "7": "### ..# ..# ..# ..# ...",
  "8": "### #.# ### #.# ### ...",
  "9": "### #.# ### ..# ### ...",
  ":": ". # . # . .",
  "?": "### ..# .## ... .#. ...",
  " ": ".. .. .. .. .. ..",
};

export const GLYPH_ROWS = 6;
const GAP = 1;

/** One letter. @property width in pixels; `inked(x, y)` is true where it is drawn */
export interface Glyph {
  readonly width: number;
  inked(x: number, y: number): boolean;
}

const GLYPHS = new Map(Object.entries(DRAWN).map(([letter, drawn]) => [letter, glyphFrom(drawn.split(" "))] as const));

function glyphFrom(rows: readonly string[]): Glyph {
  return { width: rows[0]?.length ?? 0, inked: (x, y) => rows[y]?.[x] === "#" };
}

/** The glyphs of a text and where each starts; letters that have none are left out. */
export function setText(text: string): {
  readonly placed: readonly (readonly [Glyph, number])[];
  readonly width: number;
} {
  let x = 0;
  const placed: [Glyph, number][] = [];
  for (const letter of text) {
    const glyph = GLYPHS.get(letter);
    if (!glyph) continue;
    placed.push([glyph, x]);
    x += glyph.width + GAP;
  }
  return { placed, width: Math.max(0, x - GAP) };
}
