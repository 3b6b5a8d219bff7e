import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import {
  collate,
  collateRows,
  type Encoded,
  encodeConversation,
  encodeExample,
  encodePrompt,
  IGNORE,
  type LabelMode,
} from "../src/collator.ts";
import { type Example, type Message, readDataset } from "../src/dataset.ts";
import { loadProcessor } from "../src/processor.ts";
import { type Visual, visualOf } from "../src/text/visuals.ts";
import { UserError } from "../src/utils/errors.ts";
import type { GridThw } from "../src/vision/image.ts";
import { readFixture, realProcessor, TINY, TINY_MODEL } from "./text/models.ts";

interface Sample {
  text: string;
  input_ids: number[];
  labels_official: number[];
  labels_pigg: number[];
  position_ids: number[][];
  image_grid_thw: GridThw[] | null;
  prompt_ids: number[];
}

const { samples } = readFixture<{ samples: Sample[] }>("tiny-qwen3vl", "golden.json");
const tiny = loadProcessor(TINY_MODEL);
const examples = await readDataset(join(TINY, "data", "train.jsonl"));
const collateOptions = {
  imageTokenId: tiny.imageTokenId,
  padTokenId: tiny.padTokenId,
  mergeSize: tiny.vision.mergeSize,
};
const encodeAll = (labelMode: LabelMode) =>
  Promise.all(examples.map((example) => encodeExample(example, tiny, { labelMode })));

test("tokens, labels and grids of all golden samples equal transformers'", async () => {
  const official = await encodeAll("official");
  const pigg = await encodeAll("pigg");
  assert.equal(samples.length, 8);
  for (const [k, sample] of samples.entries()) {
    assert.deepEqual([...(official[k] as Encoded).inputIds], sample.input_ids);
    assert.deepEqual([...(official[k] as Encoded).labels], sample.labels_official);
    assert.deepEqual([...(pigg[k] as Encoded).inputIds], sample.input_ids);
    assert.deepEqual([...(pigg[k] as Encoded).labels], sample.labels_pigg);
    assert.deepEqual(
      (official[k] as Encoded).images.map(({ grid }) => [...grid]),
      sample.image_grid_thw ?? [],
    );
    assert.equal(tiny.tokenizer.decode((official[k] as Encoded).inputIds), sample.text);
  }
});

test("prompts of all golden samples equal transformers', pictures included", async () => {
  for (const [k, sample] of samples.entries()) {
    const prompt = await encodePrompt(examples[k] as Example, tiny);
    assert.deepEqual([...prompt.inputIds], sample.prompt_ids);
    assert.deepEqual(
      prompt.images.map(({ grid }) => [...grid]),
      sample.image_grid_thw ?? [],
    );
    assert.equal(prompt.id, `train.jsonl:${k + 1}`);
  }
});

test("all golden samples in one batch: rows, positions, image rows and count", async () => {
  const encoded = await encodeAll("official");
  const batch = collate(encoded, collateOptions);
  const { batchSize: B, length: T } = batch;
  assert.deepEqual([B, T], [8, Math.max(...samples.map(({ input_ids }) => input_ids.length))]);
  const padded = (values: number[], fill: number) => [...values, ...new Array<number>(T - values.length).fill(fill)];
  const rows = (of: (sample: Sample) => number[], fill: number) =>
    samples.flatMap((sample) => padded(of(sample), fill));
  assert.deepEqual(
    [...batch.inputIds],
    rows(({ input_ids }) => input_ids, tiny.padTokenId),
  );
  assert.deepEqual(
    [...batch.labels],
    rows(({ labels_official }) => labels_official, IGNORE),
  );
  const positions = [0, 1, 2].flatMap((axis) => rows(({ position_ids }) => position_ids[axis] as number[], 0));
  assert.deepEqual([...batch.positionIds], positions);
  assert.deepEqual(
    [...batch.segmentIds],
    rows(({ input_ids }) => input_ids.map(() => 0), -1),
  );
  const imageRows = [...batch.inputIds.keys()].filter((i) => batch.inputIds[i] === tiny.imageTokenId);
  assert.deepEqual([...batch.imageRows], imageRows);
  assert.deepEqual(
    batch.images.map(({ grid }) => [...grid]),
    samples.flatMap(({ image_grid_thw }) => image_grid_thw ?? []),
  );
  assert.equal(
    batch.tokenCount,
    samples.flatMap(({ labels_official }) => labels_official.slice(1)).filter((label) => label !== IGNORE).length,
  );
});

