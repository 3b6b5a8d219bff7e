// Samples as TensorBoard shows them: where the marks lie on the picture, and what is told of the conversation.
import assert from "node:assert/strict";
import { test } from "node:test";
import sharp from "sharp";
import { answersShown, introduction } from "../../src/app/shownSamples.ts";
import type { Example } from "../../src/data/example.ts";
import type { Answer } from "../../src/eval/results.ts";
import type { Summary } from "../../src/utils/tensorBoard/event.ts";
import { MODEL } from "../entries/entry.ts";

const [WIDTH, HEIGHT] = [800, 400];
const white = sharp({ create: { width: WIDTH, height: HEIGHT, channels: 3, background: "#fff" } })
  .png()
  .toBuffer();

/** A click belongs to the middle of the right half. */
async function exampleOf(id: string): Promise<Example> {
  const image = { kind: "bytes", name: id, bytes: await white } as const;
  return {
    ...{ id, user: "1" },
    messages: [
      { role: "user", content: [{ type: "image", image }, { type: "text", text: "open *this*\n# now" }] }, // biome-ignore format: one line
      { role: "assistant", content: "[750, 500]" },
    ],
    target: { point: [750, 500], content: "plus" },
  };
}

const pictureOf = (summaries: readonly Summary[]) =>
  summaries.find((one): one is Extract<Summary, { kind: "picture" }> => one.kind === "picture");
const textOf = (summaries: readonly Summary[], tag: string): string | undefined =>
  summaries.find((one): one is Extract<Summary, { kind: "text" }> => one.kind === "text" && one.tag === tag)?.text;

/** Which of three colours a pixel is nearest to. */
async function colourAt(png: Uint8Array, x: number, y: number): Promise<string> {
  const { data, info } = await sharp(png).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const at = (y * info.width + x) * info.channels;
  const [r = 0, g = 0, b = 0] = data.subarray(at, at + 3);
  if (r > 200 && g > 200 && b > 200) return "white";
  return r > g ? "red" : "green";
}

test("a ring where the click belongs, a cross where the model would click, on a picture of at most 400 a side", async () => {
  const answer: Answer = { pred_raw: "[250, 500]", pred_coord: [250, 500], gt_coord: [750, 500], gt_content: "plus", pred_content: "" }; // biome-ignore format: one line
  const summaries = await answersShown([await exampleOf("a:1")], [answer]);
  const picture = pictureOf(summaries);
  assert.ok(picture);
  assert.deepEqual([picture.tag, picture.width, picture.height], ["answers/1", 400, 200]);
  const { png } = picture;
  assert.deepEqual((await sharp(png).metadata()).format, "png");
  // the ring's radius is 2.2 % of 400
  for (const [x, y] of [[309, 100], [291, 100], [300, 91], [300, 109]] as const) assert.equal(await colourAt(png, x, y), "green", `${x}, ${y}`); // biome-ignore format: one line
  assert.equal(await colourAt(png, 300, 100), "white", "what is meant is not covered");
  for (const [x, y] of [[100, 100], [94, 94], [106, 94], [94, 106]] as const) assert.equal(await colourAt(png, x, y), "red", `${x}, ${y}`); // biome-ignore format: one line
  assert.equal(await colourAt(png, 200, 50), "white");
  assert.equal(
    textOf(summaries, "answers/1"),
    "a:1\n\n**user**\n\n    (image)\n    open *this*\n    # now\n\n**assistant**\n\n    [750, 500]\n\n**the model's answer**\n\n    [250, 500]",
  );
});

test("settings, the model, and four samples evenly spread; one without a picture has its text alone", async () => {
  const examples = await Promise.all(Array.from({ length: 8 }, (_, i) => exampleOf(`row_${i + 1}`)));
  const wordsOnly: Example = { id: "words", user: null, messages: [{ role: "user", content: "hello" }] };
  const summaries = await introduction(examples.with(3, wordsOnly), { settings: { lr: 0.5 }, modelDir: MODEL });
  assert.equal(textOf(summaries, "args"), '    {\n      "lr": 0.5\n    }');
  assert.match(textOf(summaries, "model_config") ?? "", /"model_type": "qwen3_vl"/);
  assert.deepEqual(
    [1, 2, 3, 4].map((i) => textOf(summaries, `samples/${i}`)?.split("\n")[0]),
    ["row\\_2", "words", "row\\_6", "row\\_8"],
  );
  assert.equal(summaries.filter(({ kind }) => kind === "picture").length, 3);
});
