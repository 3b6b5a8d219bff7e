// Samples under a length limit: what each policy makes of conversations with pictures and videos.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  collate,
  type Encoded,
  encodeExample,
  type Fitted,
  fitExample,
  IGNORE,
  type Overlong,
} from "../src/collator.ts";
import type { ContentPart, Example, Message } from "../src/data/example.ts";
import { PictureStore } from "../src/engine/pictures.ts";
import { loadProcessor } from "../src/processor.ts";
import { required } from "../src/utils/errors.ts";
import { imageTokenCount } from "../src/vision/patches.ts";
import { TINY_MODEL } from "./text/models.ts";
import { picture, pngOf } from "./vision/pictures.ts";

const processor = loadProcessor(TINY_MODEL);
const { imageTokenId, videoTokenId, padTokenId, vision } = processor;
const collateOptions = { imageTokenId, videoTokenId, padTokenId, mergeSize: vision.mergeSize };
const RUNS = { numRuns: 120, seed: 20251104 };

const SIZES: readonly [width: number, height: number][] = [
  [64, 64],
  [300, 200],
  [40, 500],
  [256, 256],
];
const FILES = await Promise.all(SIZES.map(([width, height]) => pngOf(picture(width, height))));
const file = (k: number) => required(FILES[k % FILES.length], "file");

const part = fc.oneof(
  fc.integer({ min: 0, max: 3 }).map((k): ContentPart => ({ type: "image", image: file(k) })),
  fc
    .record({ k: fc.integer({ min: 0, max: 3 }), frames: fc.integer({ min: 2, max: 7 }) })
    .map(({ k, frames }): ContentPart => ({ type: "video", video: new Array(frames).fill(file(k)), fps: 2 })),
  fc.string({ maxLength: 20 }).map((text): ContentPart => ({ type: "text", text: text.replaceAll("<|", "<") })),
);
const exchange = fc.record({
  content: fc.array(part, { maxLength: 4 }),
  answer: fc.string({ maxLength: 20 }),
  train: fc.boolean(),
});
const example = fc
  .record({ hasSystem: fc.boolean(), exchanges: fc.array(exchange, { minLength: 1, maxLength: 3 }) })
  .map(({ hasSystem, exchanges }): Example => {
    const system: Message[] = hasSystem ? [{ role: "system", content: "Be brief." }] : [];
    const turns = exchanges.flatMap(({ content, answer, train }, i): Message[] => [
      { role: "user", content },
      { role: "assistant", content: answer.replaceAll("<|", "<"), train: train || i === 0 },
    ]);
    return { id: "any", user: null, messages: [...system, ...turns] };
  });
const limit = fc.integer({ min: 1, max: 260 });

const fit = (one: Example, maxLength: number | null, overlong: Overlong): Promise<Fitted> =>
  fitExample(one, processor, { labelMode: "official", maxLength, overlong });
const whole = (one: Example): Promise<Encoded> => encodeExample(one, processor, { labelMode: "official" });
const tokensOf = ({ images }: Encoded): number =>
  images.reduce((sum, { grid }) => sum + imageTokenCount(grid, vision), 0);

/** What must hold of every row that is trained on: it collates, its grids fill its tokens, and something is learnt. */
function assertSound(encoded: Encoded, maxLength: number): void {
  const { inputIds, labels } = encoded;
  assert.ok(inputIds.length <= maxLength);
  assert.equal(labels.length, inputIds.length);
  labels.forEach((label, t) => {
    assert.ok(label === IGNORE || label === inputIds[t], `label ${t}`);
  });
  const batch = collate([encoded], collateOptions); // the positions refuse grids that do not fit their tokens
  assert.equal(batch.imageRows.length, tokensOf(encoded));
  assert.ok(batch.tokenCount > 0);
}

for (const overlong of ["refuse", "drop", "shrink-images", "cut-left", "cut-right"] as const) {
  test(`${overlong}: whatever is kept is sound, and what fits is left as it is`, async () => {
    const met = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(example, limit, async (one, maxLength) => {
        const plain = await whole(one);
        const { outcome, length, encoded } = await fit(one, maxLength, overlong);
        met.set(outcome, (met.get(outcome) ?? 0) + 1);
        assert.equal(length, plain.inputIds.length);
        assert.equal(outcome === "whole", length <= maxLength);
        if (outcome === "whole") assert.deepEqual(encoded, plain);
        if (encoded !== null) assertSound(encoded, maxLength);
      }),
      RUNS,
    );
    const possible: Record<Overlong, string[]> = {
      refuse: ["refused", "whole"],
      drop: ["dropped", "whole"],
      "shrink-images": ["refused", "shrunk", "whole"],
      "cut-left": ["cut", "emptied", "whole"],
      "cut-right": ["cut", "emptied", "whole"],
    };
    assert.deepEqual([...met.keys()].sort(), possible[overlong]);
  });
}

