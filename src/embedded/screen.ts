/** What a screen shows and where: the plan from which both the picture and the ground truth are made. */
import { roundHalfEven } from "../utils/bf16.ts";
import { InternalError } from "../utils/errors.ts";
import type { ACTIONS } from "./apps.ts";
import type { Box } from "./canvas.ts";
import type { Theme } from "./theme.ts";

/** Screens are a grid of square cells, one visual token each (16-pixel patches, merged two by two). */
export const CELL = 32;
export const COLUMNS = 4;
export const ROWS = 8;
export const WIDTH = CELL * COLUMNS;
export const HEIGHT = CELL * ROWS;

/** Rows of a home screen that hold apps; the row above is the search bar's, the row below the dock's. */
export const APP_ROWS = { first: 1, last: ROWS - 2 } as const;
export const LIST_ROWS = ROWS - 1;

export type ScreenKind = "home" | "list" | "dialog";
export type Side = "left" | "right";

/** Something that can be clicked. */
export interface Element {
  readonly role: "icon" | "row" | "bar" | "action" | "button";
  /** An app's or a control's name: also its picture. */
  readonly name: string;
  /** The nominal centre in pixels: the ground truth. The drawing may be a pixel or two off, the truth is not. */
  readonly centre: readonly [x: number, y: number];
  /** Where it is drawn; holds the nominal centre. */
  readonly box: Box;
  /** The picture's size in pixels. */
  readonly iconSize: number;
  /** A red dot, as for unread messages. */
  readonly badge: boolean;
}

export interface Screen {
  readonly kind: ScreenKind;
  readonly theme: Theme;
  /** Time in the status bar, such as "9:41". */
  readonly clock: string;
  readonly elements: readonly Element[];
  /** Home: rows left free at the top show a large clock. */
  readonly largeClock: boolean;
  /** List: the app in the title; dialog: the app that asks. */
  readonly app: string | null;
  /** List: the side on which rows have their icon. */
  readonly iconSide: Side;
  /** Dialog: what it covers. */
  readonly behind: Screen | null;
}

/** The ground truth of a click on the element: 0..1000 from the left and from the top. */
export const pointOf = (element: Element): readonly [x: number, y: number] => [
  roundHalfEven((element.centre[0] * 1000) / WIDTH),
  roundHalfEven((element.centre[1] * 1000) / HEIGHT),
];

const NOUNS = { icon: "icon", row: "row", bar: "bar", action: "button", button: "button" } as const;

/** What an answer calls the element: "music icon", "allow button". */
export const referringOf = (element: Element): string => `${element.name} ${NOUNS[element.role]}`;

/** Whole pixels by which one drawing is off its nominal place. */
export type Offset = readonly [dx: number, dy: number];

export interface HomePlan {
  readonly theme: Theme;
  readonly clock: string;
  /** Apps and their cells. Row 7 is the dock. */
  readonly apps: readonly { name: string; column: number; row: number; offset: Offset; badge: boolean }[];
}

export function homeScreen({ theme, clock, apps }: HomePlan): Screen {
  const iconSize = theme.captions ? 20 : 24;
  const icons = apps.map(({ name, column, row, offset: [dx, dy], badge }): Element => {
    const [left, top] = [column * CELL, row * CELL];
    const size = iconSize + 4; // the tile around the picture
    const box = { x: left + (CELL - size) / 2 + dx, y: top + (theme.captions ? 1 : 2) + dy, width: size, height: size };
    return { role: "icon", name, centre: [left + CELL / 2, top + CELL / 2], box, iconSize, badge };
  });
  const largeClock = apps.every(({ row }) => row > APP_ROWS.first + 1);
  return { ...emptyScreen("home", theme, clock), elements: [searchBar(), ...icons], largeClock };
}

const searchBar = (): Element => ({
  role: "bar",
  name: "search",
  centre: [WIDTH / 2, CELL / 2],
  box: { x: 8, y: 11, width: WIDTH - 16, height: 16 },
  iconSize: 10,
  badge: false,
});

export interface ListPlan {
  readonly theme: Theme;
  readonly clock: string;
  readonly title: string;
  /** At most LIST_ROWS apps, from the top. */
  readonly apps: readonly string[];
  readonly action: (typeof ACTIONS)[number];
  readonly iconSide: Side;
}

export function listScreen({ theme, clock, title, apps, action, iconSide }: ListPlan): Screen {
  if (apps.length > LIST_ROWS) throw new InternalError(`a list of ${apps.length} rows; ${LIST_ROWS} fit`);
  const rows = apps.map((name, i): Element => {
    const top = (i + 1) * CELL;
    const box = { x: 4, y: top + 2, width: WIDTH - 8, height: CELL - 4 };
    return { role: "row", name, centre: [WIDTH / 2, top + CELL / 2], box, iconSize: 22, badge: false };
  });
  const elements = [headerAction("back", 0), headerAction(action, COLUMNS - 1), ...rows];
  return { ...emptyScreen("list", theme, clock), elements, app: title, iconSide };
}

function headerAction(name: string, column: number): Element {
  const centre = [column * CELL + CELL / 2, CELL / 2] as const;
  const box = { x: column * CELL + 7, y: 9, width: 18, height: 18 };
  return { role: "action", name, centre, box, iconSize: 16, badge: false };
}

export interface DialogPlan {
  readonly behind: Screen;
  readonly app: string;
  readonly allowSide: Side;
}

/** The card of a dialog, in pixels: rows 2 to 5. */
export const CARD: Box = { x: 6, y: 2 * CELL, width: WIDTH - 12, height: 4 * CELL };

export function dialogScreen({ behind, app, allowSide }: DialogPlan): Screen {
  const names = allowSide === "left" ? ["allow", "deny"] : ["deny", "allow"];
  const elements = names.map((name, i): Element => {
    const centre = [CELL + i * 2 * CELL, 5 * CELL + CELL / 2] as const;
    const box = { x: centre[0] - 22, y: centre[1] - 11, width: 44, height: 22 };
    return { role: "button", name, centre, box, iconSize: 14, badge: false };
  });
  return { ...emptyScreen("dialog", behind.theme, behind.clock), elements, app, behind };
}

const emptyScreen = (kind: ScreenKind, theme: Theme, clock: string): Screen => ({
  kind,
  theme,
  clock,
  elements: [],
  largeClock: false,
  app: null,
  iconSide: "left",
  behind: null,
});
