/** Fine-tunes one model on the training users, then evaluates it on the test users: `npx tsx src/finetuneGlobal.ts 1 --lora`. */
import { join } from "node:path";
import { giveAdvice } from "./app/advice.ts";
import { answerUsers } from "./app/answer.ts";
import { inFewBits } from "./app/baseQuant.ts";
import { checkPictures } from "./app/checkPictures.ts";
import { encodeAll } from "./app/encodeAll.ts";
import { type EntryContext, runEntry } from "./app/entry.ts";
import { openModel } from "./app/model.ts";
import { saveSettings } from "./app/saveSettings.ts";
import { testSavedAdapter } from "./app/selfTest.ts";
import { introduction } from "./app/shownSamples.ts";
import { readSplits, refuseOverlap, testUsers } from "./app/splits.ts";
import { startingPoint } from "./app/startingPoint.ts";
import { describeRun, fingerprint, memoryOf, packed, refuseUnmeasured, runOptions } from "./app/trainingRun.ts";
import { SCORE_NAMES, samplesToScore, validationScores } from "./app/validationScores.ts";
import { pictureStore, tellPictures } from "./app/visionCache.ts";
import { describeConfig, PIXEL_CAP, parseTrainConfig, trainSettingsText } from "./config.ts";
import { startEngines } from "./engine/start.ts";
import { checkpointIdentity } from "./model/checkpoint.ts";
import { trainsVision } from "./model/layers.ts";
import { trainablesOf } from "./model/trainables.ts";
import { usableDevices } from "./runtime/probe.ts";
import { writeArtifacts } from "./train/artifacts.ts";
import { batchSource, oneARow } from "./train/batchSource.ts";
import { prepareRunFolder } from "./train/checkpointFolders.ts";
import { ADAMW_DEFAULTS } from "./train/optimizer.ts";
import { resumeRun } from "./train/resume.ts";
import { runTraining } from "./train/run.ts";
import { copyRunRecord } from "./train/runRecord.ts";

export async function main(argv: readonly string[], { signal, openLog }: EntryContext): Promise<void> {
  const config = parseTrainConfig(argv);
  const log = openLog(config, `finetune_global_${config.lora ? "lora" : "full"}`);
  for (const line of describeConfig(config)) log.line(line);

  const devices = await usableDevices(config.devices, log.warn);
  const stored = await openModel({ ...config, pixelCap: PIXEL_CAP, log });
  const { spec, values } = startingPoint(config, stored.checkpoint);

  const data = { ...config, log, signal };
  const splits = await readSplits(data);
  const test = config.eval ? testUsers(splits.test, data) : null;
  if (!config.allowOverlap) await refuseOverlap(splits);
  const train = await encodeAll(splits.train, stored.processor, { ...data, split: "training" });
  const validation = await encodeAll(splits.validation, stored.processor, { ...data, split: "validation" });
  if (config.data !== null) await checkPictures([...splits.train, ...splits.validation, ...splits.test], data);

  const toScore = samplesToScore(splits.validation, config);
  refuseUnmeasured(config, validation.length, ["eval_loss", ...(toScore.length > 0 ? SCORE_NAMES : [])]);
  await prepareRunFolder(config.checkpointDir);
  const rows = config.packing ? packed(train) : oneARow(train);

  const optimizer = { ...ADAMW_DEFAULTS, optim: config.optim, weightDecay: config.weightDecay };
  const memory = memoryOf(config, { model: stored, spec }, [...rows, ...oneARow(validation)]);
  const training = { optimizer, maxGradNorm: config.maxGradNorm, emaDecay: config.emaDecay, memory };
  const answers = config.eval || toScore.length > 0;
  const use = { kind: config.baseQuant, spec, training: config, answers, devices, log, signal };
  giveAdvice(stored.checkpoint, use);
  const { model, quantised } = await inFewBits(stored, use);
  const thread = startEngines({ modelDir: model.dir, quantised, trainable: spec, training }, devices);
  const engine = thread.remote;
  try {
    const options = {
      ...runOptions(config, { model, spec, signal, rows, log }),
      introduction: () => introduction(splits.train, { settings: config, modelDir: model.dir }),
    };
    log.line(await describeRun(engine, { rows }, options));
    if (values) await engine.setValues(values);
    const resuming = { ...options, anyway: config.resumeAnyway };
    const resumed = config.resume === null ? null : await resumeRun(engine, config.resume, resuming);
    await saveSettings(config.checkpointDir, trainSettingsText(config));
    await writeArtifacts(join(config.checkpointDir, "artifacts"), model.checkpoint, spec, optimizer);

    const { imageTokenId, videoTokenId, padTokenId, vision } = model.processor;
    const batching = {
      ...{ imageTokenId, videoTokenId, padTokenId, mergeSize: vision.mergeSize },
      pictures: pictureStore(engine, { ...config, model, spec, device: devices[0], log }),
      trainsVision: trainsVision(trainablesOf(model.checkpoint, spec)),
    };
    const batches = { train: batchSource(rows, batching), validation: batchSource(oneARow(validation), batching) };
    const frozen = batching.trainsVision ? null : batching.pictures;
    const scoring = { engine, model, settings: config, pictures: frozen, signal };
    const scores = toScore.length === 0 ? null : () => validationScores(toScore, scoring);
    await runTraining(engine, { ...batches, validationExamples: validation.length, scores }, options, resumed);
    if (frozen) tellPictures(frozen, log);
    await engine.releaseTraining();
    if (spec.kind === "lora") await testSavedAdapter(config.checkpointDir, engine, { model, log });
    log.line(`saved in ${config.checkpointDir}`);
    await copyRunRecord(config.checkpointDir, join(config.out, "global_agent"));

    if (!test) return;
    const weights = { base: checkpointIdentity(model.checkpoint), trained: await fingerprint(engine) };
    const dir = join(config.out, "global_agent", "test");
    await answerUsers(engine, model, test, { ...config, dir, weights, pictures: frozen, log, signal });
  } finally {
    await thread.stop();
  }
}

if (import.meta.filename === process.argv[1]) await runEntry(main, process.argv.slice(2));
