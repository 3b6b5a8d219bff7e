/** A training run: steps, validation losses, checkpoints, and the result; interrupted it saves, resumed it goes on. */
import { dirname, resolve } from "node:path";
import type { RemoteEngine } from "../engine/start.ts";
import { InternalError, Interrupted, messageOf, UserError } from "../utils/errors.ts";
import type { JsonObject } from "../utils/json.ts";
import type { Log } from "../utils/log.ts";
import { type ProgressFields, startProgress } from "../utils/progress.ts";
import {
  type CheckpointSource,
  listCheckpoints,
  loadCheckpoint,
  pruneCheckpoints,
  type RunResult,
  saveCheckpoint,
  saveFinal,
} from "./checkpointStore.ts";
import { stepsPerEpoch } from "./plan.ts";
import { type BatchSource, type StepReport, type TrainerOptions, trainSteps } from "./trainer.ts";
import { type TrainerState, trainerState } from "./trainerState.ts";

export interface RunOptions {
  /** Folder that the run writes. */
  readonly runDir: string;
  readonly trainer: TrainerOptions;
  readonly saveSteps: number;
  readonly evalSteps: number;
  /** Checkpoints kept; 0: those of an unfinished run alone, the result is enough. */
  readonly keep: number;
  /** What to do to go on after an interruption. */
  readonly howToGoOn?: string;
  /** Shows the steps, where they are part of something longer. */
  readonly showProgress?: typeof startProgress;
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
}

/** Where a run stands. */
interface Standing {
  step: number;
  epoch: number;
  tokens: number;
  readonly history: JsonObject[];
  /** Step of the newest checkpoint that this run has written or gone on from. */
  savedStep: number;
  /** Whether checkpoints in the folder are of this run, rather than left by an earlier one. */
  ownsCheckpoints: boolean;
}

const isDue = (step: number, every: number): boolean => step % every === 0;

/**
 * Trains to the end of the schedule and writes the result. The engine holds the values to start from.
 * @throws Interrupted after saving a checkpoint
 */
export async function runTraining(
  engine: RemoteEngine,
  data: RunData,
  options: RunOptions,
  resumed: Standing | null,
): Promise<void> {
  const { trainer, log } = options;
  const standing: Standing = resumed ?? {
    step: 0,
    epoch: 0,
    tokens: 0,
    history: [],
    savedStep: 0,
    ownsCheckpoints: false,
  };
  warnOfEarlierRun(standing, options);
  const { showProgress = startProgress, howToGoOn = "--resume goes on from there" } = options;
  const progress = showProgress({ log, title: "training", total: trainer.schedule.totalSteps, start: standing.step });
  try {
    for await (const report of trainSteps(engine, data.train, trainer, standing.step)) {
      note(standing, report);
      progress.update(report.step, {
        loss: report.loss,
        lr: report.learningRate,
        "tokens/s": (1000 * report.tokens) / report.elapsedMs,
        ...waitField(report),
      });
      if (data.validationExamples > 0 && isDue(report.step, options.evalSteps))
        await noteValidation(engine, data, standing, options);
      if (isDue(report.step, options.saveSteps)) await save(engine, standing, options);
    }
  } catch (thrown) {
    const isSaved = await saveWhatIsDone(engine, standing, options, thrown);
    const kept = `step ${standing.step}, saved in ${options.runDir}; ${howToGoOn}`;
    if (thrown instanceof Interrupted)
      throw new Interrupted(
        isSaved ? `stopped after ${kept}` : "stopped before the first step was done: nothing to save",
      );
    if (thrown instanceof UserError && isSaved)
      throw new UserError(`${thrown.message}; ended after ${kept}`, { cause: thrown });
    throw thrown;
  } finally {
    progress.stop();
  }
  if (options.keep > 0 && standing.step > standing.savedStep) await save(engine, standing, options);
  await saveFinal(options.runDir, await resultOf(engine, standing, options), options.source);
  if (options.keep === 0) await pruneCheckpoints(options.runDir, 0);
}

/** Shown only where it is worth a thought. */
const waitField = ({ waitShare }: StepReport): ProgressFields =>
  waitShare > 0.02 ? { "data wait": `${Math.round(100 * waitShare)} %` } : {};

const round4 = (share: number): number => Math.round(share * 1e4) / 1e4;

/** @returns whether a checkpoint holds the last step that was done */
async function saveWhatIsDone(
  engine: RemoteEngine,
  standing: Standing,
  options: RunOptions,
  reason: unknown,
): Promise<boolean> {
  if (standing.step > standing.savedStep) {
    try {
      await save(engine, standing, options);
    } catch (failure) {
      if (reason instanceof Interrupted) throw failure;
      options.log.warn(`the steps done since the last checkpoint could not be saved: ${messageOf(failure)}`); // the reason itself is told after this
    }
  }
  return standing.step > 0 && standing.savedStep === standing.step;
}

function note(standing: Standing, { step, epoch, loss, gradNorm, learningRate, tokens, waitShare }: StepReport): void {
  Object.assign(standing, { step, epoch, tokens: standing.tokens + tokens });
  standing.history.push({
    step,
    epoch,
    loss,
    grad_norm: gradNorm,
    learning_rate: learningRate,
    num_tokens: standing.tokens,
    data_wait: round4(waitShare),
  });
}

