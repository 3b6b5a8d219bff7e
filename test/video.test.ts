// Videos from the conversation to the loss, against transformers' processor and model.
import assert from "node:assert/strict";
import { test } from "node:test";
import { collate, type Encoded, encodeExample, encodePrompt, IGNORE } from "../src/collator.ts";
import type { ContentPart, Example, Message } from "../src/data/example.ts";
import { PictureStore } from "../src/engine/pictures.ts";
import { decoderPrompt } from "../src/eval/prompts.ts";
import { FULL } from "../src/model/trainables.ts";
import { loadProcessor } from "../src/processor.ts";
import { batchSource, oneARow } from "../src/train/batchSource.ts";
import { required } from "../src/utils/errors.ts";
import { readFloat32, readHeader } from "../src/utils/safetensors.ts";
import type { GridThw } from "../src/vision/image.ts";
import { readFixture, TINY, TINY_MODEL } from "./text/models.ts";
import { loraSpec, openEngine } from "./tiny.ts";
import { farthest, frame, picture, pngOf, sha256 } from "./vision/pictures.ts";

type Part =
  | { type: "text"; text: string }
  | { type: "image"; width: number; height: number }
  | { type: "video"; frames: number; width: number; height: number; fps: number };

interface Row {
  messages: { role: Message["role"]; content: Part[] }[];
  input_ids: number[];
  labels: number[];
  position_ids: number[][];
  image_grid_thw: GridThw[];
  video_grid_thw: GridThw[];
  pixel_values_videos: { sha256: string; shape: number[]; first: number[]; last: number[] };
  loss: number;
}

const { rows } = readFixture<{ rows: Row[] }>("video", "videos.json");
const { tensors } = readHeader("test/fixtures/video/videos.safetensors");
const golden = (name: string): Float32Array => readFloat32(required(tensors.get(name), name));

async function partOf(part: Part): Promise<ContentPart> {
  if (part.type === "text") return part;
  const { width, height } = part;
  if (part.type === "image") return { type: "image", image: await pngOf(picture(width, height)) };
  const numbers = Array.from({ length: part.frames }, (_, number) => number);
  const video = await Promise.all(numbers.map((number) => pngOf(frame(width, height, number))));
  return { type: "video", video, fps: part.fps };
}

async function exampleOf({ messages }: Row, id: number): Promise<Example> {
  const filled = messages.map(async ({ role, content }) => ({ role, content: await Promise.all(content.map(partOf)) }));
  return { id: `row ${id}`, user: null, messages: await Promise.all(filled) };
}

const processor = loadProcessor(TINY_MODEL);
const examples = await Promise.all(rows.map(exampleOf));
const encoded = await Promise.all(examples.map((one) => encodeExample(one, processor, { labelMode: "official" })));
const { imageTokenId, videoTokenId, padTokenId, vision } = processor;
const options = { imageTokenId, videoTokenId, padTokenId, mergeSize: vision.mergeSize };
const of = (k: number): Encoded => required(encoded[k], `row ${k}`);

/** [t, h, w] of each video of a row, from its pieces. */
function videoGrids({ images }: Encoded): GridThw[] {
  const grids = new Map<number, GridThw>();
  for (const { video, grid } of images)
    if (video !== undefined) grids.set(video, [(grids.get(video)?.[0] ?? 0) + 1, grid[1], grid[2]]);
  return [...grids.values()];
}

test("ids, labels and grids of conversations with videos equal transformers'", () => {
  assert.equal(rows.length, 3);
  for (const [k, row] of rows.entries()) {
    assert.deepEqual([...of(k).inputIds], row.input_ids);
    assert.deepEqual([...of(k).labels], row.labels);
    assert.deepEqual(videoGrids(of(k)), row.video_grid_thw);
    const stills = of(k).images.filter(({ video }) => video === undefined);
    assert.deepEqual(
      stills.map(({ grid }) => grid),
      row.image_grid_thw,
    );
  }
});

test("positions of a batch of videos equal transformers' get_rope_index", () => {
  const batch = collate(encoded, options);
  const { batchSize: B, length: T } = batch;
  for (const [k, row] of rows.entries())
    for (const axis of [0, 1, 2]) {
      const from = (axis * B + k) * T;
      assert.deepEqual([...batch.positionIds.subarray(from, from + row.input_ids.length)], row.position_ids[axis]);
    }
  const visual = [...batch.inputIds.keys()].filter((i) =>
    [imageTokenId, videoTokenId].includes(batch.inputIds[i] as number),
  );
  assert.deepEqual([...batch.imageRows], visual);
});

