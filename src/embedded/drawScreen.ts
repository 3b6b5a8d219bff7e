/** Paints a planned screen. The same plan gives the same bytes on every machine. */
import { required } from "../utils/errors.ts";
import { APPS, type Language } from "./apps.ts";
import {
  type Box,
  type Canvas,
  type Colour,
  mixed,
  newCanvas,
  paintBox,
  paintGradient,
  paintSprite,
  paintText,
} from "./canvas.ts";
import type { Icons } from "./icons.ts";
import { CARD, CELL, type Element, HEIGHT, type Screen, WIDTH } from "./screen.ts";
import type { Theme } from "./theme.ts";

const WHITE: Colour = [255, 255, 255];
const BLACK: Colour = [0, 0, 0];
const RED: Colour = [232, 62, 56];
const CAPTIONS = new Map(APPS.map(({ name, captions }) => [name, captions] as const));

/** @returns [HEIGHT, WIDTH, 3] bytes, red, green, blue */
export function drawScreen(screen: Screen, icons: Icons): Uint8Array {
  const canvas = newCanvas(WIDTH, HEIGHT);
  paintScreen(canvas, screen, icons);
  return canvas.rgb;
}

function paintScreen(canvas: Canvas, screen: Screen, icons: Icons): void {
  if (screen.kind === "home") paintHome(canvas, screen);
  if (screen.kind === "list") paintList(canvas, screen);
  if (screen.kind === "dialog") paintDialog(canvas, screen, icons);
  for (const element of screen.elements) PAINTERS[element.role](canvas, element, screen, icons);
}

function paintHome(canvas: Canvas, { theme, clock, largeClock }: Screen): void {
  paintGradient(canvas, ...theme.wallpaper);
  const glow = { colour: WHITE, alpha: 14 };
  paintBox(canvas, { x: 60, y: 70, width: 120, height: 120 }, { ...glow, radius: 60 });
  paintBox(canvas, { x: -40, y: 150, width: 130, height: 130 }, { ...glow, radius: 65 });
  paintStatus(canvas, theme.dark ? WHITE : theme.ink, clock);
  const dock = { x: 2, y: HEIGHT - CELL + 1, width: WIDTH - 4, height: CELL - 2 };
  paintBox(canvas, dock, { colour: WHITE, radius: 8, alpha: theme.dark ? 40 : 110 });
  if (largeClock)
    paintText(canvas, clock, {
      colour: theme.dark ? WHITE : theme.ink,
      top: 48,
      centre: WIDTH / 2,
      zoom: 4,
      alpha: 210,
    });
}

/** The time at the left; signal and battery at the right. */
function paintStatus(canvas: Canvas, ink: Colour, clock: string): void {
  paintText(canvas, clock, { colour: ink, top: 2, left: 6 });
  for (let bar = 0; bar < 4; bar++)
    paintBox(canvas, { x: 98 + bar * 3, y: 6 - bar, width: 2, height: bar + 1 }, { colour: ink });
  paintBox(canvas, { x: 112, y: 2, width: 10, height: 5 }, { colour: ink, alpha: 120 });
  paintBox(canvas, { x: 113, y: 3, width: 6, height: 3 }, { colour: ink });
}

function paintList(canvas: Canvas, { theme, clock, app }: Screen): void {
  const page = mixed(theme.surface, theme.dark ? BLACK : theme.ink, theme.dark ? 110 : 18);
  paintGradient(canvas, page, page);
  paintBox(canvas, { x: 0, y: 0, width: WIDTH, height: CELL - 1 }, { colour: mixed(theme.surface, theme.accent, 60) });
  paintStatus(canvas, theme.ink, clock);
  if (app) paintText(canvas, captionOf(app, theme), { colour: theme.ink, top: 13, centre: WIDTH / 2, zoom: 2 });
}