async function noteValidation(
  engine: RemoteEngine,
  { validation, validationExamples: examples }: RunData,
  standing: Standing,
  { trainer, log }: RunOptions,
): Promise<void> {
  let [lossSum, tokenCount] = [0, 0];
  for (let start = 0; start < examples; start += trainer.batchSize) {
    const indices = Array.from({ length: Math.min(trainer.batchSize, examples - start) }, (_, i) => start + i);
    const { ids: _, ...batch } = await validation(indices);
    const output = await engine.evaluateLoss(batch);
    lossSum += output.lossSum;
    tokenCount += output.tokenCount;
    if (trainer.signal?.aborted) return;
  }
  const loss = lossSum / tokenCount;
  standing.history.push({ step: standing.step, epoch: standing.epoch, eval_loss: loss });
  log.line(`step ${standing.step}: validation loss ${loss.toFixed(4)} over ${tokenCount} tokens`);
}

async function resultOf(
  engine: RemoteEngine,
  standing: Standing,
  { lora, runConfig, ...options }: RunOptions,
): Promise<RunResult & Awaited<ReturnType<RemoteEngine["state"]>>> {
  return {
    lora,
    runConfig,
    shapes: await engine.trainableShapes(),
    trainerState: stateOf(standing, options),
    ...(await engine.state()),
  };
}

function stateOf(
  { step, epoch, history, tokens }: Standing,
  { trainer, saveSteps, evalSteps }: Pick<RunOptions, "trainer" | "saveSteps" | "evalSteps">,
): TrainerState {
  return trainerState({
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
  });
}

async function save(engine: RemoteEngine, standing: Standing, options: RunOptions): Promise<void> {
  const cursor = { step: standing.step, tokens: standing.tokens };
  const dir = await saveCheckpoint(
    options.runDir,
    { ...(await resultOf(engine, standing, options)), cursor },
    options.source,
  );
  // checkpoints that an earlier run left here go when the first of this one is safe
  await pruneCheckpoints(options.runDir, standing.ownsCheckpoints ? options.keep : 0, [dir]);
  Object.assign(standing, { savedStep: standing.step, ownsCheckpoints: true });
}

function warnOfEarlierRun({ ownsCheckpoints }: Standing, { runDir, log }: RunOptions): void {
  const [newest] = listCheckpoints(runDir).whole;
  if (newest && !ownsCheckpoints)
    log.warn(
      `${runDir}: holds an earlier run, up to step ${newest.step}; this new run replaces it at its first save (--resume would go on with it, --checkpoint-dir keeps both)`,
    );
}

/** Settings that may differ between a run and its continuation: they change what is shown and written, not the arithmetic. */
const FREE_SETTINGS = new Set([
  "devices",
  "out",
  "checkpointDir",
  "quiet",
  "keep",
  "saveSteps",
  "evalSteps",
  "eval",
  "users",
  "testData",
  "parse",
  "maxNewTokens",
  "sample",
  "temperature",
  "topP",
  "topK",
  "evalBatchSize",
  "resume",
  "sources",
]);

function refuseChanges(dir: string, saved: JsonObject, now: JsonObject): void {
  const names = [...new Set([...Object.keys(saved), ...Object.keys(now)])].filter((name) => !FREE_SETTINGS.has(name));
  const changed = names.filter((name) => JSON.stringify(saved[name]) !== JSON.stringify(now[name]));
  if (changed.length === 0) return;
  const lines = changed.map(
    (name) => `  ${name}: ${JSON.stringify(saved[name])} there, ${JSON.stringify(now[name])} here`,
  );
  throw new UserError(`${dir}: was trained with other settings; give the same flags to go on\n${lines.join("\n")}`);
}

/**
 * Puts a checkpoint's state into the engine.
 * @param from a checkpoint folder, or true for the newest whole one in the run folder
 */
export async function resumeRun(engine: RemoteEngine, from: string | true, options: RunOptions): Promise<Standing> {
  const dir = from === true ? newestIn(options.runDir, options.log) : from;
  const {
    values,
    expAvg,
    expAvgSq,
    trainerState: state,
    runConfig,
    cursor,
  } = loadCheckpoint(dir, await engine.trainableShapes());
  refuseChanges(dir, runConfig, options.runConfig);
  await engine.setState({ values, expAvg, expAvgSq });
  if (typeof cursor.tokens !== "number") throw new InternalError(`${dir}: the cursor has no number of tokens`);
  options.log.line(`going on from ${dir}, after step ${state.global_step}`);
  return {
    step: state.global_step,
    epoch: state.epoch,
    tokens: cursor.tokens,
    history: [...state.log_history],
    savedStep: isInside(dir, options.runDir) ? state.global_step : 0, // one from elsewhere is saved here too
    ownsCheckpoints: isInside(dir, options.runDir),
  };
}

const isInside = (dir: string, folder: string): boolean => dirname(resolve(dir)) === resolve(folder);

function newestIn(runDir: string, log: Log): string {
  const { whole, skipped } = listCheckpoints(runDir);
  for (const { dir, reason } of skipped) log.warn(`${dir}: skipped: ${reason}`);
  const [newest] = whole;
  if (!newest)
    throw new UserError(
      `--resume: no whole checkpoint in ${runDir}; leave --resume out to start anew, or name a checkpoint folder`,
    );
  return newest.dir;
}
