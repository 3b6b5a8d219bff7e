/** Fine-tunes one model on the training users, then evaluates it on the test users: `npx tsx src/finetuneGlobal.ts 1 --lora`. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { encodeAll } from "./app/encodeAll.ts";
import { type EntryContext, runEntry } from "./app/entry.ts";
import { type Model, openModel } from "./app/model.ts";
import { groupByUser, range, readTraining, readUsers, readValidation } from "./app/splits.ts";
import { describeConfig, PIXEL_CAP, parseTrainConfig, type TrainConfig, USER_SPLIT } from "./config.ts";
import { PictureStore } from "./engine/pictures.ts";
import { type RemoteEngine, startEngine } from "./engine/start.ts";
import { evaluateUsers } from "./eval/evaluate.ts";
import { formatSummary } from "./eval/results.ts";
import { trainsVision } from "./model/layers.ts";
import { initialAdapter, loraModules } from "./model/lora.ts";
import { type TrainableSpec, trainablesOf } from "./model/trainables.ts";
import { usableDevice } from "./runtime/probe.ts";
import { readAdapter } from "./train/adapterFiles.ts";
import { writeArtifacts } from "./train/artifacts.ts";
import { batchSource } from "./train/batchSource.ts";
import { ADAMW_DEFAULTS } from "./train/optimizer.ts";
import { stepsPerEpoch } from "./train/plan.ts";
import type { NamedArrays } from "./train/replica.ts";
import { type RunOptions, resumeRun, runTraining } from "./train/run.ts";
import { required, UserError } from "./utils/errors.ts";
import { createLog, type Log } from "./utils/log.ts";

const ANSWERS_AT_ONCE = 8;

export async function main(argv: readonly string[], { signal }: EntryContext): Promise<void> {
  const config = parseTrainConfig(argv);
  refuseUnbuilt(config);
  const log = createLog(config);
  for (const line of describeConfig(config)) log.line(line);
  const device = await usableDevice(required(config.devices[0], "device"), log.warn);
  const model = await openModel({ ...config, pixelCap: PIXEL_CAP, log });
  const { spec, values } = startingPoint(config, model);
  const data = { ...config, log };
  const testUsers = config.users ?? range(USER_SPLIT.test);
  const examples = await readTraining(data, range(USER_SPLIT.train));
  const held = config.eval ? groupByUser(await readUsers(data, testUsers), testUsers) : null;
  const train = await encodeAll(examples, model.processor, { ...config, log });
  const validation = await encodeAll(await readValidation(data, range(USER_SPLIT.validation)), model.processor, {
    ...config,
    log,
  });

  const thread = startEngine({
    modelDir: model.dir,
    device,
    trainable: spec,
    training: { optimizer: { ...ADAMW_DEFAULTS, weightDecay: config.weightDecay }, maxGradNorm: config.maxGradNorm },
  });
  const engine = thread.remote;
  try {
    const store = new PictureStore(engine, model.processor.vision);
    const { imageTokenId, padTokenId, vision } = model.processor;
    const batching = {
      imageTokenId,
      padTokenId,
      mergeSize: vision.mergeSize,
      pictures: store,
      trainsVision: trainsVision(trainablesOf(model.checkpoint, spec)),
    };
    const options = runOptions(config, { model, spec, signal, examples: train.length, log });
    log.line(
      `training ${await parameterCount(engine)} parameters on ${train.length} samples, ${options.trainer.schedule.totalSteps} steps of ${config.batchSize} x ${config.accumulation}`,
    );
    if (values) await engine.setValues(values);
    const resumed = config.resume === null ? null : await resumeRun(engine, config.resume, options);
    await writeArtifacts(join(config.checkpointDir, "artifacts"), model.checkpoint, spec);
    await runTraining(
      engine,
      {
        train: batchSource(train, batching),
        validation:
          validation.length > 0 ? { source: batchSource(validation, batching), examples: validation.length } : null,
      },
      options,
      resumed,
    );
    log.line(`saved in ${config.checkpointDir}`);
    if (held) await evaluate(config, { engine, model, held, log, signal });
  } finally {
    await thread.stop();
  }
}

/** What trains, and the values to start from; null: the checkpoint's own. */
function startingPoint(
  config: TrainConfig,
  { checkpoint }: Model,
): { spec: TrainableSpec; values: NamedArrays | null } {
  if (!config.lora) return { spec: { kind: "full", vision: config.trainVision }, values: null };
  const asked = {
    r: config.loraR,
    alpha: config.loraAlpha,
    dropout: config.loraDropout,
    targetModules: config.loraTargets,
  };
  if (config.adapter === null)
    return {
      spec: { kind: "lora", settings: asked },
      values: initialAdapter(loraModules(checkpoint.architecture, asked), asked.r, config.seed),
    };
  const { settings, values } = readAdapter(config.adapter, checkpoint);
  // its shape and scale are the adapter's own; what it drops while it trains on is this run's affair
  return {
    spec: {
      kind: "lora",
      settings: { ...settings, dropout: config.sources.loraDropout === "flag" ? config.loraDropout : settings.dropout },
    },
    values,
  };
}

