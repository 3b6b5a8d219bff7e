/**
 * Follows one sample from its row to a weight change, and prints what each stage made of it (docs/architecture.md).
 *
 *   npx tsx scripts/traceSample.ts test/fixtures/tiny-qwen3vl 1
 *
 * The folder is one that scripts/parity.ts takes; the number is a row of its data, from 1.
 */
import { join } from "node:path";
import { type Batch, collate, type Encoded, encodeExample, IGNORE } from "../src/collator.ts";
import { readDataset } from "../src/dataset.ts";
import { PictureStore } from "../src/engine/pictures.ts";
import { type RemoteEngine, startEngine } from "../src/engine/start.ts";
import { openCheckpoint } from "../src/model/checkpoint.ts";
import { featureFeeds, tokenFeeds } from "../src/model/feeds.ts";
import { loadProcessor, type Processor } from "../src/processor.ts";
import { CPU } from "../src/runtime/device.ts";
import type { Feeds } from "../src/runtime/tensor.ts";
import { showTokens } from "../src/text/showTokens.ts";
import { readAdapter } from "../src/train/adapterFiles.ts";
import { batchSource } from "../src/train/batchSource.ts";
import { lossFeeds } from "../src/train/loss.ts";
import { ADAMW_DEFAULTS, clipFactor, norm } from "../src/train/optimizer.ts";
import { required, UserError } from "../src/utils/errors.ts";

const RATE = 1e-3;
const MAX_GRAD_NORM = 1;

const say = (stage: string, text: string): void => console.log(`${stage.padEnd(11)} ${text}`);

/** Equal neighbours as `value x count`: an image token stands there once for each block of its picture. */
function runs(values: ArrayLike<number>): string {
  const parts: { value: number; count: number }[] = [];
  for (const value of Array.from(values)) {
    const last = parts.at(-1);
    if (last?.value === value) last.count++;
    else parts.push({ value, count: 1 });
  }
  return parts.map(({ value, count }) => (count === 1 ? `${value}` : `${value} x${count}`)).join(", ");
}

function showEncoded(encoded: Encoded, { tokenizer, imageTokenId }: Processor): void {
  const { inputIds, labels, images } = encoded;
  say("Encoded", `inputIds [${inputIds.length}] ${runs(inputIds)}`);
  say("", `labels   [${labels.length}] ${runs(labels)}`);
  for (const { grid } of images) say("", `grid [t, h, w] = [${grid}]`);
  const text = showTokens({ inputIds, labels }, { tokenizer, imageTokenId, ignore: IGNORE, isColoured: false });
  for (const line of text.split("\n")) say("", `| ${line}`);
}

function showBatch({ batchSize, length, positionIds, segmentIds, imageRows, tokenCount }: Batch): void {
  say("Batch", `B = ${batchSize}, T = ${length}, tokenCount = ${tokenCount}`);
  for (const [axis, name] of ["time", "row", "column"].entries())
    say("", `positionIds, ${name}: ${runs(positionIds.subarray(axis * length, (axis + 1) * length))}`);
  say("", `segmentIds: ${runs(segmentIds)}`);
  say("", `imageRows: ${imageRows.join(", ")}`);
}

function showFeeds(feeds: Feeds): void {
  for (const [i, [name, { dtype, dims }]] of Object.entries(feeds).entries())
    say(i === 0 ? "Feeds" : "", `${name.padEnd(14)} ${dtype} [${dims}]`);
}

/** One step on this micro-batch alone: loss and gradients, then AdamW's first update. */
async function step(engine: RemoteEngine, batch: Parameters<RemoteEngine["accumulate"]>[0]): Promise<void> {
  const names = [...(await engine.trainableShapes()).keys()];
  const shown = required(
    names.find((name) => name.includes("lora_B")),
    "an adapter's B",
  );
  const { lossSum, tokenCount } = await engine.accumulate(batch, { weight: 1, dropoutSeed: 0 });
  say("StepOutput", `loss_sum ${lossSum}, token_count ${tokenCount}, mean ${lossSum / tokenCount}`);
  const gradient = required((await engine.gradients(tokenCount)).get(shown), shown);
  const before = required((await engine.state()).values.get(shown), shown);
  say("gradients", shown);
  say("", `[${gradient.length} elements] norm ${norm(gradient)}, the first ${gradient[0]}`);
  const gradNorm = await engine.update({ total: tokenCount, learningRate: RATE, step: 1 });
  say("", `norm of all ${gradNorm}, clipped by ${clipFactor(gradNorm, MAX_GRAD_NORM)}`);
  const after = required((await engine.state()).values.get(shown), shown);
  say("AdamW", `rate ${RATE}, step 1: its first element goes from ${before[0]} to ${after[0]}`);
}

async function trace(dir: string, row: number): Promise<void> {
  const modelDir = join(dir, "model");
  const processor = loadProcessor(modelDir);
  const examples = await readDataset(join(dir, "data", "train.jsonl"));
  const example = examples[row - 1];
  if (!example) throw new UserError(`row ${row}: expected one from 1 to ${examples.length}`);
  say("Example", `${example.id}, turns ${example.messages.map(({ role }) => role).join(", ")}`);
  const encoded = await encodeExample(example, processor, { labelMode: "official" });
  showEncoded(encoded, processor);
  const options = { ...processor, mergeSize: processor.vision.mergeSize };
  showBatch(collate([encoded], options));

  const checkpoint = openCheckpoint(modelDir);
  const { settings, values } = readAdapter(join(dir, "adapter_init"), checkpoint);
  const training = { optimizer: { ...ADAMW_DEFAULTS, weightDecay: 0.01 }, maxGradNorm: MAX_GRAD_NORM };
  const thread = startEngine({ modelDir, device: CPU, trainable: { kind: "lora", settings }, training });
  try {
    await thread.remote.setValues(values);
    const pictures = new PictureStore(thread.remote, processor.vision);
    const source = batchSource([[encoded]], { ...options, pictures, trainsVision: false });
    const { ids: _, ...batch } = await source([0]);
    showFeeds({
      ...tokenFeeds(batch),
      ...lossFeeds(batch.labels, batch.length),
      ...featureFeeds(checkpoint.architecture, await pictures.features(encoded.images)),
    });
    await step(thread.remote, batch);
  } finally {
    await thread.stop();
  }
}

async function main([dir, row = "1"]: readonly string[]): Promise<void> {
  if (!dir) throw new UserError("usage: npx tsx scripts/traceSample.ts DIR [ROW]    DIR as test/fixtures/tiny-qwen3vl");
  await trace(dir, Number(row));
}

if (import.meta.filename === process.argv[1]) {
  main(process.argv.slice(2)).catch((error: unknown) => {
    console.error(error instanceof UserError ? error.message : error);
    process.exitCode = error instanceof UserError ? 2 : 1;
  });
}
