/**
 * What weights in few bits change: the loss, and every gradient tensor of an adapter, against the weights as stored with
 * arithmetic in float32. The vision tower counts too: its features come from the same few bits.
 *
 *   npx tsx bench/quant.ts                                    the embedded model on samples of its users
 *   npx tsx bench/quant.ts --model DIR --data FILE.jsonl --samples 4
 *   npx tsx bench/quant.ts --model DIR --synthetic            one screenshot and text of random tokens, as bench/step.ts
 *
 * One row a kind and kind of adapter: loss, its change, the cosine of all gradients together, and of the tensors the lowest,
 * the median and how many lie below 0.999.
 */
import yargs from "yargs";
import { EMBEDDED_MODEL } from "../src/app/model.ts";
import { collate, type Encoded, encodeExample } from "../src/collator.ts";
import { readDataset } from "../src/dataset.ts";
import { ensureEmbeddedData } from "../src/embedded/embeddedUsers.ts";
import type { EngineBatch } from "../src/engine/engine.ts";
import { PictureStore } from "../src/engine/pictures.ts";
import { type RemoteEngine, startEngine } from "../src/engine/start.ts";
import { type Checkpoint, openCheckpoint } from "../src/model/checkpoint.ts";
import { initialValues } from "../src/model/initialValues.ts";
import { LLM_PROJECTIONS } from "../src/model/lora.ts";
import { type MemorySettings, memorySettings, NOTHING_SAVED } from "../src/model/memory.ts";
import { KINDS, type QuantKind } from "../src/model/quantised/matrix.ts";
import { partsFor, type QuantPart } from "../src/model/quantised/parts.ts";
import { quantisedFiles } from "../src/model/quantised/store.ts";
import { type TrainableSpec, trainablesOf } from "../src/model/trainables.ts";
import { loadProcessor } from "../src/processor.ts";
import { CPU } from "../src/runtime/device.ts";
import { ADAMW_DEFAULTS } from "../src/train/optimizer.ts";
import type { NamedArrays } from "../src/train/replica.ts";
import { required, UserError } from "../src/utils/errors.ts";
import { randomFrom } from "../src/utils/random.ts";
import { synthetic } from "./step.ts";

/** Sums over some batches. */
export interface Measured {
  readonly lossSum: number;
  readonly tokenCount: number;
  readonly gradients: NamedArrays;
}

export interface Difference {
  /** Relative, of the mean loss. */
  readonly lossChange: number;
  /** Of all gradients as one vector. */
  readonly cosine: number;
  /** By parameter. */
  readonly cosines: ReadonlyMap<string, number>;
}

/** Batches for an engine, whose vision tower computes the features in them. */
export type BatchesFor = (engine: RemoteEngine) => Promise<readonly EngineBatch[]>;

/** An adapter on the language model that already does something: B as after some training. */
export function usedAdapter(checkpoint: Checkpoint, useDora: boolean): { spec: TrainableSpec; values: NamedArrays } {
  const settings = {
    r: 4,
    alpha: 32,
    dropout: 0,
    targetModules: [...LLM_PROJECTIONS],
    ...(useDora ? { useDora } : {}),
  };
  const spec = { kind: "lora", settings } as const;
  const values = new Map(initialValues(checkpoint, trainablesOf(checkpoint, spec), 7));
  for (const [name, array] of values) {
    if (!name.includes("lora_B")) continue;
    const random = randomFrom("used adapter", name);
    values.set(
      name,
      array.map(() => 0.01 * random.normal()),
    );
  }
  return { spec, values };
}

export interface MeasureOptions {
  readonly useDora: boolean;
  readonly batches: BatchesFor;
  readonly roots?: readonly string[];
  /** What is held in few bits. */
  readonly parts?: readonly QuantPart[];
  /** Absent: all is kept. */
  readonly memory?: MemorySettings;
}

/** Turned values change nothing, so none are made. */
const A_STEP = { trains: "text", answers: false, savesMemory: true } as const;

/** Loss and gradients of an adapter over a model. @param kind null: weights as stored */
export async function measure(
  modelDir: string,
  kind: QuantKind | null,
  { useDora, batches, roots, parts, memory = NOTHING_SAVED }: MeasureOptions,
): Promise<Measured> {
  const checkpoint = openCheckpoint(modelDir);
  const { spec, values } = usedAdapter(checkpoint, useDora);
  const made = { parts: parts ?? partsFor(checkpoint.architecture, A_STEP), ...(roots ? { roots } : {}) };
  const quantised = kind && (await quantisedFiles(checkpoint, { kind, ...made }));
  const training = { optimizer: { ...ADAMW_DEFAULTS, weightDecay: 0 }, maxGradNorm: 1, memory };
  const thread = startEngine({ modelDir, device: CPU, quantised, trainable: spec, training });
  const engine = thread.remote;
  try {
    await engine.setValues(values);
    let [lossSum, tokenCount] = [0, 0];
    for (const batch of await batches(engine)) {
      const output = await engine.accumulate(batch, { weight: 1, dropoutSeed: 0 });
      lossSum += output.lossSum;
      tokenCount += output.tokenCount;
    }
    return { lossSum, tokenCount, gradients: await engine.gradients(1) };
  } finally {
    await thread.stop();
  }
}

export function difference(got: Measured, exact: Measured): Difference {
  const total = new Sums();
  const cosines = new Map<string, number>();
  for (const [name, expected] of exact.gradients) {
    const sums = new Sums();
    const values = required(got.gradients.get(name), name);
    expected.forEach((value, i) => {
      sums.add(value, values[i] ?? Number.NaN);
    });
    cosines.set(name, sums.cosine());
    total.merge(sums);
  }
  const mean = ({ lossSum, tokenCount }: Measured): number => lossSum / tokenCount;
  return { lossChange: mean(got) / mean(exact) - 1, cosine: total.cosine(), cosines };
}

