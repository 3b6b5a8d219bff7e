/** Where a run stands: what its log and its checkpoints tell, from which all else about its past follows. */
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import type { JsonObject } from "../utils/json.ts";
import { bestOf, evaluationsWithoutGain, type MetricName } from "./best.ts";
import { checkpointName, listCheckpoints } from "./checkpointFolders.ts";
import { stepsPerEpoch } from "./plan.ts";
import { spikeOf } from "./spikes.ts";
import type { StepReport, TrainerOptions } from "./trainer.ts";
import { callbacksState, type TrainerState, trainerState } from "./trainerState.ts";

export interface Standing {
  /** Optimizer steps done, those that were left out among them. */
  step: number;
  /** Steps that were left out because a loss or gradient was not finite. */
  skipped: number;
  epoch: number;
  tokens: number;
  /** log_history: nothing in it depends on the clock, so that a resumed run writes the same. */
  readonly history: JsonObject[];
  /** Step of the newest checkpoint that this run has written or gone on from. */
  savedStep: number;
  /** Checkpoints in the folder that are not of this run: they go when the first of this one is safe. */
  superseded: readonly string[];
  /** What the run was resumed from said was the best checkpoint: it may lie in another folder. */
  readonly formerBest: string | null;
}

/** A run that begins; what an earlier one left in its folder is not its own. */
export const newStanding = (runDir: string): Standing => ({
  ...{ step: 0, skipped: 0, epoch: 0, tokens: 0, history: [], savedStep: 0, formerBest: null },
  superseded: checkpointsAbove(runDir, 0),
});

/** Names of whole checkpoints of later steps than this. */
export const checkpointsAbove = (runDir: string, step: number): string[] =>
  listCheckpoints(runDir)
    .whole.filter((found) => found.step > step)
    .map(({ dir }) => basename(dir));

/** Notes a step. @returns what was marked about it: a warning, or null */
export function noteStep(standing: Standing, report: StepReport): string | null {
  const { step, epoch, loss, gradNorm, learningRate, otherRates, tokens, supervisedTokens, ids, fault } = report;
  Object.assign(standing, { step, epoch, tokens: standing.tokens + tokens });
  const others = Object.entries(otherRates).map(([part, rate]) => [`learning_rate_${part}`, rate]);
  const rates = { learning_rate: learningRate, ...Object.fromEntries(others) };
  const row = { step, epoch, ...rates, num_tokens: standing.tokens };
  if (fault !== null) {
    standing.skipped++;
    standing.history.push({ ...row, skipped: fault });
    return `step ${step} is left out: ${fault}`;
  }
  const spike = spikeOf(lossesOf(standing.history), loss);
  standing.history.push({ ...row, loss, grad_norm: gradNorm, ...(spike ? { loss_spike: true } : {}) });
  if (!spike) return null;
  const { median, sigma } = spike;
  return `step ${step}: the loss ${loss.toFixed(4)} stands out from the median of those before, ${median.toFixed(4)} (sigma ${sigma.toFixed(4)}), over ${supervisedTokens} tokens of ${ids.join(", ")}`;
}

/** Enough of the last losses to judge the next by. */
const lossesOf = (history: readonly JsonObject[]): number[] =>
  history
    .slice(-200)
    .map(({ loss }) => loss)
    .filter((loss) => typeof loss === "number");

export interface StateSettings {
  readonly runDir: string;
  readonly trainer: TrainerOptions;
  readonly saveSteps: number;
  readonly evalSteps: number;
  readonly metricForBestModel: MetricName;
  readonly earlyStopping: { readonly patience: number; readonly threshold: number } | null;
}

/** The best evaluation so far and the folder of its checkpoint, null where none was saved or it is gone. */
export function bestCheckpoint(standing: Standing, { runDir, metricForBestModel }: StateSettings) {
  const best = bestOf(standing.history, metricForBestModel);
  if (!best) return null;
  const own = join(runDir, checkpointName(best.step));
  const isThere = best.step === standing.step || existsSync(own);
  const former = standing.formerBest;
  const isFormer = former !== null && basename(former) === checkpointName(best.step) && existsSync(former);
  return { ...best, dir: isThere ? own : isFormer ? former : null };
}

/** What trainer_state.json says. */
export function stateOf(standing: Standing, settings: StateSettings): TrainerState {
  const { step, epoch, history, tokens } = standing;
  const { trainer, saveSteps, evalSteps } = settings;
  const best = bestCheckpoint(standing, settings);
  const patience = patienceOf(standing, settings);
  const isOver = step >= trainer.schedule.totalSteps || (patience !== null && patience.counter >= patience.patience);
  return trainerState({
    best_global_step: best?.step ?? null,
    best_metric: best?.metric ?? null,
    best_model_checkpoint: best?.dir ?? null,
    epoch,
    global_step: step,
    max_steps: trainer.schedule.totalSteps,
    num_train_epochs: Math.ceil(trainer.schedule.totalSteps / stepsPerEpoch(trainer)),
    log_history: history,
    logging_steps: 1,
    save_steps: saveSteps,
    eval_steps: evalSteps,
    train_batch_size: trainer.batchSize,
    num_input_tokens_seen: tokens,
    stateful_callbacks: callbacksState(isOver, patience),
  });
}

/** How long nothing has got better; null where that ends no run. */
export function patienceOf({ history }: Standing, { earlyStopping, metricForBestModel: name }: StateSettings) {
  if (!earlyStopping) return null;
  return { ...earlyStopping, counter: evaluationsWithoutGain(history, name, earlyStopping.threshold) };
}