function runOptions(
  config: TrainConfig,
  of: { model: Model; spec: TrainableSpec; signal: AbortSignal; examples: number; log: Log },
): RunOptions {
  const { batchSize, accumulation, shuffle, seed, lossNormalization, saveSteps, evalSteps, keep } = config;
  const plan = { examples: of.examples, batchSize, accumulation, shuffle, seed };
  const totalSteps = config.maxSteps ?? config.epochs * stepsPerEpoch(plan);
  const { minPixels, maxPixels } = of.model.processor.vision;
  return {
    runDir: config.checkpointDir,
    saveSteps,
    evalSteps,
    keep,
    trainer: {
      ...plan,
      lossNormalization,
      signal: of.signal,
      schedule: { kind: config.schedule, peak: config.lr, warmupSteps: config.warmupSteps, totalSteps },
    },
    lora: of.spec.kind === "lora" ? of.spec.settings : null,
    source: { checkpoint: of.model.checkpoint, baseModel: of.model.name, pixelBudget: { minPixels, maxPixels } },
    runConfig: { ...config, minPixels, maxPixels, examples: of.examples, totalSteps },
    log: of.log,
  };
}

async function parameterCount(engine: RemoteEngine): Promise<string> {
  const count = [...(await engine.trainableShapes()).values()].reduce(
    (sum, shape) => sum + shape.reduce((size, dim) => size * dim, 1),
    0,
  );
  return count.toLocaleString("en-US");
}

async function evaluate(
  config: TrainConfig,
  of: { engine: RemoteEngine; model: Model; held: Parameters<typeof evaluateUsers>[0]; log: Log; signal: AbortSignal },
): Promise<void> {
  const { engine, model, held, log, signal } = of;
  const { values } = await engine.state();
  const hash = createHash("sha256");
  for (const [name, array] of values) hash.update(name).update(array);
  const identity = {
    trained: hash.digest("hex"),
    model: config.model,
    data: config.data,
    limit: config.limit,
    vision: { ...model.processor.vision },
    parse: config.parse,
    maxNewTokens: config.maxNewTokens,
  };
  // a store of its own: the tower may have been trained since the training pictures went through it
  const answering = { engine, processor: model.processor, pictures: new PictureStore(engine, model.processor.vision) };
  const generation = { maxNewTokens: config.maxNewTokens, stopIds: model.stopIds, padId: model.processor.padTokenId };
  const dir = join(config.out, "global_agent", "test");
  const summary = await evaluateUsers(held, answering, {
    dir,
    identity,
    parse: config.parse,
    generation,
    batchSize: ANSWERS_AT_ONCE,
    log,
    signal,
  });
  console.log(formatSummary(summary));
  log.line(`answers and scores in ${dir}`);
}

/** Flags that are read but whose feature is not there yet: refused, never ignored. */
function refuseUnbuilt({ devices, gradientCheckpointing, baseQuant }: TrainConfig): void {
  const faults = [
    ...(devices.length > 1
      ? [`device: ${devices.length} devices were named; several are not supported yet, name one`]
      : []),
    ...(gradientCheckpointing ? ["--gradient-checkpointing: not supported yet; leave it out"] : []),
    ...(baseQuant !== null ? [`--base-quant ${baseQuant}: not supported yet; leave it out`] : []),
  ];
  if (faults.length > 0) throw new UserError(faults.join("\n"));
}

if (import.meta.filename === process.argv[1]) await runEntry(main, process.argv.slice(2));
