/** One lesson: a screen of no user and questions about it, as the arrays that the lesson graph takes. */
import { encodeConversation, IGNORE } from "../../src/collator.ts";
import type { Message } from "../../src/data/example.ts";
import { APPS, CONTROLS } from "../../src/embedded/apps.ts";
import { APP_VERBS, CONTROL_VERBS, ENDINGS, sayCommand } from "../../src/embedded/commands.ts";
import { drawScreen } from "../../src/embedded/drawScreen.ts";
import { genericScreen } from "../../src/embedded/genericScreen.ts";
import type { Icons } from "../../src/embedded/icons.ts";
import {
  CELL,
  COLUMNS,
  type Element,
  HEIGHT,
  LIST_ROWS,
  pointOf,
  referringOf,
  type Screen,
  WIDTH,
} from "../../src/embedded/screen.ts";
import type { Processor } from "../../src/processor.ts";
import { groundingAnswer, groundingPrompt } from "../../src/text/groundingPrompt.ts";
import { mropePositions } from "../../src/text/mrope.ts";
import { visualOf } from "../../src/text/visuals.ts";
import { required } from "../../src/utils/errors.ts";
import { type Random, randomFrom } from "../../src/utils/random.ts";
import { patchesOf } from "../../src/vision/patches.ts";
import { type MeasuredVisual, place } from "../../src/vision/placement.ts";
import { SHARED } from "./lessonGraph.ts";

/** How hard lessons are at some point of the course. */
export interface Level {
  /** Most apps on a home screen. */
  readonly apps: number;
  /** Whether lists and dialogs appear. */
  readonly allKinds: boolean;
  /** Share of questions in the full words of the grounding task; the others are the bare command, which takes a third of the time. */
  readonly fullPrompts: number;
  /** Share of questions whose command says the name of something else, so that a point follows the answer's words and not the command's. */
  readonly misnamed: number;
  readonly questions: number;
}

/** Tokens of a row: what its questions share, then each question with its answer. */
export interface Lesson {
  readonly inputIds: readonly number[]; // [T]
  readonly positions: readonly (readonly number[])[]; // [3][T]
  readonly segments: readonly number[]; // [T]
  readonly labels: readonly number[]; // [T], not shifted
  /** For each digit of a point, by the token that predicts it: the image token of what is meant. */
  readonly pointing: readonly (readonly [from: number, to: number])[];
  readonly digits: readonly number[]; // places t whose label is a digit of a point
  /** Cells with a picture in them and the token of its name. */
  readonly naming: readonly (readonly [cell: number, token: number])[];
  readonly pixelValues: Float32Array;
}

/** What a lesson is made with. */
export interface Classroom {
  readonly processor: Processor;
  readonly icons: Icons;
  readonly nameTokens: ReadonlyMap<string, number>;
}

export const SCREEN_GRID = [1, HEIGHT / 16, WIDTH / 16] as const;

/** Words of answers start behind a line break, so their tokens have no space in front. */
export function nameTokensOf({ tokenizer }: Processor, names: readonly string[]): Map<string, number> {
  return new Map(names.map((name) => [name, required(tokenizer.encode(`${name} icon`)[0], `token of ${name}`)]));
}

/** The same numbers always give the same lesson. */
export function drawLesson(room: Classroom, level: Level, ...seed: readonly (number | string)[]): Lesson {
  const random = randomFrom(...seed);
  const screen = drawLevelScreen(random, level);
  const short = random.uniform() >= level.fullPrompts;
  const targets = random.shuffled(screen.elements).slice(0, level.questions);
  const questions = targets.map((target) => {
    const isMisnamed = random.uniform() < level.misnamed;
    return questionOf(room, target, { random, short, isMisnamed, screen });
  });
  return { ...joined(questions), ...shownBy(room, screen) };
}

function drawLevelScreen(random: Random, { apps, allKinds }: Level): Screen {
  const share = allKinds ? random.uniform() : 0;
  if (share < 0.7) return genericScreen(random, { kind: "home", apps: 2 + random.below(apps - 1) });
  if (share < 0.9) return genericScreen(random, { kind: "list", apps: 2 + random.below(LIST_ROWS - 1) });
  return genericScreen(random, { kind: "dialog", apps: 2 + random.below(apps - 1) });
}

/** The cell in which an element's picture is drawn: the token that tells what and where it is. */
function cellOf({ role, box, centre, iconSize }: Element, { iconSide }: Screen): number {
  const [x, y] = centre;
  const row = Math.floor(y / CELL);
  if (role === "row") return row * COLUMNS + (iconSide === "left" ? 0 : COLUMNS - 1);
  if (role === "bar" || role === "button") return row * COLUMNS + Math.floor((box.x + 4 + iconSize / 2) / CELL);
  return row * COLUMNS + Math.floor(x / CELL);
}

