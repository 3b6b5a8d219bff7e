/** What is compared: tokens, pictures, the model's outputs and its gradients. */
import { collate, type Encoded, encodeExample, encodePrompt } from "../../src/collator.ts";
import { readDataset } from "../../src/dataset.ts";
import type { EngineOptions } from "../../src/engine/engine.ts";
import { PictureStore } from "../../src/engine/pictures.ts";
import { type RemoteEngine, startEngine } from "../../src/engine/start.ts";
import { decoderPrompt } from "../../src/eval/prompts.ts";
import type { RotaryDtype } from "../../src/model/architecture.ts";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import type { LoraSettings } from "../../src/model/lora.ts";
import { FULL } from "../../src/model/trainables.ts";
import { loadProcessor, type Processor } from "../../src/processor.ts";
import type { Device } from "../../src/runtime/device.ts";
import { readAdapter } from "../../src/train/adapterFiles.ts";
import { batchSource, oneARow } from "../../src/train/batchSource.ts";
import { ADAMW_DEFAULTS } from "../../src/train/optimizer.ts";
import { required } from "../../src/utils/errors.ts";
import { Comparison, type Result } from "./comparison.ts";
import type { Golden } from "./golden.ts";

export type Results = Record<string, Result>;

const VISION = { kind: "magnitude", limit: 1e-5 } as const;

/** Encoded once, used by every subject. */
export interface Prepared {
  readonly device: Device;
  readonly golden: Golden;
  readonly processor: Processor;
  readonly encoded: readonly Encoded[];
  readonly adapter: ReadonlyMap<string, Float32Array>;
  readonly lora: LoraSettings;
  /** Of the reference's outputs and gradients; its traces read the checkpoint anew, in float32. */
  readonly rotaryDtype: RotaryDtype;
}

export async function prepare(golden: Golden, device: Device): Promise<Prepared & { readonly results: Results }> {
  const processor = loadProcessor(golden.modelDir);
  const examples = await readDataset(golden.dataFile);
  const exact = { kind: "exact", limit: 0 } as const;
  const comparisons = Object.fromEntries(
    ["token_ids", "labels_official", "labels_pigg", "position_ids", "image_grid_thw", "prompt_ids"].map((name) => [
      name,
      new Comparison(exact),
    ]),
  );
  const compare = (name: string, where: string, got: ArrayLike<number>, expected: ArrayLike<number>): void =>
    void comparisons[name]?.add(where, got, expected);
  const encoded: Encoded[] = [];
  for (const [k, sample] of golden.samples.entries()) {
    const example = required(examples[k], `example ${k}`);
    const official = await encodeExample(example, processor, { labelMode: "official" });
    const pigg = await encodeExample(example, processor, { labelMode: "pigg" });
    const batch = collate([official], collateOptions(processor));
    compare("token_ids", `${k}`, official.inputIds, sample.input_ids);
    compare("labels_official", `${k}`, official.labels, sample.labels_official);
    compare("labels_pigg", `${k}`, pigg.labels, sample.labels_pigg);
    compare("position_ids", `${k}`, batch.positionIds, sample.position_ids.flat());
    compare(
      "image_grid_thw",
      `${k}`,
      official.images.flatMap(({ grid }) => [...grid]),
      (sample.image_grid_thw ?? []).flat(),
    );
    compare("prompt_ids", `${k}`, (await encodePrompt(example, processor)).inputIds, sample.prompt_ids);
    encoded.push(official);
  }
  const results = Object.fromEntries(
    Object.entries(comparisons).map(([name, comparison]) => [name, comparison.result()]),
  );
  const { values: adapter, settings: lora } = readAdapter(golden.adapterDir, openCheckpoint(golden.modelDir));
  const rotaryDtype = await referenceRotary({ golden, lora, device, processor, encoded });
  return { golden, device, processor, encoded, adapter, lora, rotaryDtype, results };
}

const collateOptions = ({ imageTokenId, padTokenId, vision }: Processor) => ({
  imageTokenId,
  padTokenId,
  mergeSize: vision.mergeSize,
});

interface EngineNeeds {
  readonly weightDecay: number;
  readonly rotaryDtype: RotaryDtype;
}

