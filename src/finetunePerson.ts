/** Trains an agent for each fold of each test user on top of the global one, and scores it: `npx tsx src/finetunePerson.ts 1`. */
import { join } from "node:path";
import { giveAdvice } from "./app/advice.ts";
import { inFewBits, quantOfRun } from "./app/baseQuant.ts";
import { checkPictures } from "./app/checkPictures.ts";
import { type EntryContext, runEntry } from "./app/entry.ts";
import { openModel } from "./app/model.ts";
import { planAgents } from "./app/person/agents.ts";
import { findBase, refuseSeen, startingAgent } from "./app/person/base.ts";
import { fitAgents } from "./app/person/fit.ts";
import { standings } from "./app/person/standing.ts";
import { writeSummaries } from "./app/person/summaries.ts";
import { saveSettings } from "./app/saveSettings.ts";
import { readTest } from "./app/splits.ts";
import { memoryOf } from "./app/trainingRun.ts";
import { pictureStore, tellPictures } from "./app/visionCache.ts";
import { describeConfig, PIXEL_CAP, parsePersonConfig, personSettingsText } from "./config.ts";
import { startEngines } from "./engine/start.ts";
import { formatPersonal } from "./eval/foldSummary.ts";
import { usableDevices } from "./runtime/probe.ts";
import { ADAMW_DEFAULTS } from "./train/optimizer.ts";

export async function main(argv: readonly string[], { signal, openLog }: EntryContext): Promise<void> {
  const config = parsePersonConfig(argv);
  const log = openLog(config, "finetune_person");
  for (const line of describeConfig(config)) log.line(line);

  const devices = await usableDevices(config.devices, log.warn);
  const base = findBase({ ...config, log });
  const stored = await openModel({ ...config, ...base.limits, model: base.model, pixelCap: PIXEL_CAP, log });
  const { spec, values } = startingAgent(config, base, stored.checkpoint);
  const settings = { ...config, baseQuant: quantOfRun(base.dir, config.baseQuant) };

  const data = { ...config, log, signal };
  const users = await readTest(data, config.users);
  if (!config.allowOverlap) refuseSeen(base, [...users.keys()], config);
  if (config.data !== null) await checkPictures([...users.values()].flat(), data);
  const use = { kind: settings.baseQuant, spec, training: config, answers: true, devices, log, signal };
  giveAdvice(stored.checkpoint, use);
  const { model, quantised } = await inFewBits(stored, use);
  const answersDir = join(config.out, "personal");
  const planning = { model, spec, start: values, answersDir, encoding: data, log, signal };
  const agents = await standings(await planAgents(users, settings, planning), { ...config, log });
  const kept = [...agents.values()].filter(({ at }) => at === "scored").length;
  if (kept > 0) log.line(`${kept} of ${agents.size} agents are done already and kept`);

  const optimizer = { ...ADAMW_DEFAULTS, optim: config.optim, weightDecay: config.weightDecay };
  const memory = memoryOf(
    config,
    { model, spec },
    [...agents.keys()].flatMap(({ rows }) => rows),
  );
  const training = { optimizer, maxGradNorm: config.maxGradNorm, memory };
  const thread = startEngines({ modelDir: model.dir, quantised, trainable: spec, training }, devices);
  try {
    await saveSettings(answersDir, personSettingsText(config));
    const { saveAdapters } = config;
    const engine = thread.remote;
    const pictures = pictureStore(engine, { ...config, model, spec, device: devices[0], log });
    const fitting = { engine, model, spec, pictures, start: values, answering: data, saveAdapters, log, signal };
    const summary = await writeSummaries(answersDir, fitAgents(agents, fitting), config.folds);
    tellPictures(pictures, log);
    log.result(formatPersonal(summary));
    log.line(`answers and scores in ${answersDir}${saveAdapters ? `, adapters in ${config.checkpointDir}` : ""}`);
  } finally {
    await thread.stop();
  }
}

if (import.meta.filename === process.argv[1]) await runEntry(main, process.argv.slice(2));