function paintDialog(canvas: Canvas, { theme, app, behind }: Screen, icons: Icons): void {
  paintScreen(canvas, required(behind, "the screen behind a dialog"), icons);
  paintBox(canvas, { x: 0, y: 0, width: WIDTH, height: HEIGHT }, { colour: BLACK, alpha: 130 });
  paintBox(canvas, CARD, { colour: theme.surface, radius: 10 });
  const name = required(app, "the app of a dialog");
  paintSprite(canvas, icons(name, 28), (WIDTH - 28) / 2, CARD.y + 10);
  paintText(canvas, `${captionOf(name, theme)}?`, { colour: theme.ink, top: CARD.y + 46, centre: WIDTH / 2, zoom: 2 });
  for (const [line, width] of [76, 52].entries())
    paintBox(
      canvas,
      { x: (WIDTH - width) / 2, y: CARD.y + 66 + line * 8, width, height: 4 },
      { colour: theme.ink, radius: 2, alpha: 70 },
    );
}

type Painter = (canvas: Canvas, element: Element, screen: Screen, icons: Icons) => void;

const PAINTERS: Readonly<Record<Element["role"], Painter>> = {
  icon: (canvas, element, { theme }, icons) => {
    const { box, name, centre, badge } = element;
    paintTile(canvas, box, theme);
    paintPicture(canvas, element, icons);
    if (badge)
      paintBox(canvas, { x: box.x + box.width - 6, y: box.y - 1, width: 7, height: 7 }, { colour: RED, radius: 3.5 });
    if (!theme.captions) return;
    const top = Math.floor(centre[1] / CELL) * CELL + CELL - 6;
    paintText(canvas, captionOf(name, theme), { colour: theme.dark ? WHITE : theme.ink, top, centre: centre[0] });
  },
  row: (canvas, element, { theme, iconSide }, icons) => {
    const { box, name, iconSize } = element;
    paintBox(canvas, box, { colour: theme.surface, radius: 6 });
    const [iconX, textX] =
      iconSide === "left" ? [box.x + 5, box.x + 36] : [box.x + box.width - 5 - iconSize, box.x + 8];
    paintSprite(canvas, icons(name, iconSize), iconX, box.y + (box.height - iconSize) / 2);
    paintText(canvas, captionOf(name, theme), { colour: theme.ink, top: box.y + 5, left: textX, zoom: 2 });
    paintBox(canvas, { x: textX, y: box.y + 20, width: 44, height: 3 }, { colour: theme.ink, radius: 1.5, alpha: 60 });
  },
  bar: (canvas, element, { theme }, icons) => {
    const { box, name, iconSize } = element;
    paintBox(canvas, box, { colour: WHITE, radius: 8, alpha: theme.dark ? 60 : 190 });
    paintSprite(canvas, icons(name, iconSize), box.x + 6, box.y + 3);
    paintBox(
      canvas,
      { x: box.x + 22, y: box.y + 7, width: 48, height: 3 },
      { colour: theme.ink, radius: 1.5, alpha: 90 },
    );
  },
  action: (canvas, element, _screen, icons) => {
    paintBox(canvas, element.box, { colour: WHITE, radius: 5, alpha: 200 });
    paintPicture(canvas, element, icons);
  },
  button: (canvas, { box, name, iconSize }, { theme }, icons) => {
    const colour = name === "allow" ? mixed(theme.surface, theme.accent, 150) : mixed(theme.surface, theme.ink, 40);
    paintBox(canvas, box, { colour, radius: 9 });
    paintSprite(canvas, icons(name, iconSize), box.x + 4, box.y + 4);
    paintText(canvas, name, { colour: theme.ink, top: box.y + 9, centre: box.x + 31 });
  },
};

/** The element's picture in the middle of its box. */
function paintPicture(canvas: Canvas, { box, name, iconSize }: Element, icons: Icons): void {
  paintSprite(canvas, icons(name, iconSize), box.x + (box.width - iconSize) / 2, box.y + (box.height - iconSize) / 2);
}

function paintTile(canvas: Canvas, box: Box, { tile, tileColour }: Theme): void {
  if (tile === "none") return;
  const radius = { rounded: 7, disc: box.width / 2, square: 2 }[tile];
  paintBox(canvas, box, { colour: tileColour, radius });
}

/** An app's caption in the phone's language; English where captions are hidden and only titles show. */
function captionOf(name: string, theme: Theme): string {
  const language: Language = theme.captions ?? "english";
  return CAPTIONS.get(name)?.[language] ?? name;
}
