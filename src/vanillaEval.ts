/** Evaluates a model as it is (zero-shot), user by user: `npx tsx src/vanillaEval.ts 0 --u 1 10`. */
import { join } from "node:path";
import { giveAdvice } from "./app/advice.ts";
import { answerUsers } from "./app/answer.ts";
import { inFewBits } from "./app/baseQuant.ts";
import { checkPictures } from "./app/checkPictures.ts";
import { type EntryContext, runEntry } from "./app/entry.ts";
import { openModel } from "./app/model.ts";
import { saveSettings } from "./app/saveSettings.ts";
import { readTest } from "./app/splits.ts";
import { pictureStore, tellPictures } from "./app/visionCache.ts";
import { describeConfig, evalSettingsText, PIXEL_CAP, parseEvalConfig } from "./config.ts";
import { startEngines } from "./engine/start.ts";
import { checkpointIdentity } from "./model/checkpoint.ts";
import { usableDevices } from "./runtime/probe.ts";

export async function main(argv: readonly string[], { signal, openLog }: EntryContext): Promise<void> {
  const config = parseEvalConfig(argv);
  const log = openLog(config, "vanilla_eval");
  for (const line of describeConfig(config)) log.line(line);
  const devices = await usableDevices(config.devices, log.warn);
  const stored = await openModel({ ...config, pixelCap: PIXEL_CAP, log });
  const users = await readTest({ ...config, log }, config.users);
  if (config.data !== null) await checkPictures([...users.values()].flat(), { log, signal });

  const dir = join(config.out, "qwen3_vanilla");
  await saveSettings(dir, evalSettingsText(config));
  const spec = { kind: "none" } as const;
  const use = { kind: config.baseQuant, spec, training: null, answers: true, devices, log, signal };
  giveAdvice(stored.checkpoint, use);
  const { model, quantised } = await inFewBits(stored, use);
  const thread = startEngines({ modelDir: model.dir, quantised, trainable: spec }, devices);
  try {
    const weights = { base: checkpointIdentity(model.checkpoint) };
    const pictures = pictureStore(thread.remote, { ...config, model, spec, device: devices[0], log });
    await answerUsers(thread.remote, model, users, {
      ...config,
      dir,
      weights,
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
