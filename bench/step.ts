/**
 * Seconds and peak memory of one LoRA micro-batch, forward and backward, on synthetic pixels and tokens.
 *
 *   npx tsx bench/step.ts --model DIR --image 1080x2400 --prompt-tokens 110 --answer-tokens 25 --steps 3 --json
 *
 * Prints {"seconds": [...], "best", "vision_seconds", "tokens", "image_tokens", "answer_tokens", "peak_gb"}: `seconds` with
 * the vision outputs at hand, as from the second epoch on; `vision_seconds` what computing them costs.
 */
import yargs from "yargs";
import { collate, type Encoded, IGNORE } from "../src/collator.ts";
import type { EngineBatch } from "../src/engine/engine.ts";
import { type RemoteEngine, startEngine } from "../src/engine/start.ts";
import { openCheckpoint } from "../src/model/checkpoint.ts";
import type { PicturePixels } from "../src/model/feeds.ts";
import { LLM_PROJECTIONS } from "../src/model/lora.ts";
import { memorySettings } from "../src/model/memory.ts";
import { KINDS, type QuantKind } from "../src/model/quantised/matrix.ts";
import { partsFor } from "../src/model/quantised/parts.ts";
import { quantisedFiles } from "../src/model/quantised/store.ts";
import { CPU } from "../src/runtime/device.ts";
import { ADAMW_DEFAULTS } from "../src/train/optimizer.ts";
import { UserError } from "../src/utils/errors.ts";
import { randomFrom } from "../src/utils/random.ts";
import { gridOf, imageTokenCount } from "../src/vision/patches.ts";

const MAX_PIXELS = 1280 * 28 * 28; // the original pipeline's budget: a 1080x2400 screen becomes 966 tokens

interface Arguments {
  readonly model: string;
  readonly image: { readonly width: number; readonly height: number };
  readonly promptTokens: number;
  readonly answerTokens: number;
  readonly steps: number;
  readonly baseQuant: QuantKind | null;
  readonly gradientCheckpointing: boolean;
  /** null: as a run would choose. */
  readonly attentionBlocks: number | null;
  readonly json: boolean;
}

function parseArguments(argv: readonly string[]): Arguments {
  const parsed = yargs([...argv])
    .strict()
    .option("model", { type: "string", demandOption: true, describe: "checkpoint folder" })
    .option("image", { type: "string", default: "1080x2400", describe: "size of the picture, WIDTHxHEIGHT" })
    .option("prompt-tokens", { type: "number", default: 110, describe: "text tokens before the answer" })
    .option("answer-tokens", { type: "number", default: 25, describe: "supervised tokens" })
    .option("steps", { type: "number", default: 3, describe: "micro-batches to time" })
    .option("base-quant", { choices: KINDS, describe: "quantised base weights" })
    .option("gradient-checkpointing", { type: "boolean", default: false, describe: "compute layers again" })
    .option("attention-blocks", { type: "number", describe: "blocks of queries, instead of as many as a run takes" })
    .option("json", { type: "boolean", default: false, describe: "one line of JSON" })
    .fail((message, error) => {
      throw error ?? new UserError(`bench/step: ${message}`);
    })
    .parseSync();
  const size = /^(\d+)x(\d+)$/.exec(parsed.image);
  if (!size) throw new UserError(`--image: expected WIDTHxHEIGHT, such as 1080x2400, got "${parsed.image}"`);
  const { baseQuant = null, attentionBlocks = null } = parsed;
  return { ...parsed, baseQuant, attentionBlocks, image: { width: Number(size[1]), height: Number(size[2]) } };
}

