/** Evaluates a run, a checkpoint, an adapter or a model, user by user: `npx tsx src/evalCheckpoint.ts 0 checkpoints/global_agent_lora`. */
import { join } from "node:path";
import { giveAdvice } from "./app/advice.ts";
import { answerUsers } from "./app/answer.ts";
import { inFewBits, quantOfRun } from "./app/baseQuant.ts";
import { checkPictures } from "./app/checkPictures.ts";
import { type EntryContext, runEntry } from "./app/entry.ts";
import { saveSettings } from "./app/saveSettings.ts";
import { readTest } from "./app/splits.ts";
import { nameOf, openTarget } from "./app/target.ts";
import { digestOf } from "./app/trainingRun.ts";
import { pictureStore, tellPictures } from "./app/visionCache.ts";
import { describeConfig, PIXEL_CAP, parseSavedConfig, savedEvalSettingsText } from "./config.ts";
import { startEngines } from "./engine/start.ts";
import { checkpointIdentity } from "./model/checkpoint.ts";
import { usableDevices } from "./runtime/probe.ts";

const ADAPTER = "adapter";

export async function main(argv: readonly string[], { signal, openLog }: EntryContext): Promise<void> {
  const config = parseSavedConfig(argv);
  const log = openLog(config, "eval_checkpoint");
  for (const line of describeConfig(config)) log.line(line);
  const devices = await usableDevices(config.devices, log.warn);
  const { dir: saved, model: stored, adapter } = await openTarget(config.path, { ...config, pixelCap: PIXEL_CAP, log });
  const users = await readTest({ ...config, log }, config.users);
  if (config.data !== null) await checkPictures([...users.values()].flat(), { log, signal });

  const dir = join(config.out, config.name ?? nameOf(config.path));
  await saveSettings(dir, savedEvalSettingsText(config));
  const spec = adapter ? ({ kind: "lora", settings: adapter.settings } as const) : ({ kind: "none" } as const);
  const use = { kind: quantOfRun(saved, config.baseQuant), spec, training: null, answers: true, devices, log, signal };
  giveAdvice(stored.checkpoint, use);
  const { model, quantised } = await inFewBits(stored, use);
  const thread = startEngines({ modelDir: model.dir, quantised, trainable: spec }, devices);
  try {
    if (adapter) await thread.remote.setParameters(ADAPTER, adapter.values);
    const parameterSet = adapter && ADAPTER;
    const pictures = pictureStore(thread.remote, { ...config, model, spec, device: devices[0], log, parameterSet });
    await answerUsers(thread.remote, model, users, {
      ...config,
      dir,
      weights: { base: checkpointIdentity(model.checkpoint), trained: adapter && digestOf(adapter.values) },
      parameterSet,
      pictures,
      log,
      signal,
    });
    tellPictures(pictures, log);
  } finally {
    await thread.stop();
  }
}

if (import.meta.filename === process.argv[1]) await runEntry(main, process.argv.slice(2));
