// npm run test:answers: every test sample of the embedded users is answered the same, however it is computed.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, type TestContext, test } from "node:test";
import { generationSettings } from "../../src/app/generation.ts";
import { type MergeOptions, mergeInto } from "../../src/app/merge.ts";
import { openModel } from "../../src/app/model.ts";
import { readTest } from "../../src/app/splits.ts";
import { PIXEL_CAP } from "../../src/config.ts";
import { PictureStore } from "../../src/engine/pictures.ts";
import { type RemoteEngine, startEngine } from "../../src/engine/start.ts";
import { promptOf } from "../../src/eval/answers.ts";
import { continued, type DecoderPrompt } from "../../src/eval/decoding.ts";
import type { GenerationSettings } from "../../src/eval/generator.ts";
import { initialValues } from "../../src/model/initialValues.ts";
import { LLM_PROJECTIONS } from "../../src/model/lora.ts";
import { type TrainableSpec, trainablesOf } from "../../src/model/trainables.ts";
import { CPU } from "../../src/runtime/device.ts";
import type { Adapter } from "../../src/train/adapterFiles.ts";
import { required } from "../../src/utils/errors.ts";
import { createLog } from "../../src/utils/log.ts";
import { randomFrom } from "../../src/utils/random.ts";
import { randomAdapter } from "./randomAdapter.ts";

const NEW_TOKENS = 40; // a whole answer of the task has about 30

const log = createLog({ quiet: true });
const limits = { minPixels: null, maxPixels: null, maxImageTokens: null, maxVideoPixels: null, pixelCap: PIXEL_CAP };
const model = await openModel({ model: null, ...limits, log });
const reading = { data: null, limit: null, format: null, imageRoot: null, allowRemoteImages: false, log };
const examples = [...(await readTest(reading, null)).values()].flat();

const flags = { maxNewTokens: NEW_TOKENS, sample: false, temperature: null, topK: null, topP: null, seed: 3 };
const greedy = generationSettings(model, flags);
const sampled = generationSettings(model, { ...flags, sample: true, temperature: 0.8, topK: 20, topP: 0.9 });

const settings = { r: 4, alpha: 32, dropout: 0, targetModules: [...LLM_PROJECTIONS] };
const adapter = randomAdapter(model.checkpoint, settings, 0.02);

const threads: ReturnType<typeof startEngine>[] = [];
after(() => Promise.all(threads.map((thread) => thread.stop())));
function openEngine(modelDir: string, trainable: TrainableSpec): RemoteEngine {
  const thread = startEngine({ modelDir, device: CPU, trainable });
  threads.push(thread);
  return thread.remote;
}

const engine = openEngine(model.dir, { kind: "lora", settings });
await engine.setParameters("adapter", adapter);

const promptsFrom = (answering: RemoteEngine): Promise<DecoderPrompt[]> => {
  const pictures = new PictureStore(answering, model.processor.vision);
  return Promise.all(examples.map((example) => promptOf(example, { processor: model.processor, pictures })));
};
const prompts = await promptsFrom(engine);

interface How {
  readonly batch: number;
  readonly generation?: GenerationSettings;
  readonly set?: string | null;
  readonly by?: RemoteEngine;
  /** Places of the samples in the order in which they are answered. */
  readonly order?: readonly number[];
}

/** Tokens of every sample's answer, in the order of the samples. */
async function answers({ batch, generation = greedy, set = null, by = engine, order }: How): Promise<number[][]> {
  const places = order ?? prompts.map((_, i) => i);
  const result: number[][] = prompts.map(() => []);
  for (let start = 0; start < places.length; start += batch) {
    const part = places.slice(start, start + batch);
    const made = await by.generate(part.map((i) => required(prompts[i], "prompt")), generation, set); // biome-ignore format: one line
    for (const [k, i] of part.entries()) result[i] = required(made[k], "answer");
  }
  return result;
}

