/** A training run: steps, evaluations, checkpoints, and the result; interrupted it saves, resumed it goes on. */
import { basename } from "node:path";
import type { RemoteEngine } from "../engine/start.ts";
import { checksumFault } from "../utils/checksums.ts";
import { Interrupted, messageOf, UserError } from "../utils/errors.ts";
import type { JsonObject } from "../utils/json.ts";
import type { Log } from "../utils/log.ts";
import { formatDuration, type ProgressFields, startProgress } from "../utils/progress.ts";
import { bestOf, evaluationsWithoutGain, hasEvaluation, type MetricName } from "./best.ts";
import { checkpointName, pruneCheckpoints, removeCheckpoints } from "./checkpointFolders.ts";
import { loadCheckpoint, type RunResult } from "./checkpointReader.ts";
import { type CheckpointSource, saveCheckpoint, saveFinal } from "./checkpointStore.ts";
import { bestCheckpoint, newStanding, noteStep, type Standing, stateOf } from "./standing.ts";
import { type BatchSource, type StepReport, type TrainerOptions, trainSteps } from "./trainer.ts";
import { Watchdog } from "./watchdog.ts";

export interface RunOptions {
  /** Folder that the run writes. */
  readonly runDir: string;
  readonly trainer: TrainerOptions;
  readonly saveSteps: number;
  readonly evalSteps: number;
  /** Checkpoints kept, the best among them; 0: while the run is unfinished one, then none, the result is enough. */
  readonly keep: number;
  /** What to do to go on after an interruption. */
  readonly howToGoOn?: string;
  /** Shows the steps, where they are part of something longer. */
  readonly showProgress?: typeof startProgress;
  /** What the best checkpoint is chosen by. */
  readonly metricForBestModel: MetricName;
  /** Whether the result is the best checkpoint, rather than the last step. */
  readonly loadBest: boolean;
  /** Ends the run after so many evaluations in a row without a gain above the threshold; null: never. */
  readonly earlyStopping: { readonly patience: number; readonly threshold: number } | null;
  readonly lora: RunResult["lora"];
  readonly source: CheckpointSource;
  /** All settings, for run_config.json. */
  readonly runConfig: JsonObject;
  readonly log: Log;
}

/** Where the batches of a run come from. */
export interface RunData {
  readonly train: BatchSource;
  /** Samples that tell the validation loss, of which there may be none. */
  readonly validation: BatchSource;
  readonly validationExamples: number;
  /** More to measure at each evaluation, by transformers' names (`eval_accuracy`, `eval_mean_l2`); null: the loss alone. */
  readonly scores: (() => Promise<Readonly<Record<string, number>>>) | null;
}

const isDue = (step: number, every: number): boolean => step % every === 0;

/**
 * Trains to the end of the schedule, or until nothing gets better any more, and writes the result. The engine holds the
 * values to start from, and in the end those of the result.
 * @throws Interrupted after saving a checkpoint
 * @throws UserError when a folder cannot be written; the last checkpoint stays
 */
export async function runTraining(
  engine: RemoteEngine,
  data: RunData,
  options: RunOptions,
  resumed: Standing | null,
): Promise<void> {
  const run = new Run(engine, data, options, resumed ?? newStanding(options.runDir));
  if (!resumed) run.warnOfEarlier();
  await run.train();
  await run.finish();
}

/** One run under way: its standing, and what is done at its steps. */
class Run {
  readonly #engine: RemoteEngine;
  readonly #data: RunData;
  readonly #options: RunOptions;
  readonly #standing: Standing;
  /** Why the folder could not be written: it is not tried again. */
  #unsaved: unknown = null;

  constructor(engine: RemoteEngine, data: RunData, options: RunOptions, standing: Standing) {
    this.#engine = engine;
    this.#data = data;
    this.#options = options;
    this.#standing = standing;
  }

  warnOfEarlier(): void {
    const [newest] = this.#standing.superseded;
    if (newest === undefined) return;
    const { runDir, log } = this.#options;
    log.warn(
      `${runDir}: holds an earlier run, up to step ${newest.replace("checkpoint-", "")}; this new run replaces it at its first save (--resume would go on with it, --checkpoint-dir keeps both)`,
    );
  }

