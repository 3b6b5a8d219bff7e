/** Times optimizer steps on several devices, from the start of their workers on: `npx tsx bench/devices.ts cpu,cpu [STEPS]`, one line of JSON. */
import { collate, encodeExample } from "../src/collator.ts";
import { readDevices } from "../src/config/devices.ts";
import { readDataset } from "../src/dataset.ts";
import { PictureStore } from "../src/engine/pictures.ts";
import { type RemoteEngine, startEngines } from "../src/engine/start.ts";
import { LLM_PROJECTIONS } from "../src/model/lora.ts";
import { loadProcessor, type Processor } from "../src/processor.ts";
import { usableDevices } from "../src/runtime/probe.ts";
import { ADAMW_DEFAULTS } from "../src/train/optimizer.ts";
import { medianOf } from "../src/train/spikes.ts";

const MODEL_DIR = "assets/tiny-qwen3vl";
const SAMPLES = "test/fixtures/tiny-qwen3vl/data/train.jsonl";
/** Micro-batches of a step, each of all eight samples, with pictures and without. */
const ACCUMULATION = 4;

async function microBatch(engine: RemoteEngine, processor: Processor) {
  const examples = await readDataset(SAMPLES);
  const encoded = await Promise.all(examples.map((example) => encodeExample(example, processor, { labelMode: "official" }))); // biome-ignore format: one line
  const { imageTokenId, padTokenId, vision } = processor;
  const { ids: _, images, ...batch } = collate(encoded, { imageTokenId, padTokenId, mergeSize: vision.mergeSize });
  return { ...batch, pictures: await new PictureStore(engine, vision).features(images) };
}

/** Seconds of each step, the first of them from the start of the workers. */
async function measure(engine: RemoteEngine, processor: Processor, steps: number): Promise<number[]> {
  let start = performance.now();
  const batch = await microBatch(engine, processor);
  const seconds: number[] = [];
  for (let step = 1; step <= steps; step++) {
    const run = () => engine.accumulate(batch, { weight: 1, dropoutSeed: step });
    const outputs = await Promise.all(Array.from({ length: ACCUMULATION }, run));
    const total = outputs.reduce((sum, { tokenCount }) => sum + tokenCount, 0);
    await engine.update({ total, learningRate: 1e-4, step });
    seconds.push((performance.now() - start) / 1000);
    start = performance.now();
  }
  return seconds;
}

const [word = "cpu", steps = "20"] = process.argv.slice(2);
const processor = loadProcessor(MODEL_DIR);
const devices = await usableDevices(readDevices(word), console.error);
const settings = { r: 4, alpha: 32, dropout: 0, targetModules: [...LLM_PROJECTIONS] };
const training = { optimizer: { ...ADAMW_DEFAULTS, weightDecay: 0 }, maxGradNorm: 1 };
const engines = startEngines({ modelDir: MODEL_DIR, trainable: { kind: "lora", settings }, training }, devices);
try {
  const [first = Number.NaN, ...others] = await measure(engines.remote, processor, Number(steps));
  const rounded = (seconds: number): number => Math.round(1000 * seconds) / 1000;
  const result = { first_step_seconds: rounded(first), median_step_seconds: rounded(medianOf(others)) };
  console.log(JSON.stringify({ devices: word, ...result, seconds: others.map(rounded) }));
} finally {
  await engines.stop();
}