const engine = openEngine({ dir: TINY, processor, encoded }, loraSpec(), { isTraining: false });
const pictures = new PictureStore(engine, vision);

test("patches of frames equal transformers' pixel_values_videos, bit for bit", async () => {
  for (const [k, { pixel_values_videos: expected }] of rows.entries()) {
    const pieces = of(k).images.filter(({ video }) => video !== undefined);
    const patches = await pictures.pixels(pieces);
    const ours = Float32Array.from(patches.flatMap(({ pixelValues }) => [...pixelValues]));
    assert.equal(
      ours.length,
      expected.shape.reduce((a, b) => a * b),
    );
    assert.ok(farthest(ours.subarray(0, 4), expected.first).error < 1e-7);
    assert.ok(farthest(ours.subarray(-4), expected.last).error < 1e-7);
    assert.equal(sha256(ours), expected.sha256); // the whole array
  }
});

const largest = (values: Float32Array): number => values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
const F32 = 1e-5; // of the largest magnitude: sums of float32 products in another order

function assertClose(ours: Float32Array, expected: Float32Array, what: string): void {
  const { error, at } = farthest(ours, expected);
  assert.ok(error <= F32 * largest(expected), `${what}: ${error} at ${at} of ${expected.length}`);
}

test("the vision tower sees each piece of a video by itself: features equal transformers'", async () => {
  for (const k of rows.keys()) {
    const features = await pictures.features(of(k).images.filter(({ video }) => video !== undefined));
    const joined = (parts: Float32Array[]): Float32Array => Float32Array.from(parts.flatMap((part) => [...part]));
    assertClose(joined(features.map(({ imageEmbeds }) => imageEmbeds)), golden(`${k}.vision`), `${k}.vision`);
    for (const d of [0, 1]) {
      const ours = joined(features.map(({ deepstack }) => required(deepstack[d], "deepstack")));
      assertClose(ours, golden(`${k}.deepstack.${d}`), `${k}.deepstack.${d}`);
    }
  }
});

test("logits of a conversation with pictures, a video and two turns equal transformers'", async () => {
  const prompt = await decoderPrompt(of(1), { ...options, pictures });
  assertClose(await engine.logits(prompt, null), golden("1.logits"), "1.logits");
});

test("losses equal transformers', with features from the frozen tower and with the tower in the graph", async () => {
  for (const trainsVision of [false, true]) {
    const trainable = trainsVision ? FULL : loraSpec();
    const trainer = openEngine({ dir: TINY, processor, encoded }, trainable);
    if (!trainsVision) {
      const zeros = [...(await trainer.trainableShapes())].map(([name, shape]) => {
        return [name, new Float32Array(shape.reduce((a, b) => a * b, 1))] as const;
      });
      await trainer.setValues(new Map(zeros));
    }
    const source = batchSource(oneARow(encoded), {
      ...options,
      trainsVision,
      pictures: new PictureStore(trainer, vision),
    });
    for (const [k, row] of rows.entries()) {
      const { lossSum, tokenCount } = await trainer.evaluateLoss(await source([k]));
      assert.equal(tokenCount, row.labels.slice(1).filter((label) => label !== IGNORE).length);
      const loss = lossSum / tokenCount;
      assert.ok(
        Math.abs(loss - row.loss) <= 1e-6 * row.loss,
        `row ${k}, trainsVision ${trainsVision}: ${loss}, ${row.loss}`,
      );
    }
  }
});

test("a prompt with a video goes up to the answer", async () => {
  const prompt = await encodePrompt(required(examples[0], "example"), processor);
  const row = required(rows[0], "row");
  const start = row.labels.findIndex((label) => label !== IGNORE);
  assert.deepEqual([...prompt.inputIds], row.input_ids.slice(0, start));
  assert.equal(prompt.images.length, 3);
});

test("videos and their tokens that do not match are refused by the example's id", async () => {
  const [one] = examples as [Example];
  const [question, answer] = one.messages as [Message, Message];
  const encode = (messages: Message[]) => encodeExample({ ...one, messages }, processor, { labelMode: "official" });
  await assert.rejects(
    encode([{ ...question, content: "see <|video_pad|>" }, answer]),
    /^UserError: example row 0: 1 video tokens for 0 videos; expected one for each/,
  );
  const single = { type: "video" as const, video: [await pngOf(picture(40, 40))], fps: 1 };
  await assert.rejects(
    encode([{ ...question, content: [single] }, answer]),
    /^UserError: example row 0: a video of 1 frame; expected at least 2: give it as a picture/,
  );
});
