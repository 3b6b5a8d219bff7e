// Answers of weights in few bits: what is rounded may turn on the last digit of a sum, so rows are computed to the last bit alike
// whatever is answered beside them.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { randomCheckpoint } from "../../bench/shapes.ts";
import {
  type DecoderPrompt,
  filledLength,
  nextPosition,
  nextTokenFeeds,
  promptFeeds,
} from "../../src/eval/decoding.ts";
import { KeyValueCache } from "../../src/eval/keyValueCache.ts";
import { type Checkpoint, openCheckpoint, withQuantised } from "../../src/model/checkpoint.ts";
import { decoderGraph } from "../../src/model/graphs.ts";
import { LLM_PROJECTIONS } from "../../src/model/lora.ts";
import { KINDS } from "../../src/model/quantised/matrix.ts";
import { quantisedFiles } from "../../src/model/quantised/store.ts";
import { openModelSession } from "../../src/model/session.ts";
import { trainablesOf } from "../../src/model/trainables.ts";
import { CPU } from "../../src/runtime/device.ts";
import type { Session } from "../../src/runtime/session.ts";
import { type Feeds, floats, type HostTensor, ints } from "../../src/runtime/tensor.ts";
import { required } from "../../src/utils/errors.ts";
import { randomFrom } from "../../src/utils/random.ts";
import { randomAdapter } from "./randomAdapter.ts";

const root = mkdtempSync(join(tmpdir(), "few-bits-"));
after(() => rmSync(root, { recursive: true, force: true }));
const plain = openCheckpoint(await randomCheckpoint(root, "small"));
const settings = { r: 4, alpha: 32, dropout: 0, targetModules: [...LLM_PROJECTIONS] };
const trainables = trainablesOf(plain, { kind: "lora", settings });
const modules = required(trainables.lora, "lora").modules;
const adapter = randomAdapter(plain, settings, 0.02);
const parameters: Feeds = Object.fromEntries(
  modules.flatMap(({ keyA, keyB, inFeatures, outFeatures }) => [
    [keyA, floats(required(adapter.get(keyA), keyA), [settings.r, inFeatures])],
    [keyB, floats(required(adapter.get(keyB), keyB), [outFeatures, settings.r])],
  ]),
);

const BLOCK = 16; // as the generator fills prompts up
const STEPS = 3;
const prompts = [100, 260, 37, 129, 17, 143].map((length, i): DecoderPrompt => {
  const random = randomFrom("prompt", i);
  return {
    id: `${i}`,
    inputIds: Int32Array.from({ length }, () => random.below(700)),
    positionIds: Int32Array.from({ length: 3 * length }, (_, t) => t % length),
    imageRows: new Int32Array(0),
    pictures: [],
  };
});

/** Logits behind each prompt and behind each of some tokens after it: [prompt][token][V] */
async function logitsOf(session: Session, { architecture }: Checkpoint, of: readonly DecoderPrompt[]) {
  const cache = new KeyValueCache(architecture.text, of.length, 1000);
  const result: Float32Array[][] = of.map(() => []);
  const run = async (feeds: Feeds, counts: readonly number[]): Promise<void> => {
    const outputs: Readonly<Record<string, HostTensor>> = await session.run({
      ...feeds,
      ...cache.feeds(),
      ...parameters,
    });
    cache.append(outputs, counts);
    const { data } = required(outputs.logits, "logits");
    const width = data.length / of.length;
    for (const [b, rows] of result.entries()) rows.push((data as Float32Array).slice(b * width, (b + 1) * width));
  };
  const lengths = of.map(({ inputIds }) => inputIds.length);
  const longest = filledLength(of, BLOCK);
  const rows = ints(Int32Array.from(lengths, (length, b) => b * longest + length - 1), [of.length]); // biome-ignore format: one line
  await run({ ...promptFeeds(architecture, of, { longest, padId: 0 }), logit_rows: rows }, lengths);
  for (let step = 0; step < STEPS; step++) {
    const tokens = of.map(({ id }) => (Number(id) * 31 + step * 17) % 700);
    const positions = of.map((prompt) => nextPosition(prompt) + step);
    await run(nextTokenFeeds(architecture, tokens, positions), tokens.map(() => 1)); // biome-ignore format: one line
  }
  return result;
}

for (const kind of KINDS)
  test(`${kind}: the same logits to the last bit alone, among others, and in another order`, async () => {
    const roots = [join(root, "cache")];
    const files = await quantisedFiles(plain, { kind, parts: ["text", "head"], roots });
    const checkpoint = withQuantised(plain, files);
    const session = await openModelSession(decoderGraph(checkpoint, trainables).graph, checkpoint, CPU);
    const together = await logitsOf(session, checkpoint, prompts);
    assert.deepEqual((await logitsOf(session, checkpoint, prompts.toReversed())).toReversed(), together);
    for (const [i, prompt] of prompts.entries())
      assert.deepEqual(await logitsOf(session, checkpoint, [prompt]), [together[i]], `prompt ${i}`);
    assert.notDeepEqual(together[0]?.[0], together[1]?.[0]);
    await session.release();
  });