export async function withEngine<T>(
  { golden, lora, device }: Pick<Prepared, "golden" | "lora" | "device">,
  trainable: "lora" | "full",
  { weightDecay, rotaryDtype }: EngineNeeds,
  use: (engine: RemoteEngine) => Promise<T>,
): Promise<T> {
  const options: EngineOptions = {
    modelDir: golden.modelDir,
    device,
    trainable: trainable === "full" ? FULL : { kind: "lora", settings: lora },
    rotaryDtype,
    training: { optimizer: { ...ADAMW_DEFAULTS, weightDecay }, maxGradNorm: 1 },
  };
  const thread = startEngine(options);
  try {
    return await use(thread.remote);
  } finally {
    await thread.stop();
  }
}

/**
 * A reference model that was cast with `.to(bfloat16).float()` keeps rotary frequencies rounded to bfloat16. Its vision
 * outputs tell: they agree with rounded frequencies and not with exact ones.
 */
async function referenceRotary(
  of: Pick<Prepared, "golden" | "lora" | "device" | "processor" | "encoded">,
): Promise<RotaryDtype> {
  const { golden, processor, encoded } = of;
  const k = encoded.findIndex(({ images }) => images.length > 0);
  if (k < 0) return "float32";
  const agrees = (rotaryDtype: RotaryDtype): Promise<boolean> =>
    withEngine(of, "lora", { weightDecay: 0, rotaryDtype }, async (engine) => {
      const features = await new PictureStore(engine, processor.vision).features(encoded[k]?.images ?? []);
      const got = joined(features.map((f) => f.imageEmbeds));
      return new Comparison(VISION).add(`${k}`, got, golden.tensor(`${k}.vision`)).result().pass;
    });
  return !(await agrees("float32")) && (await agrees("bfloat16")) ? "bfloat16" : "float32";
}

export const sourceOf = ({ processor, encoded }: Prepared, engine: RemoteEngine, trainsVision: boolean) =>
  batchSource(oneARow(encoded), {
    ...collateOptions(processor),
    pictures: new PictureStore(engine, processor.vision),
    trainsVision,
  });

/** Pictures, vision tower, logits, losses and greedy answers of the untrained model. */
export function compareOutputs(prepared: Prepared): Promise<Results> {
  const { golden, processor, encoded } = prepared;
  return withEngine(prepared, "lora", { weightDecay: 0, rotaryDtype: prepared.rotaryDtype }, async (engine) => {
    const pixels = new Comparison({ kind: "absolute", limit: 2e-7 });
    const [vision, deepstack, logits] = [1e-5, 1e-5, 1e-5].map(
      (limit) => new Comparison({ kind: "magnitude", limit }),
    ) as [Comparison, Comparison, Comparison];
    const loss = new Comparison({ kind: "relative", limit: 1e-6 });
    const greedy = new Comparison({ kind: "exact", limit: 0 });
    const pictures = new PictureStore(engine, processor.vision);
    const source = sourceOf(prepared, engine, false);
    for (const [k, sample] of golden.samples.entries()) {
      const { images, inputIds } = required(encoded[k], `sample ${k}`);
      if (images.length > 0) {
        pixels.add(
          `${k}`,
          joined((await pictures.pixels(images)).map((p) => p.pixelValues)),
          golden.tensor(`${k}.pixel_values`),
        );
        const features = await pictures.features(images);
        vision.add(`${k}`, joined(features.map((f) => f.imageEmbeds)), golden.tensor(`${k}.vision`));
        features[0]?.deepstack.forEach((_, d) => {
          deepstack.add(
            `${k}.${d}`,
            joined(features.map((f) => required(f.deepstack[d], "deepstack"))),
            golden.tensor(`${k}.deepstack.${d}`),
          );
        });
      }
      const options = { imageTokenId: processor.imageTokenId, mergeSize: processor.vision.mergeSize, pictures };
      await engine.setParameters("base", zeros(prepared.adapter));
      logits.add(
        `${k}`,
        await engine.logits(await decoderPrompt({ id: `${k}`, user: null, inputIds, images }, options), "base"),
        golden.tensor(`${k}.logits`),
      );
      await engine.setValues(zeros(prepared.adapter));
      const { ids: _, ...batch } = await source([k]);
      const { lossSum, tokenCount } = await engine.evaluateLoss(batch);
      loss.add(`${k}`, [lossSum / tokenCount], [sample.loss]);
      const prompt = await decoderPrompt(
        { id: `${k}`, user: null, inputIds: Int32Array.from(sample.prompt_ids), images },
        options,
      );
      greedy.add(`${k}`, await answer(engine, prompt, sample.greedy.length, "base"), sample.greedy);
    }
    return {
      pixel_values: pixels.result(),
      vision: vision.result(),
      deepstack: deepstack.result(),
      logits: logits.result(),
      loss: loss.result(),
      greedy: greedy.result(),
    };
  });
}

