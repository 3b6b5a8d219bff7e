/** Screens of no user: any apps anywhere in any look, for teaching a model to see before it meets a user. */
import type { Random } from "../utils/random.ts";
import { ACTIONS, APPS } from "./apps.ts";
import {
  COLUMNS,
  dialogScreen,
  homeScreen,
  LIST_ROWS,
  listScreen,
  ROWS,
  type Screen,
  type ScreenKind,
} from "./screen.ts";
import { drawTheme } from "./theme.ts";
import { drawOffset } from "./users.ts";

const HOME_CELLS = (ROWS - 1) * COLUMNS; // all rows but the search bar's

export interface GenericScreen {
  readonly kind: ScreenKind;
  /** How many apps a home or a list shows; a curriculum starts with few. */
  readonly apps: number;
}

/** @throws RangeError when more apps are asked for than there are or than fit */
export function genericScreen(random: Random, { kind, apps }: GenericScreen): Screen {
  const most = kind === "list" ? LIST_ROWS : Math.min(HOME_CELLS, APPS.length);
  if (apps < 1 || apps > most) throw new RangeError(`genericScreen: a ${kind} holds 1 to ${most} apps, not ${apps}`);
  const theme = drawTheme(random);
  const clock = `${random.below(24)}:${String(random.below(60)).padStart(2, "0")}`;
  const names = random.shuffled(APPS).map(({ name }) => name);
  const side = random.pick(["left", "right"] as const);
  const home = (): Screen => homeScreen({ theme, clock, apps: scatter(random, names.slice(0, apps)) });
  if (kind === "home") return home();
  if (kind === "dialog") return dialogScreen({ behind: home(), app: random.pick(names), allowSide: side });
  const action = random.pick(ACTIONS);
  return listScreen({ theme, clock, title: random.pick(names), apps: names.slice(0, apps), action, iconSide: side });
}

function scatter(random: Random, names: readonly string[]) {
  const cells = random.shuffled(Array.from({ length: HOME_CELLS }, (_, i) => i));
  return names.map((name, i) => {
    const cell = cells[i] ?? 0;
    const [column, row] = [cell % COLUMNS, 1 + Math.floor(cell / COLUMNS)];
    return { name, column, row, offset: drawOffset(random), badge: random.uniform() < 0.08 };
  });
}