interface MaskFixture {
  cases: {
    messages: unknown[];
    tools?: object[] | null;
    image_grid_thw?: GridThw[];
    input_ids: number[];
    labels: number[];
    prompt_ids?: number[];
  }[];
}

/** The fixture's pictures have no files; their grids are given. */
const pictures = (grids: readonly GridThw[]): Visual[] =>
  grids.map((grid) => {
    const image = { kind: "bytes" as const, name: "none", bytes: new Uint8Array() };
    return visualOf(
      { type: "image", image, size: { width: 1, height: 1 } },
      [{ frames: [image], grid }],
      realProcessor(),
    );
  });

const placed = (messages: unknown[]) => messages as Message[];

test("ids, masks and prompts of the golden conversations equal TRL's under the real tokenizer", () => {
  const processor = realProcessor();
  const { cases } = readFixture<MaskFixture>("chat", "qwen3vl_conversations.json");
  assert.equal(cases.length, 11);
  for (const { messages, image_grid_thw: grids = [], input_ids, labels, prompt_ids } of cases) {
    const encoded = encodeConversation(
      { messages: placed(messages) },
      { processor, visuals: pictures(grids), labelMode: "official" },
    );
    assert.deepEqual([...encoded.inputIds], input_ids);
    assert.deepEqual([...encoded.labels], labels);
    const before = placed(messages).slice(
      0,
      placed(messages).findLastIndex(({ role }) => role === "assistant"),
    );
    const prompt = processor.chatTemplate.render(before, { addGenerationPrompt: true });
    assert.deepEqual(processor.tokenizer.encode(prompt), prompt_ids);
  }
});

test("masks of random conversations equal TRL's: typed special tokens, tools, composed characters", () => {
  const processor = realProcessor();
  const { cases } = readFixture<MaskFixture>("chat", "random_masks.json");
  assert.equal(cases.length, 40);
  for (const [k, { messages, tools, input_ids, labels }] of cases.entries()) {
    const example = { messages: placed(messages), ...(tools ? { tools } : {}) };
    const encoded = encodeConversation(example, { processor, visuals: [], labelMode: "official" });
    assert.deepEqual([...encoded.inputIds], input_ids, `case ${k}`);
    assert.deepEqual([...encoded.labels], labels, `case ${k}`);
  }
});

const turns = (...marks: (boolean | undefined)[]): Message[] =>
  marks.flatMap((train, i): Message[] => [
    { role: "user", content: `question ${i}` },
    { role: "assistant", content: `answer ${i}`, ...(train === undefined ? {} : { train }) },
  ]);

/** The learnt text of a text-only conversation, a string a run of tokens. */
function learnt(messages: Message[], trainOn: "all" | "last", labelMode: LabelMode = "official"): string[] {
  const { inputIds, labels } = encodeConversation({ messages }, { processor: tiny, visuals: [], labelMode, trainOn });
  const runs: number[][] = [];
  labels.forEach((label, t) => {
    if (label === IGNORE) return;
    assert.equal(label, inputIds[t]);
    if (t > 0 && labels[t - 1] !== IGNORE) runs.at(-1)?.push(label);
    else runs.push([label]);
  });
  return runs.map((run) => tiny.tokenizer.decode(run));
}

test("turns can be chosen: all, the last, or by their own mark", () => {
  assert.deepEqual(learnt(turns(undefined, true), "all"), ["answer 0<|im_end|>\n", "answer 1<|im_end|>\n"]);
  assert.deepEqual(learnt(turns(undefined, undefined), "last"), ["answer 1<|im_end|>\n"]);
  assert.deepEqual(learnt(turns(false, undefined), "all", "pigg"), ["answer 1"]);
  const marked = turns(undefined, false);
  assert.deepEqual(learnt(marked, "all"), ["answer 0<|im_end|>\n"]);
});

test("an example with nothing to learn is refused by its id", async () => {
  const example: Example = { id: "rows.jsonl:7", user: null, messages: turns(false) };
  await assert.rejects(encodeExample(example, tiny, { labelMode: "official" }), (error: Error) => {
    return error instanceof UserError && /^example rows\.jsonl:7: nothing to learn/.test(error.message);
  });
  const silent: Example = {
    ...example,
    messages: [turns()[0] ?? { role: "user", content: "a" }, { role: "assistant", content: "" }],
  };
  await assert.rejects(
    encodeExample(silent, tiny, { labelMode: "pigg" }),
    /^UserError: example rows\.jsonl:7: nothing to learn/,
  );
});

