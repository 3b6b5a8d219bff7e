/** Lessons side by side, as feeds of the lesson graph. */
import { IGNORE } from "../../src/collator.ts";
import type { Architecture } from "../../src/model/architecture.ts";
import { pictureFeeds } from "../../src/model/feeds.ts";
import type { Processor } from "../../src/processor.ts";
import { type Feeds, floats, type HostTensor, ints } from "../../src/runtime/tensor.ts";
import { type Lesson, SCREEN_GRID } from "./lesson.ts";

/** What one batch counts, for means of the teaching losses. */
export interface LessonBatch {
  readonly feeds: Feeds;
  readonly digits: number;
  readonly pointing: number;
  readonly naming: number;
}

/** How much the teaching losses count beside the answers' loss, all three as means. */
const TEACHING_WEIGHT = 0.5;

const list = (values: readonly number[]): HostTensor => ints(Int32Array.from(values), [values.length]);

export function batchOf(
  lessons: readonly Lesson[],
  architecture: Architecture,
  { padTokenId, imageTokenId }: Pick<Processor, "padTokenId" | "imageTokenId">,
): LessonBatch {
  const B = lessons.length;
  const T = Math.max(...lessons.map(({ inputIds }) => inputIds.length));
  const { heads } = architecture.text;
  const cells = (SCREEN_GRID[1] * SCREEN_GRID[2]) / architecture.vision.mergeSize ** 2;
  const inputIds = new Int32Array(B * T).fill(padTokenId);
  const positionIds = new Int32Array(3 * B * T);
  const segmentIds = new Int32Array(B * T).fill(-1);
  const rows: number[] = [];
  const targets: number[] = [];
  const digitRows: number[] = [];
  const imageRows: number[] = [];
  lessons.forEach((lesson, b) => {
    inputIds.set(lesson.inputIds, b * T);
    segmentIds.set(lesson.segments, b * T);
    lesson.positions.forEach((axis, a) => void positionIds.set(axis, (a * B + b) * T));
    const digits = new Set(lesson.digits);
    lesson.labels.forEach((label, t) => {
      if (label === IGNORE) return;
      if (digits.has(t)) digitRows.push(rows.length);
      rows.push(b * T + t - 1);
      targets.push(label);
    });
    lesson.inputIds.forEach((id, t) => void (id === imageTokenId && imageRows.push(b * T + t)));
  });
  const pointing = lessons.flatMap((lesson, b) =>
    lesson.pointing.map(([from, to]) => [b * heads * T + from, to] as const),
  ); // head 0
  const naming = lessons.flatMap((lesson, b) =>
    lesson.naming.map(([cell, token]) => [b * cells + cell, token] as const),
  );
  const pictures = lessons.map(({ pixelValues }) => ({ grid: SCREEN_GRID, pixelValues }));
  const weight = (count: number): HostTensor => floats(Float32Array.of((TEACHING_WEIGHT * rows.length) / count), []);
  const feeds = {
    input_ids: ints(inputIds, [B, T]),
    position_ids: ints(positionIds, [3, B, T]),
    segment_ids: ints(segmentIds, [B, T]),
    image_rows: list(imageRows),
    target_rows: list(rows),
    targets: list(targets),
    digit_rows: list(digitRows),
    pointing_rows: list(pointing.map(([row]) => row)),
    pointing_columns: list(pointing.map(([, column]) => column)),
    pointing_weight: weight(pointing.length),
    naming_rows: list(naming.map(([row]) => row)),
    naming_targets: list(naming.map(([, token]) => token)),
    naming_weight: weight(naming.length),
    ...pictureFeeds(architecture, pictures),
  };
  return { feeds, digits: digitRows.length, pointing: pointing.length, naming: naming.length };
}