  /** @throws what ended training before its end, after saving what is done */
  async train(): Promise<void> {
    const { log, trainer, showProgress = startProgress } = this.#options;
    const progress = showProgress({
      ...{ log, title: "training", total: trainer.schedule.totalSteps, start: this.#standing.step },
    });
    const watchdog = new Watchdog((step, elapsedMs, medianMs) =>
      log.warn(
        `step ${step} is under way for ${formatDuration(elapsedMs)}: ten times the median of the steps before, or more (${formatDuration(medianMs)})`,
      ),
    );
    try {
      await this.#steps(watchdog, (report) => progress.update(report.step, fieldsOf(report)));
    } catch (thrown) {
      throw await this.#broken(thrown);
    } finally {
      watchdog.end();
      progress.stop();
    }
  }

  async #steps(watchdog: Watchdog, show: (report: StepReport) => void): Promise<void> {
    const standing = this.#standing;
    const { trainer } = this.#options;
    if (standing.step > 0) await this.#evaluateIfDue(); // it may have been interrupted there
    if (this.#isOutOfPatience()) return;
    for await (const report of trainSteps(this.#engine, this.#data.train, trainer, standing.step, standing.skipped)) {
      watchdog.end(report.elapsedMs);
      const mark = noteStep(standing, report);
      show(report);
      if (mark !== null) this.#options.log.warn(mark);
      await this.#afterStep();
      if (this.#isOutOfPatience()) return;
      watchdog.begin(report.step + 1);
    }
    await this.#evaluateTheLast();
  }

  async #afterStep(): Promise<void> {
    await this.#evaluateIfDue();
    if (isDue(this.#standing.step, this.#options.saveSteps) && this.#standing.savedStep < this.#standing.step)
      await this.#save();
  }

  async #evaluateIfDue(): Promise<void> {
    const { step, history } = this.#standing;
    if (isDue(step, this.#options.evalSteps) && !hasEvaluation(history, step)) await this.#evaluate();
  }

  /** Where the best of several steps is to be the result, the last must be among them. */
  async #evaluateTheLast(): Promise<void> {
    const { loadBest, metricForBestModel } = this.#options;
    const { step, history } = this.#standing;
    const isRace = loadBest && bestOf(history, metricForBestModel) !== null;
    if (isRace && !hasEvaluation(history, step)) await this.#evaluate();
  }

  /** Notes an evaluation; the best so far is saved at once where it may become the result. */
  async #evaluate(): Promise<void> {
    const { loadBest, metricForBestModel: name, trainer, log } = this.#options;
    if (this.#data.validationExamples === 0) return;
    const { step, epoch, history } = this.#standing;
    const { loss, tokenCount } = await validationLoss(this.#engine, this.#data, trainer);
    const scores = (await this.#data.scores?.()) ?? {};
    history.push({ step, epoch, eval_loss: loss, ...scores });
    const others = Object.entries(scores).map(([name, value]) => `, ${name} ${value.toFixed(4)}`);
    log.line(`step ${step}: validation loss ${loss.toFixed(4)} over ${tokenCount} tokens${others.join("")}`);
    if (loadBest && bestOf(history, name)?.step === step) await this.#save();
    else if (this.#standing.savedStep === step) await this.#save(); // it was saved before this evaluation
  }

  #isOutOfPatience(): boolean {
    const { earlyStopping, metricForBestModel: name, log } = this.#options;
    const { step, history } = this.#standing;
    if (!earlyStopping) return false;
    const count = evaluationsWithoutGain(history, name, earlyStopping.threshold);
    if (count < earlyStopping.patience) return false;
    const best = bestOf(history, name);
    log.line(
      `stopped early after step ${step}: ${count} evaluations in a row without a better ${name} (${best?.metric}, step ${best?.step})`,
    );
    return true;
  }

  /** Saves what is done, if it is not. @returns what to tell the user */
  async #broken(thrown: unknown): Promise<unknown> {
    if (this.#unsaved !== null) return this.#unsaved;
    const { step } = this.#standing;
    const isSaved = await this.#saveWhatIsDone(thrown);
    const { runDir, howToGoOn = "--resume goes on from there" } = this.#options;
    const kept = `step ${step}, saved in ${runDir}; ${howToGoOn}`;
    if (thrown instanceof Interrupted)
      return new Interrupted(
        isSaved ? `stopped after ${kept}` : "stopped before the first step was done: nothing to save",
      );
    if (thrown instanceof UserError && isSaved)
      return new UserError(`${thrown.message}; ended after ${kept}`, { cause: thrown });
    return thrown;
  }

  /** @returns whether a checkpoint holds the last step that was done */
  async #saveWhatIsDone(reason: unknown): Promise<boolean> {
    const standing = this.#standing;
    if (standing.step > standing.savedStep) {
      try {
        await this.#save();
      } catch (failure) {
        if (reason instanceof Interrupted) throw failure;
        this.#options.log.warn(
          `the steps done since the last checkpoint could not be saved: ${messageOf(failure)}`, // the reason itself is told after this
        );
      }
    }
    return standing.step > 0 && standing.savedStep === standing.step;
  }

  async #save(): Promise<void> {
    const standing = this.#standing;
    const { runDir, source, keep } = this.#options;
    const cursor = { step: standing.step, tokens: standing.tokens, skipped: standing.skipped };
    try {
      await saveCheckpoint(runDir, { ...(await this.#result()), cursor }, source, standing.superseded);
      Object.assign(standing, { savedStep: standing.step, superseded: [] });
      await pruneCheckpoints(runDir, Math.max(1, keep), this.#protected());
    } catch (failure) {
      this.#unsaved = failure;
      throw failure;
    }
  }

  #protected(): string[] {
    const best = bestCheckpoint(this.#standing, this.#options);
    return best === null ? [] : [checkpointName(best.step)];
  }

  async #result(): Promise<RunResult & Awaited<ReturnType<RemoteEngine["state"]>>> {
    const { lora, runConfig } = this.#options;
    return {
      lora,
      runConfig,
      shapes: await this.#engine.trainableShapes(),
      trainerState: stateOf(this.#standing, this.#options),
      ...(await this.#engine.state()),
    };
  }

  /** Saves the last step and writes the result at the run folder's top. */
  async finish(): Promise<void> {
    const { runDir, keep, source } = this.#options;
    if (keep > 0 && this.#standing.step > this.#standing.savedStep) await this.#save();
    else if (keep > 0) await pruneCheckpoints(runDir, keep, this.#protected()); // a run that was killed may not have come to it
    const missing = this.#options.loadBest ? await this.#loadBest() : null;
    await saveFinal(runDir, await this.#result(), source);
    if (keep === 0) await removeCheckpoints(runDir);
    if (missing !== null) throw new UserError(`${missing}; ${runDir} holds the last step instead`);
  }

  /** Puts the best checkpoint's values into the engine. @returns why that cannot be done, or null */
  async #loadBest(): Promise<string | null> {
    const { metricForBestModel: name, log } = this.#options;
    const best = bestCheckpoint(this.#standing, this.#options);
    if (best === null || best.step === this.#standing.step) return null;
    const about = `the best step, ${best.step} with ${name} ${best.metric},`;
    if (best.dir === null) return `${about} has no checkpoint any more`;
    const fault = await checksumFault(best.dir);
    if (fault !== null) return `${about} cannot be loaded: ${fault}`;
    const { values, average } = loadCheckpoint(best.dir, await this.#engine.trainableShapes());
    await this.#engine.setValues(average ?? values);
    log.line(`the result is ${basename(best.dir)}, the best by ${name} (${best.metric})`);
    return null;
  }
}

/** How fast, and how much of the time data were waited for where that is worth a thought. */
function fieldsOf({ loss, learningRate, tokens, elapsedMs, waitShare }: StepReport): ProgressFields {
  return {
    ...{ loss, lr: learningRate, "tokens/s": (1000 * tokens) / elapsedMs },
    ...(waitShare > 0.02 ? { "data wait": `${Math.round(100 * waitShare)} %` } : {}),
  };
}

async function validationLoss(
  engine: RemoteEngine,
  { validation, validationExamples: examples }: RunData,
  { batchSize, signal }: TrainerOptions,
): Promise<{ loss: number; tokenCount: number }> {
  let [lossSum, tokenCount] = [0, 0];
  for (let start = 0; start < examples; start += batchSize) {
    if (signal?.aborted) throw new Interrupted("stopped while evaluating");
    const indices = Array.from({ length: Math.min(batchSize, examples - start) }, (_, i) => start + i);
    const { ids: _, ...batch } = await validation(indices);
    const output = await engine.evaluateLoss(batch);
    lossSum += output.lossSum;
    tokenCount += output.tokenCount;
  }
  return { loss: lossSum / tokenCount, tokenCount };
}