test("shrunk pictures keep every token of text, and no picture is below the smallest", async () => {
  let shrunk = 0;
  await fc.assert(
    fc.asyncProperty(example, limit, async (one, maxLength) => {
      const plain = await whole(one);
      const { outcome, encoded } = await fit(one, maxLength, "shrink-images");
      if (outcome !== "shrunk") return;
      shrunk++;
      const text = ({ inputIds }: Encoded): number[] =>
        [...inputIds].filter((id) => id !== imageTokenId && id !== videoTokenId);
      assert.deepEqual(text(encoded), text(plain));
      assert.equal(encoded.images.length, plain.images.length);
      for (const [i, { grid, video }] of encoded.images.entries()) {
        const before = required(plain.images[i], "image").grid;
        assert.ok(grid[1] * grid[2] <= before[1] * before[2]);
        const area = grid[1] * grid[2] * vision.patchSize ** 2;
        if (video === undefined) assert.ok(area >= vision.minPixels, `${area} pixels`);
      }
    }),
    RUNS,
  );
  assert.ok(shrunk > 10);
});

const say = (role: Message["role"], content: string): Message => ({ role, content });
const talk = (...messages: Message[]): Example => ({ id: "talk", user: null, messages });

test("cut-left keeps the system turn, cut-right the beginning", async () => {
  const long = talk(say("system", "Be brief."), say("user", "one two three four five six"), say("assistant", "yes"));
  const { inputIds } = await whole(long);
  const text = async (maxLength: number, overlong: Overlong): Promise<string> =>
    processor.tokenizer.decode(required((await fit(long, maxLength, overlong)).encoded, "row").inputIds);
  const head = processor.tokenizer.encode("<|im_start|>system\nBe brief.<|im_end|>\n").length;
  const tail = processor.tokenizer.encode("<|im_start|>assistant\nyes<|im_end|>\n").length;
  assert.equal(
    await text(head + tail, "cut-left"),
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n",
  );
  assert.match(await text(inputIds.length - 1, "cut-right"), /^<\|im_start\|>system\nBe brief.*yes<\|im_end\|>$/s);
});

test("cut-left keeps the tools where there is no system turn", async () => {
  const tools = [{ type: "function", function: { name: "look", parameters: {} } }];
  const long: Example = { ...talk(say("user", "one two three four"), say("assistant", "yes")), tools };
  const { inputIds } = await whole(long);
  const { encoded } = await fit(long, inputIds.length - 4, "cut-left");
  const text = processor.tokenizer.decode(required(encoded, "row").inputIds);
  assert.match(text, /^<\|im_start\|>system\n# Tools.*"look".*<\/tool_call><\|im_end\|>\n(?!<\|im_start\|>user)/s);
  assert.ok(text.endsWith("<|im_start|>assistant\nyes<|im_end|>\n"));
});

test("a cut that leaves nothing to learn says so", async () => {
  const long = talk(say("user", "one two three four five six"), say("assistant", "yes"));
  assert.equal((await fit(long, 6, "cut-right")).outcome, "emptied");
  assert.equal((await fit(long, 1, "cut-left")).outcome, "emptied");
});

test("the grid of a sample, not the settings, decides the size that its pictures are resized to", async () => {
  const engine = { encodePictures: () => Promise.reject(new Error("not asked")) };
  const pictures = new PictureStore(engine, vision);
  const image: ContentPart = { type: "image", image: file(1) };
  const one = talk({ role: "user", content: [image] }, say("assistant", "yes"));
  const plain = await whole(one);
  const { outcome, encoded } = await fit(one, plain.inputIds.length - 10, "shrink-images");
  assert.equal(outcome, "shrunk");
  for (const images of [plain.images, required(encoded, "row").images]) {
    const [patches] = await pictures.pixels(images);
    const { grid, pixelValues } = required(patches, "patches");
    assert.deepEqual(grid, images[0]?.grid);
    assert.equal(pixelValues.length, grid[1] * grid[2] * 1536);
  }
});

test("features are kept by grid: one file in two sizes is encoded twice, and once each", async () => {
  const asked: string[] = [];
  const engine = {
    encodePictures: (pixels: readonly { readonly grid: readonly number[] }[]) => {
      asked.push(...pixels.map(({ grid }) => `${grid}`));
      return Promise.resolve(pixels.map(() => ({ imageEmbeds: new Float32Array(1), deepstack: [] })));
    },
  };
  const pictures = new PictureStore(engine, vision);
  const [small, large] = (
    [
      [1, 4, 4],
      [1, 8, 12],
    ] as const
  ).map((grid) => ({ frames: [file(1)], grid }));
  const both = [required(small, "small"), required(large, "large")];
  await pictures.features([...both, ...both]);
  await pictures.features(both);
  assert.deepEqual(asked.sort(), ["1,4,4", "1,8,12"]);
});
