/** The embedded users: what each does in each step of each episode, and the screen that it happens on. */
import { required } from "../utils/errors.ts";
import { type Random, randomFrom } from "../utils/random.ts";
import { ACTIONS } from "./apps.ts";
import { sayCommand, synonymOf, type Wording } from "./commands.ts";
import { type Cell, type Habits, habitsOf } from "./habits.ts";
import {
  dialogScreen,
  type Element,
  homeScreen,
  LIST_ROWS,
  listScreen,
  type Offset,
  pointOf,
  referringOf,
  type Screen,
  type ScreenKind,
} from "./screen.ts";

/** Changing what any user sees or says means a new version: caches of the old one are then left alone. */
export const EMBEDDED_VERSION = 1;
export const EMBEDDED_SEED = 20_000;
export const USERS = 83;
export const EPISODES = 12;
export const STEPS = 4;

/** One step: a screen, a command, and the ground truth that follows from the screen's plan. */
export interface Sample {
  readonly user: number;
  readonly episode: number;
  readonly step: number;
  readonly screen: Screen;
  readonly target: Element;
  readonly command: string;
  readonly wording: Wording;
  readonly referring: string;
  /** 0..1000 from the left and from the top. */
  readonly point: readonly [x: number, y: number];
}

/** All samples of one user, in order: EPISODES x STEPS. */
export function samplesOf(user: number, seed = EMBEDDED_SEED): Sample[] {
  const habits = habitsOf(seed, user);
  return Array.from({ length: EPISODES }, (_, episode) => episodeOf(habits, { seed, user, episode })).flat();
}

interface At {
  readonly seed: number;
  readonly user: number;
  readonly episode: number;
}

/** An episode starts on the home screen; lists and dialogs that follow are those of the app opened last. */
function episodeOf(habits: Habits, { seed, user, episode }: At): Sample[] {
  const samples: Sample[] = [];
  let app = required(habits.dock[0], "the first app of a dock").name;
  const startMinute = 7 * 60 + randomFrom(seed, "episode", user, episode).below(15 * 60);
  for (let step = 0; step < STEPS; step++) {
    const random = randomFrom(seed, "step", user, episode, step);
    const moment = { kind: step === 0 ? ("home" as const) : drawKind(random), clock: clockAt(startMinute + step), app };
    const sample = { user, episode, step, ...drawStep(random, habits, moment) };
    samples.push(sample);
    if (isApp(sample.target)) app = sample.target.name;
  }
  return samples;
}

/** With a home screen first, 7 in 10 screens are homes, 2 lists, 1 a dialog. */
function drawKind(random: Random): ScreenKind {
  const share = random.uniform();
  if (share < 0.6) return "home";
  return share < 0.87 ? "list" : "dialog";
}

const clockAt = (minute: number): string => `${Math.floor(minute / 60)}:${String(minute % 60).padStart(2, "0")}`;

const isApp = (element: Element): boolean => element.role === "icon" || element.role === "row";

type Step = Omit<Sample, "user" | "episode" | "step">;

function drawStep(random: Random, habits: Habits, moment: Moment): Step {
  const wish = drawWish(random, habits, moment.kind);
  const screen = drawScreenFor(random, habits, moment, wish);
  const target = findTarget(random, screen, wish);
  const command = sayIt(random, habits, target, wish.wording);
  return { screen, target, command, wording: wish.wording, referring: referringOf(target), point: pointOf(target) };
}

interface Moment {
  readonly kind: ScreenKind;
  readonly clock: string;
  /** The app opened last. */
  readonly app: string;
}

/** What a user wants of a step: an app (null: a control), and how the command will name it. */
interface Wish {
  readonly app: string | null;
  readonly wording: Wording;
}

/** The wish comes first and the screen is made to hold it, so that private names are said often enough to be learnt. */
function drawWish(random: Random, habits: Habits, kind: ScreenKind): Wish {
  const share = random.uniform();
  if (kind === "dialog" || random.uniform() < 0.1) return { app: null, wording: share < 0.45 ? "plain" : "synonym" };
  if (share < 0.38) return { app: random.pick([...habits.aliases.values()]), wording: "alias" };
  const owned = ownedApps(habits);
  // apps that stand first are used more: the lesser of two draws
  const app = owned[Math.min(random.below(owned.length), random.below(owned.length))];
  return { app: required(app, "an app to choose"), wording: share < 0.66 ? "plain" : "synonym" };
}

const ownedApps = ({ dock, pages }: Habits): string[] => [...dock, ...pages.flat()].map(({ name }) => name);

function drawScreenFor(random: Random, habits: Habits, moment: Moment, wish: Wish): Screen {
  const { kind, app } = moment;
  if (kind === "home") return drawHome(random, habits, moment, wish);
  if (kind === "list") return drawList(random, habits, moment, wish);
  const behind = (random.uniform() < 0.5 ? drawHome : drawList)(random, habits, moment, wish);
  return dialogScreen({ behind, app, allowSide: habits.hand });
}

function drawHome(random: Random, { theme, pages, dock }: Habits, { clock }: Moment, { app }: Wish): Screen {
  const holds = (cells: readonly Cell[]): boolean => cells.some(({ name }) => name === app);
  const page = random.pick(app === null || holds(dock) ? pages : pages.filter(holds));
  const apps = [...page, ...dock].map((cell) => ({
    ...cell,
    offset: drawOffset(random),
    badge: random.uniform() < 0.08,
  }));
  return homeScreen({ theme, clock, apps });
}

/** A drawing is up to a pixel off its nominal place. */
export const drawOffset = (random: Random): Offset => [random.below(3) - 1, random.below(3) - 1];

function drawList(random: Random, habits: Habits, { clock, app: title }: Moment, { app }: Wish): Screen {
  const others = random.shuffled(ownedApps(habits).filter((name) => name !== app));
  const apps = random.shuffled([...(app === null ? [] : [app]), ...others.slice(0, LIST_ROWS - 1 - random.below(3))]);
  return listScreen({ theme: habits.theme, clock, title, apps, action: random.pick(ACTIONS), iconSide: habits.hand });
}

function findTarget(random: Random, screen: Screen, { app }: Wish): Element {
  const controls = screen.elements.filter((element) => !isApp(element));
  if (app === null) return random.pick(controls);
  return required(
    screen.elements.find((element) => isApp(element) && element.name === app),
    `the app "${app}" on a ${screen.kind} screen`,
  );
}

function sayIt(random: Random, habits: Habits, target: Element, wording: Wording): string {
  const alias = [...habits.aliases].find(([, app]) => app === target.name)?.[0];
  const name = wording === "plain" ? target.name : wording === "synonym" ? synonymOf(target.name) : alias;
  const verbs = isApp(target) ? habits.appVerbs : habits.controlVerbs;
  return sayCommand(
    random.pick(verbs),
    required(name, `a private name of "${target.name}"`),
    random.pick(habits.endings),
  );
}