/** Of two vectors. */
class Sums {
  #ab = 0;
  #aa = 0;
  #bb = 0;

  add(a: number, b: number): void {
    this.#ab += a * b;
    this.#aa += a * a;
    this.#bb += b * b;
  }

  merge({ parts: [ab, aa, bb] }: Sums): void {
    this.#ab += ab;
    this.#aa += aa;
    this.#bb += bb;
  }

  get parts(): readonly [number, number, number] {
    return [this.#ab, this.#aa, this.#bb];
  }

  cosine(): number {
    return this.#ab / Math.sqrt(this.#aa * this.#bb);
  }
}

/** Samples as training encodes them, one a batch. @param data file of conversations; null: of the embedded users, each from another */
export async function samplesOf(modelDir: string, data: string | null, count: number): Promise<BatchesFor> {
  const processor = loadProcessor(modelDir);
  const examples = data === null ? await embeddedExamples(count) : (await readDataset(data)).slice(0, count);
  const encoded: Encoded[] = [];
  for (const example of examples) encoded.push(await encodeExample(example, processor, { labelMode: "official" }));
  const { imageTokenId, padTokenId, videoTokenId, vision } = processor;
  const options = { imageTokenId, videoTokenId, padTokenId, mergeSize: vision.mergeSize };
  return async (engine) => {
    const pictures = new PictureStore(engine, vision);
    return Promise.all(
      encoded.map(async (one) => {
        const { ids: _, tokenCount: __, images, ...batch } = collate([one], options);
        return { ...batch, pictures: await pictures.features(images) };
      }),
    );
  };
}

async function embeddedExamples(count: number) {
  const folder = await ensureEmbeddedData();
  const users = await Promise.all(Array.from({ length: count }, (_, i) => readDataset(`${folder}/user_${i + 1}.csv`)));
  return users.map((examples, i) => required(examples[(7 * i) % examples.length], `a sample of user ${i + 1}`));
}

const SYNTHETIC = { rows: 1, tokensPerRow: 1103, patches: 0 };

/** One screenshot's worth of random tokens and pixels. */
function syntheticSample(modelDir: string): BatchesFor {
  const sample = { image: { width: 1080, height: 2400 }, promptTokens: 110, answerTokens: 25 };
  const { encoded, pixels } = synthetic(modelDir, sample);
  const { architecture } = openCheckpoint(modelDir);
  const { imageTokenId, vision } = architecture;
  const {
    ids: _,
    images: __,
    tokenCount: ___,
    ...batch
  } = collate([encoded], {
    ...{ imageTokenId, padTokenId: 0, mergeSize: vision.mergeSize },
  });
  return async (engine) => [{ ...batch, pictures: await engine.encodePictures([pixels]) }];
}

const ENOUGH = 0.999;

function rowOf(kind: QuantKind, useDora: boolean, exact: Measured, got: Measured): string[] {
  const { lossChange, cosine, cosines } = difference(got, exact);
  const sorted = [...cosines].sort(([, a], [, b]) => a - b);
  const [name, lowest] = required(sorted[0], "a tensor");
  const median = required(sorted[Math.floor(sorted.length / 2)], "a tensor")[1];
  const below = sorted.filter(([, value]) => !(value >= ENOUGH)).length;
  return [
    kind,
    useDora ? "DoRA" : "LoRA",
    (exact.lossSum / exact.tokenCount).toFixed(4),
    `${(100 * lossChange).toFixed(3)} %`,
    cosine.toFixed(6),
    lowest.toFixed(6),
    median.toFixed(6),
    `${below} of ${sorted.length}`,
    name.replace("base_model.model.model.language_model.", ""),
  ];
}

const HEAD = ["kind", "adapter", "loss", "change", "all", "lowest", "median", "< 0.999", "lowest is"];

function parseArguments(argv: readonly string[]) {
  return yargs([...argv])
    .strict()
    .option("model", { type: "string", default: EMBEDDED_MODEL, describe: "checkpoint folder" })
    .option("data", { type: "string", describe: "conversations; without, of the embedded users" })
    .option("samples", { type: "number", default: 8 })
    .option("synthetic", { type: "boolean", default: false, describe: "one screenshot of random tokens instead" })
    .option("kinds", { array: true, choices: KINDS, default: [...KINDS] })
    .option("dora", { type: "boolean", default: true, describe: "DoRA too" })
    .fail((message, error) => {
      throw error ?? new UserError(`bench/quant: ${message}`);
    })
    .parseSync();
}

export async function main(argv: readonly string[]): Promise<void> {
  const { model, data = null, samples, synthetic: isSynthetic, kinds, dora } = parseArguments(argv);
  const batches = isSynthetic ? syntheticSample(model) : await samplesOf(model, data, samples);
  // layers computed again give equal gradients, and a large sample fits
  const memory = isSynthetic ? memorySettings(openCheckpoint(model).architecture, SYNTHETIC, true) : NOTHING_SAVED;
  const rows: string[][] = [];
  for (const useDora of dora ? [false, true] : [false]) {
    const exact = await measure(model, null, { useDora, batches, memory });
    for (const kind of kinds)
      rows.push(rowOf(kind, useDora, exact, await measure(model, kind, { useDora, batches, memory })));
  }
  for (const row of [HEAD, HEAD.map(() => "---"), ...rows]) console.log(`| ${row.join(" | ")} |`);
}

if (import.meta.filename === process.argv[1]) {
  main(process.argv.slice(2)).catch((error: unknown) => {
    console.error(error instanceof UserError ? error.message : error);
    process.exitCode = error instanceof UserError ? 2 : 1;
  });
}
