/** From a survey to a report: counts, equal samples, the forecast of the run. */
import { sameSamples } from "../../data/sameSamples.ts";
import type { QuantKind } from "../../model/quantised/matrix.ts";
import { plannedQuantised } from "../../model/quantised/planned.ts";
import { partsOfRun } from "../baseQuant.ts";
import type { Model } from "../model.ts";
import { overlapsOf, type Splits } from "../splits.ts";
import { plannedSpec, type StartOptions } from "../startingPoint.ts";
import { type ForecastSettings, forecastOf } from "./forecast.ts";
import { measureMachine, statedMachine } from "./machine.ts";
import type { Report } from "./report.ts";
import { duplicatesOf, summaryOf } from "./summary.ts";
import type { SampleFacts } from "./survey.ts";

export interface PlanSettings extends ForecastSettings, StartOptions {
  readonly maxLength: number | null;
  readonly overlong: string;
  readonly allowOverlap: boolean;
  /** null: weights as stored. */
  readonly baseQuant: QuantKind | null;
  /** null: measured. */
  readonly gflops: number | null;
}

export interface Surveyed {
  readonly model: Model;
  readonly splits: Splits;
  readonly facts: readonly SampleFacts[];
  readonly faults: readonly string[];
}

export async function planRun({ model, splits, facts, faults }: Surveyed, settings: PlanSettings): Promise<Report> {
  const { maxLength, overlong, allowOverlap } = settings;
  const { train, validation, test } = splits;
  return {
    summary: summaryOf(facts),
    duplicates: duplicatesOf(await sameSamples([...train, ...validation, ...test])),
    overlaps: await overlapsOf(splits),
    ...{ allowOverlap, faults, maxLength, overlong },
    forecast: await planForecast(model, facts, settings),
  };
}

/** null where nothing would be trained. */
async function planForecast(
  { checkpoint: stored }: Model,
  facts: readonly SampleFacts[],
  settings: PlanSettings,
): Promise<Report["forecast"]> {
  // what the length limit refuses is planned as it is: the user may lift the limit
  const of = (split: SampleFacts["split"]): SampleFacts[] =>
    facts.filter((one) => one.split === split && one.outcome !== "dropped" && one.outcome !== "emptied");
  const [train, validation, test] = [of("train"), of("validation"), of("test")];
  if (train.length === 0) return null;
  const middle = train.map(({ length }) => length).sort((a, b) => a - b)[train.length >> 1] ?? 1;
  const spec = plannedSpec(settings, stored);
  const parts = partsOfRun(stored, { spec, training: settings, answers: test.length > 0 });
  const checkpoint = settings.baseQuant ? plannedQuantised(stored, settings.baseQuant, parts) : stored;
  const machine =
    settings.gflops === null
      ? await measureMachine(checkpoint.architecture.text, middle)
      : statedMachine(settings.gflops);
  const forecast = forecastOf({ checkpoint, spec, train, validation, test }, settings, machine);
  return { of: forecast, machine, epochs: forecast.totalSteps / forecast.stepsPerEpoch };
}