/** One conversation of random tokens around one picture of random pixels. */
export function synthetic(
  modelDir: string,
  { image, promptTokens, answerTokens }: Pick<Arguments, "image" | "promptTokens" | "answerTokens">,
): { encoded: Encoded; pixels: PicturePixels; imageTokens: number } {
  const { architecture } = openCheckpoint(modelDir);
  const { patchSize, mergeSize, temporalPatchSize, channels } = architecture.vision;
  const settings = {
    patchSize,
    mergeSize,
    temporalPatchSize,
    imageMean: [0.5, 0.5, 0.5],
    imageStd: [0.5, 0.5, 0.5],
    rescaleFactor: 1 / 255,
    minPixels: 4 * 32 * 32,
    maxPixels: MAX_PIXELS,
  };
  const grid = gridOf(image, settings);
  const imageTokens = imageTokenCount(grid, settings);
  const random = randomFrom("bench");
  const words = Int32Array.from({ length: promptTokens + answerTokens }, () =>
    random.below(architecture.imageTokenId - 10),
  );
  const inputIds = Int32Array.from([0, ...new Array<number>(imageTokens).fill(architecture.imageTokenId), 1, ...words]);
  const labels = inputIds.map((id, t) => (t < inputIds.length - answerTokens ? IGNORE : id));
  const width = channels * temporalPatchSize * patchSize ** 2;
  const pixelValues = Float32Array.from({ length: grid[1] * grid[2] * width }, () => 2 * random.uniform() - 1);
  return {
    encoded: {
      id: "synthetic",
      user: null,
      inputIds,
      labels,
      images: [{ frames: [{ kind: "bytes", name: "synthetic", bytes: new Uint8Array() }], grid }],
    },
    pixels: { grid, pixelValues },
    imageTokens,
  };
}

async function timed<T>(run: () => Promise<T>): Promise<{ seconds: number; value: T }> {
  const start = performance.now();
  const value = await run();
  return { seconds: Math.round(performance.now() - start) / 1000, value };
}

async function measure(
  engine: RemoteEngine,
  options: Arguments,
  { encoded, pixels, imageTokens }: ReturnType<typeof synthetic>,
) {
  const { architecture } = openCheckpoint(options.model);
  const {
    ids: _,
    images: __,
    tokenCount: ___,
    ...tokens
  } = collate([encoded], {
    imageTokenId: architecture.imageTokenId,
    padTokenId: 0,
    mergeSize: architecture.vision.mergeSize,
  });
  await engine.encodePictures([pixels]); // opens the session
  const vision = await timed(() => engine.encodePictures([pixels]));
  await engine.prepareTraining();
  const batch: EngineBatch = { ...tokens, pictures: vision.value };
  const seconds: number[] = [];
  for (let step = 0; step < options.steps; step++)
    seconds.push((await timed(() => engine.accumulate(batch, { weight: 1, dropoutSeed: step }))).seconds);
  return {
    seconds,
    best: Math.min(...seconds),
    vision_seconds: vision.seconds,
    tokens: tokens.length,
    image_tokens: imageTokens,
    answer_tokens: options.answerTokens,
    peak_gb: Math.round((await engine.peakMemory()) / 1e7) / 100,
  };
}

export async function main(argv: readonly string[]): Promise<void> {
  const options = parseArguments(argv);
  const checkpoint = openCheckpoint(options.model);
  const savesMemory = options.gradientCheckpointing;
  const parts = partsFor(checkpoint.architecture, { trains: "text", answers: false, savesMemory });
  const quantised = options.baseQuant && (await quantisedFiles(checkpoint, { kind: options.baseQuant, parts }));
  const sample = synthetic(options.model, options);
  const largest = { rows: 1, tokensPerRow: sample.encoded.inputIds.length, patches: 0 };
  const chosen = memorySettings(checkpoint.architecture, largest, options.gradientCheckpointing);
  const memory = { ...chosen, tokenBlocks: options.attentionBlocks ?? chosen.tokenBlocks };
  const thread = startEngine({
    modelDir: options.model,
    quantised,
    device: CPU,
    trainable: { kind: "lora", settings: { r: 4, alpha: 32, dropout: 0, targetModules: [...LLM_PROJECTIONS] } },
    training: { optimizer: { ...ADAMW_DEFAULTS, weightDecay: 0.01 }, maxGradNorm: 1, memory },
  });
  const result = await measure(thread.remote, options, sample);
  await thread.stop();
  if (options.json) console.log(JSON.stringify(result));
  else
    for (const [name, value] of Object.entries(result))
      console.log(`${name.padEnd(15)} ${Array.isArray(value) ? value.join(" ") : value}`);
}

if (import.meta.filename === process.argv[1]) {
  main(process.argv.slice(2)).catch((error: unknown) => {
    console.error(error instanceof UserError ? error.message : error);
    process.exitCode = error instanceof UserError ? 2 : 1;
  });
}
