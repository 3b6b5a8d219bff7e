/** Screens with the true point and what each stage answered: the worst of the last stage first, then the largest gains. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { HIT_DISTANCE } from "../../eval/grounding.ts";
import { mapAhead } from "../../utils/ahead.ts";
import { escaped, jpegUri } from "../page/frame.ts";
import { at, mark } from "./charts/svg.ts";
import { pairsOf } from "./compare.ts";
import type { Case, Stage, StageName } from "./stages.ts";
import { units } from "./table.ts";

/** What each stage answered to one sample, in the order of the stages; the last is never missing. */
export interface Shown {
  readonly last: Case;
  readonly answers: readonly (readonly [stage: StageName, one: Case])[];
}

export interface Gallery {
  readonly worst: readonly Shown[];
  /** Misses of the first stage that are hits of the last. */
  readonly gains: readonly Shown[];
  /** How many the last stage has in all, and how many became hits. */
  readonly total: number;
  readonly gained: number;
}

const GAINS_SHARE = 1 / 3; // of the worst cases shown: so many gains follow

export function galleryOf(stages: readonly Stage[], limit: number): Gallery {
  const shown = joined(stages);
  const far = ({ distance }: Case): number => distance ?? Number.POSITIVE_INFINITY; // no point at all is the worst
  const worst = [...shown].sort((a, b) => compareNumbers(far(b.last), far(a.last)) || inOrder(a, b));
  const first = ({ answers }: Shown): Case | undefined => (answers.length > 1 ? answers[0]?.[1] : undefined);
  const gain = (one: Shown): number => far(first(one) ?? one.last) - far(one.last);
  const gains = shown
    .filter((one) => one.last.isHit && first(one)?.isHit === false)
    .sort((a, b) => compareNumbers(gain(b), gain(a)) || inOrder(a, b));
  return {
    worst: worst.slice(0, limit),
    gains: gains.slice(0, Math.ceil(limit * GAINS_SHARE)),
    total: shown.length,
    gained: gains.length,
  };
}

const compareNumbers = (a: number, b: number): number => (a === b ? 0 : a < b ? -1 : 1);
const inOrder = (a: Shown, b: Shown): number =>
  a.last.user - b.last.user ||
  (a.last.sample?.id ?? "").localeCompare(b.last.sample?.id ?? "", "en", { numeric: true });

function joined(stages: readonly Stage[]): Shown[] {
  const last = stages.at(-1);
  if (!last) return [];
  const earlier = stages.slice(0, -1).map((stage) => {
    const pairs = [...pairsOf(stage, last).values()].flat();
    return { name: stage.name, before: new Map(pairs.map(({ before, after }) => [after, before])) };
  });
  return [...last.users.values()].flat().map((one) => ({
    last: one,
    answers: [
      ...earlier.flatMap(({ name, before }) => {
        const found = before.get(one);
        return found ? [[name, found] as const] : [];
      }),
      [last.name, one] as const,
    ],
  }));
}

const READING_AT_ONCE = 8;

/** @param out the output folder, which holds the small screens */
export async function cardsOf(shown: readonly Shown[], out: string): Promise<string> {
  const cards: string[] = [];
  for await (const card of mapAhead(shown, READING_AT_ONCE - 1, (one) => cardOf(one, out))) cards.push(card);
  return cards.join("\n");
}

async function cardOf(shown: Shown, out: string): Promise<string> {
  const { last, answers } = shown;
  const { gt_coord, gt_content } = last.answer;
  const command = last.sample?.command ?? gt_content;
  const told = answers.map(([stage, one]) => `${stage} ${outcome(one)}`).join(", ");
  const about = `user ${last.user}: ${command}; true point ${gt_coord.join(", ")}; ${told}`;
  const raw = answers.map(([stage, one]) => `${stage}\n${one.answer.pred_raw.slice(0, RAW_SHOWN)}`).join("\n\n");
  return `<article data-user="${last.user}">
<button type="button" class="open" aria-label="${escaped(`enlarge: ${about}`)}">${await screenOf(shown, out)}</button>
<div class="facts"><h3>${escaped(command)}</h3>
<p>user ${last.user} · ${escaped(last.sample?.id ?? "")}</p>
<ul><li><svg class="sign" viewBox="-9 -9 18 18" aria-hidden="true">${cross(0, 0)}</svg><span>true: ${escaped(gt_content)} at ${gt_coord.join(", ")}</span></li>
${answers.map(([stage, one]) => answerLine(stage, one)).join("\n")}</ul>
<details><summary>answers in full</summary><pre>${escaped(raw)}</pre></details></div>
</article>`;
}

