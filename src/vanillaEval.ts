/** Evaluates a model as it is (zero-shot), user by user: `npx tsx src/vanillaEval.ts 0 --u 1 10`. */
import { join } from "node:path";
import { answerUsers } from "./app/answer.ts";
import { inFewBits } from "./app/baseQuant.ts";
import { checkPictures } from "./app/checkPictures.ts";
import { type EntryContext, runEntry } from "./app/entry.ts";
import { openModel } from "./app/model.ts";
import { saveSettings } from "./app/saveSettings.ts";
import { readTest } from "./app/splits.ts";
import { describeConfig, evalSettingsText, PIXEL_CAP, parseEvalConfig } from "./config.ts";
import { startEngine } from "./engine/start.ts";
import { checkpointIdentity } from "./model/checkpoint.ts";
import { usableDevice } from "./runtime/probe.ts";
import { required, UserError } from "./utils/errors.ts";

export async function main(argv: readonly string[], { signal, openLog }: EntryContext): Promise<void> {
  const config = parseEvalConfig(argv);
  if (config.devices.length > 1)
    throw new UserError(`device: ${config.devices.length} devices were named; several are not supported yet, name one`);
  const log = openLog(config, "vanilla_eval");
  for (const line of describeConfig(config)) log.line(line);
  const device = await usableDevice(required(config.devices[0], "device"), log.warn);
  const stored = await openModel({ ...config, pixelCap: PIXEL_CAP, log });
  const users = await readTest({ ...config, log }, config.users);
  if (config.data !== null) await checkPictures([...users.values()].flat(), { log, signal });

  const dir = join(config.out, "qwen3_vanilla");
  await saveSettings(dir, evalSettingsText(config));
  const spec = { kind: "none" } as const;
  const use = { kind: config.baseQuant, spec, trains: false, answers: true, log };
  const { model, quantised } = await inFewBits(stored, use);
  const thread = startEngine({ modelDir: model.dir, device, quantised, trainable: spec });
  try {
    const weights = { base: checkpointIdentity(model.checkpoint) };
    await answerUsers(thread.remote, model, users, {
      ...config,
      dir,
      weights,
      log,
      signal,
    });
  } finally {
    await thread.stop();
  }
}

if (import.meta.filename === process.argv[1]) await runEntry(main, process.argv.slice(2));