async function answer(
  engine: RemoteEngine,
  prompt: Awaited<ReturnType<typeof decoderPrompt>>,
  maxNewTokens: number,
  parameters: string | null,
): Promise<number[]> {
  const [tokens] = await engine.generate([prompt], { maxNewTokens, stopIds: [], padId: 0 }, parameters);
  return required(tokens, "answer");
}

/** Losses, gradients and an answer with the adapter; then the gradients of all weights. */
export async function compareGradients(prepared: Prepared): Promise<Results> {
  const { golden, processor, encoded, adapter } = prepared;
  const lora = await withEngine(
    prepared,
    "lora",
    { weightDecay: 0, rotaryDtype: prepared.rotaryDtype },
    async (engine) => {
      const source = sourceOf(prepared, engine, false);
      await engine.setValues(adapter);
      const losses = new Comparison({ kind: "relative", limit: 1e-6 });
      for (const [k, expected] of golden.lora.losses.entries()) {
        const { ids: _, ...batch } = await source([k]);
        const { lossSum, tokenCount } = await engine.evaluateLoss(batch);
        losses.add(`${k}`, [lossSum / tokenCount], [expected]);
      }
      const gradients = new Comparison({ kind: "magnitude", limit: 1e-4 });
      addAll(gradients, await gradientsOf(engine, await source([0])), golden.tensors("loragrad."));
      const options = {
        imageTokenId: processor.imageTokenId,
        mergeSize: processor.vision.mergeSize,
        pictures: new PictureStore(engine, processor.vision),
      };
      const images = encoded[0]?.images ?? [];
      const prompt = await decoderPrompt(
        { id: "0", user: null, inputIds: Int32Array.from(golden.samples[0]?.prompt_ids ?? []), images },
        options,
      );
      const greedy = new Comparison({ kind: "exact", limit: 0 }).add(
        "0",
        await answer(engine, prompt, golden.lora.greedy0.length, null),
        golden.lora.greedy0,
      );
      return { lora_loss: losses.result(), lora_gradients: gradients.result(), lora_greedy: greedy.result() };
    },
  );
  const full = await withEngine(
    prepared,
    "full",
    { weightDecay: 0, rotaryDtype: prepared.rotaryDtype },
    async (engine) => {
      const gradients = new Comparison({ kind: "magnitude", limit: 1e-4 });
      return addAll(
        gradients,
        await gradientsOf(engine, await sourceOf(prepared, engine, true)([3])),
        golden.tensors("fullgrad."),
      );
    },
  );
  return { ...lora, full_gradients: full.result() };
}

/** Gradients of the mean loss of one batch. */
async function gradientsOf(
  engine: RemoteEngine,
  { ids: _, ...batch }: Awaited<ReturnType<ReturnType<typeof sourceOf>>>,
): Promise<ReadonlyMap<string, Float32Array>> {
  const { tokenCount } = await engine.accumulate(batch, { weight: 1, dropoutSeed: 0 });
  const gradients = await engine.gradients(tokenCount);
  await engine.clearGradients();
  return gradients;
}

export function addAll(
  comparison: Comparison,
  got: ReadonlyMap<string, Float32Array>,
  expected: ReadonlyMap<string, Float32Array>,
): Comparison {
  for (const [name, values] of expected) comparison.add(name, got.get(name) ?? [], values);
  for (const name of got.keys()) if (!expected.has(name)) comparison.add(`${name} is not in the reference`, [], [0]);
  return comparison;
}

const zeros = (adapter: ReadonlyMap<string, Float32Array>): ReadonlyMap<string, Float32Array> =>
  new Map([...adapter].map(([name, values]) => [name, new Float32Array(values.length)]));

function joined(parts: readonly Float32Array[]): Float32Array {
  return Float32Array.from(parts.flatMap((part) => [...part]));
}
