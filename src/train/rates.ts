/** Learning rates: one for each part of the model, and with LoRA+ another for what an adapter puts behind A. */
import { groupOf, PARAMETER_GROUPS, type ParameterGroup } from "../model/groups.ts";
import { UserError } from "../utils/errors.ts";
import { learningRate, type Schedule } from "./schedule.ts";

/** A part of the model; its `lora_B` are LoRA's B and DoRA's magnitudes there. */
export type RateName = ParameterGroup | `${ParameterGroup}.lora_B`;
export type Rates = Readonly<Partial<Record<RateName, number>>>;

export interface RateSettings {
  /** Of all that is not named below, at its peak. */
  readonly lr: number;
  readonly lrVision: number | null;
  readonly lrMerger: number | null;
  readonly lrLlm: number | null;
  readonly lrHead: number | null;
  /** LoRA+: how many times faster B learns than A; null: as fast. Source: Hayou et al. 2024, arXiv 2402.12354. */
  readonly loraplusLrRatio: number | null;
}

const FLAGS = { vision: "lrVision", merger: "lrMerger", llm: "lrLlm", head: "lrHead" } as const;

/** The rate that a parameter follows. */
export const rateOf = (name: string): RateName =>
  /\.lora_(B\.weight|magnitude_vector)$/.test(name) ? `${groupOf(name)}.lora_B` : groupOf(name);

/**
 * @param names what trains
 * @returns the peak of most, which is `lr` where anything follows it, and the peaks that differ
 * @throws UserError when a rate is given for a part of which nothing trains
 */
export function peakRates(
  settings: RateSettings,
  names: Iterable<string>,
): { readonly peak: number; readonly otherPeaks: Rates } {
  const used = [...new Set([...names].map(rateOf))];
  const ofGroup = (group: ParameterGroup): number | null => settings[FLAGS[group]];
  for (const group of PARAMETER_GROUPS)
    if (ofGroup(group) !== null && !used.some((rate) => rate.startsWith(group)))
      throw new UserError(`--lr-${group}: nothing of the ${group} trains; add it to --train, or leave the rate out`);
  const peaks = used.map((rate): readonly [RateName, number] => {
    const own = ofGroup(rate.replace(".lora_B", "") as ParameterGroup) ?? settings.lr;
    return [rate, rate.endsWith(".lora_B") ? own * (settings.loraplusLrRatio ?? 1) : own];
  });
  const peak = peaks.some(([, own]) => own === settings.lr) ? settings.lr : (peaks[0]?.[1] ?? settings.lr);
  return { peak, otherPeaks: Object.fromEntries(peaks.filter(([, own]) => own !== peak)) };
}

/** The rates of one step that differ from the schedule's own. */
export function ratesAt(schedule: Schedule, otherPeaks: Rates, step: number): Rates {
  const rates = Object.entries(otherPeaks).map(([name, peak]) => [name, learningRate({ ...schedule, peak }, step)]);
  return Object.fromEntries(rates);
}
