/** Scores of answers to some validation samples, while a model trains. */
import type { Example } from "../data/example.ts";
import { PictureStore } from "../engine/pictures.ts";
import type { RemoteEngine } from "../engine/start.ts";
import { answersTo } from "../eval/answers.ts";
import { metricsOf, type ParseMode } from "../eval/grounding.ts";
import { type Answer, scoredOf } from "../eval/results.ts";
import type { ReportTo } from "../train/journal/journal.ts";
import type { Scores } from "../train/validation.ts";
import { UserError } from "../utils/errors.ts";
import { type GenerationFlags, generationSettings } from "./generation.ts";
import type { Model } from "./model.ts";
import { answersShown } from "./shownSamples.ts";

export interface ScoreSettings extends GenerationFlags {
  /** How many samples are answered at each evaluation; null: none. */
  readonly evalGenerate: number | null;
  readonly evalBatchSize: number;
  readonly parse: ParseMode;
  readonly reportTo: ReportTo;
}

/** Metrics that these scores have, by transformers' names. */
export const SCORE_NAMES = ["eval_accuracy", "eval_mean_l2", "eval_median_l2"] as const;

/**
 * The samples to answer: evenly spread, so that users that stand one after another all have their share.
 * @throws UserError where there are none, or one has no click point to score an answer against
 */
export function samplesToScore(
  validation: readonly Example[],
  { evalGenerate: count }: Pick<ScoreSettings, "evalGenerate">,
): readonly Example[] {
  if (count === null) return [];
  if (validation.length === 0)
    throw new UserError(
      "--eval-generate: there are no validation samples to answer; name some with --val-users, --val-data or --val-fraction, or leave it out",
    );
  const pointless = validation.find(({ target }) => target === undefined);
  if (pointless)
    throw new UserError(
      `--eval-generate: ${pointless.id} has no click point to score an answer against; leave the flag out, the validation loss is told all the same`,
    );
  const most = Math.min(count, validation.length);
  return Array.from({ length: most }, (_, i) => validation[Math.floor((i * validation.length) / most)] as Example);
}

export interface Scoring {
  readonly engine: RemoteEngine;
  readonly model: Model;
  readonly settings: ScoreSettings;
  /** Features computed before; null where the tower trains, for they are old by now. */
  readonly pictures: PictureStore | null;
  readonly signal: AbortSignal;
}

/** What an evaluation adds to the log, with a few of the answers: of distances that are no number, because no answer could be read, nothing. */
export async function validationScores(
  examples: readonly Example[],
  { engine, model, settings, signal, ...scoring }: Scoring,
): Promise<Scores> {
  const { processor } = model;
  const pictures = scoring.pictures ?? new PictureStore(engine, processor.vision);
  const { parse, evalBatchSize: batchSize } = settings;
  const options = { parse, batchSize, generation: generationSettings(model, settings), signal };
  const answers: Answer[] = [];
  for await (const batch of answersTo(examples, { engine, processor, pictures, parameterSet: null }, options))
    answers.push(...batch);
  const { accuracy, mean_l2, median_l2 } = metricsOf(answers.map(scoredOf));
  const metrics = {
    eval_accuracy: accuracy,
    ...(mean_l2 === null ? {} : { eval_mean_l2: mean_l2 }),
    ...(median_l2 === null ? {} : { eval_median_l2: median_l2 }),
  };
  return { metrics, shown: settings.reportTo === "none" ? [] : await answersShown(examples, answers) };
}