test("pictures and image tokens that do not match are refused by the example's id", async () => {
  const [first] = examples as [Example];
  const [question, answer] = first.messages as [Message, Message];
  const typed: Example = { ...first, messages: [{ ...question, content: "see <|image_pad|>" }, answer] };
  await assert.rejects(
    encodeExample(typed, tiny, { labelMode: "official" }),
    /^UserError: example train\.jsonl:1: 1 image tokens for 0 pictures/,
  );
  await assert.rejects(encodePrompt(typed, tiny), /^UserError: example train\.jsonl:1: 1 image tokens for 0 pictures/);
  const misplaced: Example = {
    ...first,
    messages: [
      { role: "user", content: "a" },
      { ...answer, content: question.content },
    ],
  };
  await assert.rejects(
    encodeExample(misplaced, tiny, { labelMode: "official" }),
    /^UserError: example train\.jsonl:1: 0 image tokens for 1 pictures/,
  );
});

test("an unreadable picture names the example and the file", async () => {
  const [first] = examples as [Example];
  const image = { kind: "bytes" as const, name: "broken.png", bytes: new Uint8Array([1, 2, 3]) };
  const broken: Example = {
    ...first,
    messages: [{ role: "user", content: [{ type: "image", image }] }, ...turns(true)],
  };
  await assert.rejects(
    encodeExample(broken, tiny, { labelMode: "official" }),
    /^UserError: example train\.jsonl:1: broken\.png/,
  );
});

const IMAGE = 9;
const source = (name: string) => ({ kind: "bytes" as const, name, bytes: new Uint8Array() });

/** Hand-made rows; -8 and -9 are ids that no tokenizer gives. */
const short: Encoded = {
  id: "short",
  user: null,
  inputIds: Int32Array.of(1, -8, 3),
  labels: Int32Array.of(1, IGNORE, 3),
  images: [],
};
const long: Encoded = {
  id: "long",
  user: "7",
  inputIds: Int32Array.of(4, IMAGE, IMAGE, -9, 5),
  labels: Int32Array.of(IGNORE, IGNORE, IGNORE, -9, 5),
  images: [{ frames: [source("a")], grid: [1, 2, 4] }],
};
const handOptions = { imageTokenId: IMAGE, padTokenId: 0, mergeSize: 2 };

test("two hand-made rows of unequal length", () => {
  const batch = collate([short, long], handOptions);
  assert.deepEqual(
    { ...batch, images: batch.images.length },
    {
      ids: ["short", "long"],
      batchSize: 2,
      length: 5,
      inputIds: Int32Array.of(1, -8, 3, 0, 0, 4, 9, 9, -9, 5),
      labels: Int32Array.of(IGNORE, IGNORE, 3, IGNORE, IGNORE, IGNORE, IGNORE, IGNORE, -9, 5),
      positionIds: Int32Array.from(
        [
          [0, 1, 2, 0, 0, 0, 1, 1, 3, 4],
          [0, 1, 2, 0, 0, 0, 1, 1, 3, 4],
          [0, 1, 2, 0, 0, 0, 1, 2, 3, 4],
        ].flat(),
      ),
      segmentIds: Int32Array.of(0, 0, 0, -1, -1, 0, 0, 0, 0, 0),
      images: 1,
      imageRows: Int32Array.of(6, 7),
      tokenCount: 3,
    },
  );
});

test("several documents in one row keep positions and segments of their own", () => {
  const batch = collateRows([[long, short], [short]], handOptions);
  assert.deepEqual([...batch.inputIds], [4, 9, 9, -9, 5, 1, -8, 3, 1, -8, 3, 0, 0, 0, 0, 0]);
  assert.deepEqual([...batch.labels.subarray(0, 8)], [IGNORE, IGNORE, IGNORE, -9, 5, IGNORE, IGNORE, 3]);
  assert.deepEqual([...batch.segmentIds], [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, -1, -1, -1, -1, -1]);
  assert.deepEqual([...batch.positionIds.subarray(32, 40)], [0, 1, 2, 3, 4, 0, 1, 2]);
  assert.deepEqual([...batch.imageRows], [1, 2]);
  assert.deepEqual([batch.tokenCount, batch.batchSize, batch.ids], [4, 2, ["long", "short", "short"]]);
});

test("collating changes none of its inputs", () => {
  const before = structuredClone([short, long]);
  collateRows([[short, long]], handOptions);
  assert.deepEqual([short, long], before);
});
