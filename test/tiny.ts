// The tiny checkpoints, their conversations and engines on them, for tests of training and answering.
import { after } from "node:test";
import { type Batch, collate, collateRows, type Encoded, encodeExample } from "../src/collator.ts";
import { readDataset } from "../src/dataset.ts";
import { Engine, type EngineBatch } from "../src/engine/engine.ts";
import { PictureStore } from "../src/engine/pictures.ts";
import type { RemoteEngine } from "../src/engine/start.ts";
import { LLM_PROJECTIONS } from "../src/model/lora.ts";
import { type MemorySettings, NOTHING_SAVED } from "../src/model/memory.ts";
import type { TrainableSpec } from "../src/model/trainables.ts";
import { loadProcessor, type Processor } from "../src/processor.ts";
import { CPU, type Device } from "../src/runtime/device.ts";
import { ADAMW_DEFAULTS } from "../src/train/optimizer.ts";
import type { NamedArrays } from "../src/train/replica.ts";
import type { BatchSource } from "../src/train/trainer.ts";
import { required } from "../src/utils/errors.ts";
import { readFloat32, readHeader } from "../src/utils/safetensors.ts";

export interface Tiny {
  readonly dir: string;
  readonly processor: Processor;
  readonly encoded: readonly Encoded[];
}

/** @param name folder of test/fixtures with a model and conversations */
export async function loadTiny(name = "tiny-qwen3vl"): Promise<Tiny> {
  const dir = `test/fixtures/${name}`;
  const processor = loadProcessor(`${dir}/model`);
  const examples = await readDataset(`${dir}/data/train.jsonl`);
  const encoded = await Promise.all(
    examples.map((example) => encodeExample(example, processor, { labelMode: "official" })),
  );
  return { dir, processor, encoded };
}

export const adapterOf = ({ dir }: Tiny): NamedArrays =>
  new Map(
    [...readHeader(`${dir}/adapter_init/adapter_model.safetensors`).tensors].map(([name, entry]) => [
      name,
      readFloat32(entry),
    ]),
  );

export const loraSpec = ({ dropout = 0, r = 4 } = {}): TrainableSpec => ({
  kind: "lora",
  settings: { r, alpha: 8 * r, dropout, targetModules: [...LLM_PROJECTIONS] },
});

const opened: Engine[] = [];
after(() => Promise.all(opened.map((engine) => engine.release())));

interface EngineChoices {
  readonly device?: Device;
  readonly isTraining?: boolean;
  readonly weightDecay?: number;
  readonly emaDecay?: number | null;
  readonly memory?: MemorySettings;
}

/** An engine in this thread, under the face that it has from another one; released when the tests are done. */
export function openEngine(
  { dir }: Tiny,
  trainable: TrainableSpec,
  { device = CPU, isTraining = true, weightDecay = 0, emaDecay = null, memory = NOTHING_SAVED }: EngineChoices = {},
): RemoteEngine {
  const optimizer = { ...ADAMW_DEFAULTS, weightDecay };
  const engine = new Engine({
    modelDir: `${dir}/model`,
    device,
    trainable,
    ...(isTraining ? { training: { optimizer, maxGradNorm: 1, emaDecay, memory } } : {}),
  });
  opened.push(engine);
  return new Proxy(engine, {
    get: (target, method) =>
      method === "then"
        ? undefined
        : async (...args: unknown[]) => Reflect.apply(Reflect.get(target, method), target, args),
  }) as unknown as RemoteEngine;
}

export const collateOptions = ({ processor }: Tiny) => ({
  imageTokenId: processor.imageTokenId,
  padTokenId: processor.padTokenId,
  mergeSize: processor.vision.mergeSize,
});

export interface BatchMaker {
  /** One example a row. */
  readonly batch: (indices: readonly number[]) => Promise<EngineBatch>;
  /** Rows of several documents. */
  readonly packed: (rows: readonly (readonly number[])[]) => Promise<EngineBatch>;
  readonly source: BatchSource;
}

/** Batches as training makes them. */
export function batchesOf(tiny: Tiny, engine: RemoteEngine, trainsVision = false): BatchMaker {
  const store = new PictureStore(engine, tiny.processor.vision);
  const of = (index: number): Encoded => required(tiny.encoded[index], `example ${index}`);
  const ready = async ({ batchSize, length, inputIds, labels, positionIds, segmentIds, imageRows, images }: Batch) => ({
    ...{ batchSize, length, inputIds, labels, positionIds, segmentIds, imageRows },
    pictures: await (trainsVision ? store.pixels(images) : store.features(images)),
  });
  const options = collateOptions(tiny);
  return {
    batch: (indices) => ready(collate(indices.map(of), options)),
    packed: (rows) =>
      ready(
        collateRows(
          rows.map((row) => row.map(of)),
          options,
        ),
      ),
    async source(indices) {
      const batch = collate(indices.map(of), options);
      return { ...(await ready(batch)), ids: batch.ids };
    },
  };
}

/** The largest difference, as a share of the tensor's largest number (or of a thousandth of the largest of all), and where. */
export function largestDifference(got: NamedArrays, expected: NamedArrays): { share: number; at: string } {
  const magnitude = (values: Float32Array): number => values.reduce((max, v) => Math.max(max, Math.abs(v)), 0);
  const floor = 1e-3 * Math.max(...[...expected.values()].map(magnitude));
  let worst = { share: 0, at: "" };
  for (const [name, values] of expected) {
    const other = required(got.get(name), name);
    const scale = Math.max(magnitude(values), floor);
    values.forEach((value, i) => {
      const share = Math.abs((other[i] ?? Number.NaN) - value) / scale;
      if (!(share <= worst.share)) worst = { share, at: `${name}[${i}]` };
    });
  }
  return worst;
}