function assertSame(got: readonly number[][], expected: readonly number[][]): void {
  assert.equal(got.length, examples.length);
  const other = got.findIndex((answer, i) => answer.join() !== expected[i]?.join());
  const said = (list: readonly number[][]): string => model.processor.tokenizer.decode(list[other] ?? [], { skipSpecialTokens: false }); // biome-ignore format: one line
  assert.equal(other, -1, `${examples[other]?.id}: ${said(got)}\nexpected: ${said(expected)}`);
}

const shuffled = randomFrom("order").shuffled(prompts.map((_, i) => i));
const base = await answers({ batch: 8 });

test("batches of 1, 5 in another order, 8 and 64 give the same answers", async () => {
  assert.ok(examples.length >= 480, `${examples.length} samples`);
  assert.ok(new Set(prompts.map(({ inputIds }) => inputIds.length)).size > 1, "prompts of unequal length");
  for (const how of [{ batch: 1 }, { batch: 5, order: shuffled }, { batch: 64 }]) assertSame(await answers(how), base);
});

test("drawn answers are the same in batches of 1, 5 in another order and 8", async () => {
  const together = await answers({ batch: 8, generation: sampled });
  assert.notDeepEqual(together, base);
  for (const how of [{ batch: 1 }, { batch: 5, order: shuffled }])
    assertSame(await answers({ ...how, generation: sampled }), together);
});

test("without the cache, all read anew for each token, the same token is the likeliest", async () => {
  for (const [i, prompt] of prompts.entries()) {
    const answer = required(base[i], "answer");
    const logits = await engine.logits(continued(prompt, answer.slice(0, -1)), null); // row t: as if all up to t were read anew
    const width = logits.length / (prompt.inputIds.length + answer.length - 1);
    const likeliest = answer.map((_, made) => {
      const row = logits.subarray((prompt.inputIds.length - 1 + made) * width).subarray(0, width);
      return row.indexOf(row.reduce((max, logit) => Math.max(max, logit)));
    });
    assert.deepEqual(likeliest, answer, examples[i]?.id);
  }
});

const sameMerged = async (adapted: Adapter, by: RemoteEngine, t: TestContext): Promise<void> => {
  const dir = mkdtempSync(join(tmpdir(), "merged-"));
  const merged = async (dtype: MergeOptions["dtype"]): Promise<number[][]> => {
    const out = join(dir, dtype ?? "as-in-base");
    const { signal } = new AbortController();
    await mergeInto({ dir, model, adapter: adapted }, { out, dtype, maxShardSize: 5e9, check: true, log, signal });
    return answers({ batch: 64, by: openEngine(out, { kind: "none" }) });
  };
  try {
    await by.setParameters("adapter", adapted.values);
    const beside = await answers({ batch: 64, by, set: "adapter" });
    const apart = (from: readonly number[][]): number =>
      beside.filter((answer, i) => answer.join() !== from[i]?.join()).length;
    assert.ok(apart(base) > examples.length / 20, `the adapter changes ${apart(base)} answers`);
    assertSame(await merged("float32"), beside);
    const dtypes = new Set([...model.checkpoint.tensors.values()].map(({ dtype }) => dtype));
    t.diagnostic(`${apart(base)} answers are not the base's; ${apart(await merged(null))} change where the merged weights are rounded to ${[...dtypes]}`); // biome-ignore format: one line
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
};

test("a LoRA adapter beside its base and worked into it give the same answers", (t) =>
  sameMerged({ settings, values: adapter }, engine, t));

test("a DoRA adapter beside its base and worked into it give the same answers", (t) => {
  const dora = { ...settings, useDora: true };
  const lengths = initialValues(
    model.checkpoint,
    trainablesOf(model.checkpoint, { kind: "lora", settings: dora }),
    null,
  );
  const stretch = randomFrom("lengths");
  const values = new Map(
    [...lengths].map(([name, array]) => [
      name,
      adapter.get(name) ?? array.map((length) => length * (1 + 0.05 * stretch.normal())),
    ]),
  );
  return sameMerged({ settings: dora, values }, openEngine(model.dir, { kind: "lora", settings: dora }), t);
});