interface Question {
  readonly ids: readonly number[];
  readonly labels: readonly number[];
  readonly positions: Int32Array; // [3*T]
  readonly cell: number;
  readonly digits: readonly number[];
}

function questionOf(
  { processor, nameTokens }: Classroom,
  target: Element,
  { random, short, isMisnamed, screen }: { random: Random; short: boolean; isMisnamed: boolean; screen: Screen },
): Question {
  const isApp = target.role === "icon" || target.role === "row";
  const said = isMisnamed ? random.pick(isApp ? APPS : CONTROLS).name : target.name;
  const command = sayCommand(random.pick(isApp ? APP_VERBS : CONTROL_VERBS), said, random.pick(ENDINGS));
  const answer = groundingAnswer(referringOf(target), pointOf(target));
  const image: MeasuredVisual = {
    type: "image",
    image: { kind: "bytes", name: "screen", bytes: new Uint8Array() },
    size: { width: WIDTH, height: HEIGHT },
  };
  const text = short ? command : groundingPrompt(command);
  const messages = [
    {
      role: "user",
      content: [
        { type: "image", image: image.image },
        { type: "text", text },
      ],
    },
    { role: "assistant", content: [{ type: "text", text: answer }] },
  ] as unknown as Message[];
  const placed = required(place([image], processor)[0], "grid of a screen");
  const visuals = [visualOf(image, placed, processor)];
  const { inputIds, labels } = encodeConversation({ messages }, { processor, visuals, labelMode: "official" });
  const positions = mropePositions({
    inputIds,
    grids: [SCREEN_GRID],
    mergeSize: processor.vision.mergeSize,
    ...processor,
  });
  const digits = [...labels].flatMap((label, t) =>
    label !== IGNORE && /^\d$/.test(processor.tokenizer.decode([label])) ? [t] : [],
  );
  const name = labels.indexOf(required(nameTokens.get(target.name), target.name));
  if (isMisnamed) labels[name] = IGNORE; // nobody could know it
  return { ids: [...inputIds], labels: [...labels], positions, cell: cellOf(target, screen), digits };
}

/** Lays questions behind what they have in common; every one keeps the positions that it has alone. */
function joined(
  questions: readonly Question[],
): Pick<Lesson, "inputIds" | "positions" | "segments" | "labels" | "pointing" | "digits"> {
  const shared = sharedLength(questions);
  const firstImage = required(questions[0], "question").ids.findIndex((id, t, ids) => id === ids[t + 1]); // image tokens are the only run
  const lesson = {
    inputIds: [] as number[],
    positions: [[], [], []] as number[][],
    segments: [] as number[],
    labels: [] as number[],
    pointing: [] as [number, number][],
    digits: [] as number[],
  };
  const append = (question: Question, start: number, end: number, segment: number): void => {
    for (let t = start; t < end; t++) {
      lesson.inputIds.push(question.ids[t] as number);
      lesson.labels.push(question.labels[t] as number);
      lesson.segments.push(segment);
      lesson.positions.forEach((axis, a) => void axis.push(question.positions[a * question.ids.length + t] as number));
    }
  };
  questions.forEach((question, i) => {
    if (i === 0) append(question, 0, shared, SHARED);
    const offset = lesson.inputIds.length - shared;
    append(question, shared, question.ids.length, i + 1);
    for (const t of question.digits) {
      lesson.digits.push(offset + t);
      lesson.pointing.push([offset + t - 1, firstImage + question.cell]);
    }
  });
  return lesson;
}

function sharedLength(questions: readonly Question[]): number {
  const [first, ...others] = questions as [Question, ...Question[]];
  const firstLabel = first.labels.findIndex((label) => label !== IGNORE);
  let length = 0;
  // one token less than the labels' begin, so that the first answer token is predicted by a token of its question
  while (length < firstLabel - 1 && others.every(({ ids }) => ids[length] === first.ids[length])) length++;
  return length;
}

function shownBy({ processor, icons, nameTokens }: Classroom, screen: Screen): Pick<Lesson, "naming" | "pixelValues"> {
  const image = { width: WIDTH, height: HEIGHT, data: drawScreen(screen, icons) };
  const naming = screen.elements.map(
    (element) => [cellOf(element, screen), required(nameTokens.get(element.name), element.name)] as const,
  );
  return { naming, pixelValues: patchesOf(image, processor.vision).pixelValues };
}