const RAW_SHOWN = 1000;

const outcome = ({ distance, isHit }: Case): string =>
  distance === null ? "no point" : `${units(distance)} off, ${isHit ? "hit" : "miss"}`;

function answerLine(stage: StageName, one: Case): string {
  const { pred_content, pred_coord } = one.answer;
  const words = `${stage}: ${pred_content}${pred_coord ? ` at ${pred_coord.map(short).join(", ")}` : ""}`;
  return `<li class="${stage}"><svg class="sign" viewBox="-8 -8 16 16" aria-hidden="true">${mark(stage, 0, 0, 5.5)}</svg><span>${escaped(words)} · <b class="${one.isHit ? "better" : "worse"}">${outcome(one)}</b></span></li>`;
}

const short = (value: number): string => String(Number(value.toFixed(1)));

const LONG_SIDE = 400;
const EDGE = 12; // so that a click in a corner is seen whole

async function screenOf({ last, answers }: Shown, out: string): Promise<string> {
  const screen = last.sample?.screen ?? { width: 9, height: 16 };
  const scale = LONG_SIDE / Math.max(screen.width, screen.height);
  const [width, height] = [screen.width * scale, screen.height * scale];
  const uri = await pictureOf(last, out);
  const picture = uri
    ? `<image href="${uri}" width="${at(width)}" height="${at(height)}" preserveAspectRatio="none"/>`
    : `<rect class="nopicture" width="${at(width)}" height="${at(height)}"/><text x="${at(width / 2)}" y="${at(height / 2)}" text-anchor="middle">no picture kept</text>`;
  const place = ([x, y]: readonly [number, number]): readonly [number, number] => [
    (Math.min(x, 1000) * width) / 1000,
    (Math.min(y, 1000) * height) / 1000,
  ];
  const [x, y] = place(last.answer.gt_coord);
  const [rx, ry] = [(HIT_DISTANCE * width) / 1000, (HIT_DISTANCE * height) / 1000];
  const clicks = answers.flatMap(([stage, { answer }]) =>
    answer.pred_coord ? [{ stage, point: place(answer.pred_coord) }] : [],
  );
  const way = clicks.map(({ point }, i) => `${i === 0 ? "M" : "L"}${point.map(at).join(" ")}`).join("");
  const signs = clicks.map(({ stage, point }) => mark(stage, point[0], point[1], 8));
  return `<svg class="screen" viewBox="${-EDGE} ${-EDGE} ${at(width + 2 * EDGE)} ${at(height + 2 * EDGE)}" style="aspect-ratio:${at((width + 2 * EDGE) / (height + 2 * EDGE))}" aria-hidden="true">${picture}<ellipse class="near under" cx="${at(x)}" cy="${at(y)}" rx="${at(rx)}" ry="${at(ry)}"/><ellipse class="near" cx="${at(x)}" cy="${at(y)}" rx="${at(rx)}" ry="${at(ry)}"/><path class="way under" d="${way}"/><path class="way" d="${way}"/>${signs.join("")}${cross(x, y)}</svg>`;
}

const cross = (x: number, y: number): string => {
  const path = `M${at(x - 7)} ${at(y)}H${at(x + 7)}M${at(x)} ${at(y - 7)}V${at(y + 7)}`;
  return `<path class="cross under" d="${path}"/><path class="cross" d="${path}"/>`;
};

/** @returns null where no copy of the screen is kept */
async function pictureOf({ sample }: Case, out: string): Promise<string | null> {
  if (!sample?.screen) return null;
  const bytes = await readFile(join(out, sample.screen.file)).catch(() => null);
  return bytes && jpegUri(bytes);
}
