/** Trains agents one after another on one open engine, and scores each on the samples that it did not see. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { PictureStore } from "../../engine/pictures.ts";
import type { RemoteEngine } from "../../engine/start.ts";
import { type Answer, readAnswers } from "../../eval/results.ts";
import { checkpointIdentity } from "../../model/checkpoint.ts";
import { trainsVision } from "../../model/layers.ts";
import { type TrainableSpec, trainablesOf } from "../../model/trainables.ts";
import { readAdapter } from "../../train/adapterFiles.ts";
import { batchSource } from "../../train/batchSource.ts";
import { RUN_CONFIG } from "../../train/checkpointReader.ts";
import { NO_MOMENTS } from "../../train/moments.ts";
import type { NamedArrays } from "../../train/replica.ts";
import { resumeRun } from "../../train/resume.ts";
import { runTraining } from "../../train/run.ts";
import { copyRunRecord } from "../../train/runRecord.ts";
import { Interrupted } from "../../utils/errors.ts";
import { removeFolder } from "../../utils/folders.ts";
import type { Log } from "../../utils/log.ts";
import { type Progress, startProgress } from "../../utils/progress.ts";
import { type AnswerOptions, answerSamples } from "../answer.ts";
import type { Model } from "../model.ts";
import { fingerprint } from "../trainingRun.ts";
import type { Agent } from "./agents.ts";
import type { Standing } from "./standing.ts";

export interface FitContext {
  readonly engine: RemoteEngine;
  readonly model: Model;
  readonly spec: TrainableSpec;
  /** For all agents, so that each picture is encoded once. */
  readonly pictures: PictureStore;
  /** Values that every agent starts from. */
  readonly start: NamedArrays;
  readonly answering: Omit<AnswerOptions, "dir" | "weights" | "pictures" | "parameterSet">;
  readonly saveAdapters: boolean;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** An agent that is done, with its answers to the samples held out. */
export interface Scored {
  readonly agent: Agent;
  readonly answers: readonly Answer[];
}

/**
 * Each agent in turn; one that was scored earlier comes as it is.
 * @throws Interrupted after saving; the same command goes on
 */
export async function* fitAgents(
  agents: ReadonlyMap<Agent, Standing>,
  context: FitContext,
): AsyncGenerator<Scored, void, void> {
  const todo = [...agents].flatMap(([agent, { at }]) => (at === "scored" ? [] : [agent]));
  const total = todo.reduce((sum, agent) => sum + workOf(agent), 0);
  const progress = startProgress({ log: context.log, title: "personal agents", total });
  const fit = fitter(context);
  let [done, finished] = [0, agents.size - todo.length];
  try {
    for (const [agent, standing] of agents) {
      if (standing.at === "scored") {
        yield { agent, answers: standing.answers };
        continue;
      }
      const { user, fold } = agent;
      yield await fit(agent, standing.at, (step, ...rows) => progress.update(done + step, { user, fold }, ...rows));
      done += workOf(agent);
      progress.update(done, { agents: `${++finished} of ${agents.size}` });
    }
  } catch (thrown) {
    if (!(thrown instanceof Interrupted)) throw thrown;
    throw new Interrupted(
      `stopped: ${finished} of ${agents.size} agents are done, and what is done of the next is saved; the same command goes on from there`,
    );
  } finally {
    progress.stop();
  }
}

/** How far an agent moves the bar: a step and an answer take about as long. */
const workOf = ({ training, heldOut }: Agent): number => training.trainer.schedule.totalSteps + heldOut.length;

type ShowStep = Progress["update"];

/** @returns a function that trains and scores an agent */
function fitter(context: FitContext): (agent: Agent, at: Unscored, show: ShowStep) => Promise<Scored> {
  const { engine, model, spec, pictures, saveAdapters, signal } = context;
  const isTowerTrained = trainsVision(trainablesOf(model.checkpoint, spec));
  return async (agent, at, show) => {
    if (signal.aborted) throw new Interrupted("stopped between two agents");
    await train(agent, at, { ...context, isTowerTrained, show });
    await rm(join(agent.answersDir, RUN_CONFIG), { force: true }); // it stands for whole answers only
    await answerSamples(engine, model, agent.heldOut, {
      ...context.answering,
      dir: agent.answersDir,
      weights: { base: checkpointIdentity(model.checkpoint), trained: await fingerprint(engine) },
      ...(isTowerTrained ? {} : { pictures }),
    });
    await copyRunRecord(agent.training.runDir, agent.answersDir);
    if (!saveAdapters) await removeFolder(agent.training.runDir);
    return { agent, answers: await readAnswers(agent.answersDir) };
  };
}

type Unscored = Exclude<Standing["at"], "scored">;

interface TrainContext extends FitContext {
  readonly isTowerTrained: boolean;
  readonly show: ShowStep;
}

/** Leaves the agent's values in the engine, and its adapter in its folder. */
async function train(
  { training, rows }: Agent,
  at: Unscored,
  { engine, model, start, pictures, isTowerTrained, show }: TrainContext,
): Promise<void> {
  if (at === "trained") return engine.setValues(readAdapter(training.runDir, model.checkpoint).values);
  const resumed = at === "begun" ? await resumeRun(engine, true, { ...training, anyway: false }) : null;
  if (!resumed) await engine.setState({ values: start, moments: NO_MOMENTS });
  const { imageTokenId, videoTokenId, padTokenId, vision } = model.processor;
  const batching = { imageTokenId, videoTokenId, padTokenId, mergeSize: vision.mergeSize, pictures };
  const source = batchSource(rows, { ...batching, trainsVision: isTowerTrained });
  const data = { train: source, validation: source, validationExamples: 0, scores: null };
  const showProgress = () => ({ update: show, advance: () => undefined, stop: () => undefined });
  await runTraining(engine, data, { ...training, showProgress }, resumed);
}
