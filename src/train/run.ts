/** A training run: steps, evaluations, checkpoints, and the result; interrupted it saves, resumed it goes on. */
import { basename } from "node:path";
import type { RemoteEngine } from "../engine/start.ts";
import { checksumFault } from "../utils/checksums.ts";
import { Interrupted, messageOf, required, UserError } from "../utils/errors.ts";
import { formatDuration, type Progress, startProgress } from "../utils/progress.ts";
import { bestOf, hasEvaluation } from "./best.ts";
import { checkpointName, pruneCheckpoints, removeCheckpoints } from "./checkpointFolders.ts";
import { loadCheckpoint, type RunResult } from "./checkpointReader.ts";
import { saveCheckpoint, saveFinal } from "./checkpointStore.ts";
import { StepDisplay } from "./display.ts";
import { evaluationFigures, stepFigures, trainedFigures } from "./journal/figures.ts";
import { type Journal, openJournal } from "./journal/journal.ts";
import type { RunData, RunOptions } from "./runOptions.ts";
import { bestCheckpoint, newStanding, noteStep, patienceOf, type Standing, stateOf } from "./standing.ts";
import { type StepReport, type TrainerOptions, trainSteps } from "./trainer.ts";
import { validationLoss } from "./validation.ts";
import { Watchdog } from "./watchdog.ts";

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
  readonly #journal: Journal;
  readonly #display: StepDisplay;
  /** Since this start. */
  readonly #trained = { elapsedMs: 0, steps: 0, samples: 0 };
  /** Why the folder could not be written: it is not tried again. */
  #unsaved: unknown = null;

  constructor(engine: RemoteEngine, data: RunData, options: RunOptions, standing: Standing) {
    this.#engine = engine;
    this.#data = data;
    this.#options = options;
    this.#standing = standing;
    this.#journal = openJournal({ ...options, ...standing });
    this.#display = new StepDisplay(options.metricForBestModel);
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
    const begun = performance.now();
    const watchdog = new Watchdog((step, elapsedMs, medianMs) =>
      log.warn(
        `step ${step} is under way for ${formatDuration(elapsedMs)}: ten times the median of the steps before, or more (${formatDuration(medianMs)})`,
      ),
    );
    try {
      if (this.#journal.isNew) this.#journal.show(this.#standing.step, (await this.#options.introduction?.()) ?? []);
      await this.#steps(watchdog, progress);
    } catch (thrown) {
      throw await this.#broken(thrown);
    } finally {
      watchdog.end();
      progress.stop();
      this.#trained.elapsedMs = performance.now() - begun;
    }
  }

  async #steps(watchdog: Watchdog, progress: Progress): Promise<void> {
    const standing = this.#standing;
    const trainer: TrainerOptions = {
      ...this.#options.trainer,
      onMicroBatch: ({ step, done, of }) => progress.advance(step - 1 + done / of),
    };
    if (standing.step > 0) await this.#evaluateIfDue(); // it may have been interrupted there
    if (this.#isOutOfPatience()) return;
    for await (const report of trainSteps(this.#engine, this.#data.train, trainer, standing.step, standing.skipped)) {
      watchdog.end(report.elapsedMs);
      this.#note(report);
      progress.update(report.step, ...this.#display.rowsOf(report, standing.history));
      await this.#afterStep();
      if (this.#isOutOfPatience()) return;
      watchdog.begin(report.step + 1);
    }
    await this.#evaluateTheLast();
  }

  #note(report: StepReport): void {
    const mark = noteStep(this.#standing, report);
    if (mark !== null) this.#options.log.warn(mark);
    this.#journal.note(required(this.#standing.history.at(-1), "the step's row"), stepFigures(report));
    this.#trained.steps++;
    this.#trained.samples += report.ids.length;
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
    const examples = this.#data.validationExamples;
    if (examples === 0) return;
    const { step, epoch, history } = this.#standing;
    const begun = performance.now();
    const { loss, tokenCount } = await validationLoss(this.#engine, this.#data, trainer);
    const { metrics, shown } = (await this.#data.scores?.()) ?? { metrics: {}, shown: [] };
    const row = { step, epoch, eval_loss: loss, ...metrics };
    history.push(row);
    this.#journal.note(row, evaluationFigures(performance.now() - begun, examples, trainer.batchSize));
    this.#journal.show(step, shown);
    const others = Object.entries(metrics).map(([name, value]) => `, ${name} ${value.toFixed(4)}`);
    log.line(`step ${step}: validation loss ${loss.toFixed(4)} over ${tokenCount} tokens${others.join("")}`);
    if (loadBest && bestOf(history, name)?.step === step) await this.#save();
    else if (this.#standing.savedStep === step) await this.#save(); // it was saved before this evaluation
  }

  #isOutOfPatience(): boolean {
    const { metricForBestModel: name, log } = this.#options;
    const { step, history } = this.#standing;
    const waited = patienceOf(this.#standing, this.#options);
    if (!waited || waited.counter < waited.patience) return false;
    const best = bestOf(history, name);
    log.line(
      `stopped early after step ${step}: ${waited.counter} evaluations in a row without a better ${name} (${best?.metric}, step ${best?.step})`,
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
    const { savedStep } = this.#standing;
    if (!(thrown instanceof UserError) || savedStep === 0) return thrown;
    const last = isSaved ? `ended after ${kept}` : `the last checkpoint is that of step ${savedStep}; ${howToGoOn}`;
    return new UserError(`${thrown.message}; ${last}`, { cause: thrown });
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
      this.#tellFaults();
    } catch (failure) {
      this.#unsaved = failure;
      throw failure;
    }
  }

  /** Told when a checkpoint is safe: until then, what stands in the way of the one may end the run by that of the other. */
  #tellFaults(): void {
    for (const fault of this.#journal.faults()) this.#options.log.warn(fault);
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
    const { step, epoch, history } = this.#standing;
    if (this.#trained.steps > 0) this.#journal.note({ step, epoch }, trainedFigures(this.#trained, history));
    this.#tellFaults();
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
