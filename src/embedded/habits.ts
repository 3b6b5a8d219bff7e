/** The ways of one user: drawn once from the seed, kept through all episodes. */
import { type Random, randomFrom } from "../utils/random.ts";
import { APPS } from "./apps.ts";
import { ALIASES, APP_VERBS, CONTROL_VERBS, ENDINGS } from "./commands.ts";
import { APP_ROWS, COLUMNS, ROWS, type Side } from "./screen.ts";
import { drawTheme, type Theme } from "./theme.ts";

const PAGES = 2;
const APPS_PER_PAGE = 10;
const ALIASES_PER_USER = 4;

export interface Cell {
  readonly name: string;
  readonly column: number;
  readonly row: number;
}

export interface Habits {
  readonly theme: Theme;
  /** The hand that holds the phone: icons gather on its side, and so do list icons and the allow button. */
  readonly hand: Side;
  /** Icons gather below, where the thumb is, or above. */
  readonly anchor: "top" | "bottom";
  /** Cells of each home page, the most used app first; the dock stands on every page. */
  readonly pages: readonly (readonly Cell[])[];
  readonly dock: readonly Cell[];
  /** Private name -> app. */
  readonly aliases: ReadonlyMap<string, string>;
  readonly appVerbs: readonly string[];
  readonly controlVerbs: readonly string[];
  readonly endings: readonly string[];
}

export function habitsOf(seed: number, user: number): Habits {
  const random = randomFrom(seed, "habits", user);
  const hand = random.pick(["left", "right"] as const);
  const anchor = random.pick(["top", "bottom"] as const);
  const apps = random.shuffled(APPS).map(({ name }) => name);
  const dock = apps.slice(0, COLUMNS).map((name, column) => ({ name, column, row: ROWS - 1 }));
  const pages = Array.from({ length: PAGES }, (_, page) => {
    const start = COLUMNS + page * APPS_PER_PAGE;
    return apps.slice(start, start + APPS_PER_PAGE).map((name, i) => ({ name, ...cellOf(i, hand, anchor) }));
  });
  const owned = [...dock, ...pages.flat()].map(({ name }) => name);
  return {
    theme: drawTheme(random),
    hand,
    anchor,
    pages,
    dock,
    aliases: drawAliases(random, owned),
    appVerbs: random.shuffled(APP_VERBS).slice(0, 3),
    controlVerbs: random.shuffled(CONTROL_VERBS).slice(0, 2),
    endings: random.shuffled(ENDINGS).slice(0, 2),
  };
}

/** The i-th app counts from the holding hand's side, and from the top or the bottom. */
function cellOf(i: number, hand: Side, anchor: Habits["anchor"]): { column: number; row: number } {
  const [along, line] = [i % COLUMNS, Math.floor(i / COLUMNS)];
  return {
    column: hand === "left" ? along : COLUMNS - 1 - along,
    row: anchor === "top" ? APP_ROWS.first + line : APP_ROWS.last - line,
  };
}

function drawAliases(random: Random, owned: readonly string[]): ReadonlyMap<string, string> {
  const apps = random.shuffled(owned);
  const aliases = random.shuffled(ALIASES).slice(0, ALIASES_PER_USER);
  return new Map(aliases.map((alias, i) => [alias, apps[i] ?? ""] as const));
}
