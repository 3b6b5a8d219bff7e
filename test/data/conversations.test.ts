import assert from "node:assert/strict";
import { test } from "node:test";
import { readDataset } from "../../src/dataset.ts";
import { pythonStrip } from "../../src/utils/python.ts";
import { readFixture } from "../text/models.ts";
import { dataFile, refuses, rowsOf } from "./files.ts";

const { rows } = readFixture<{ rows: { value: string; content: (string | null)[] }[] }>("data", "conversations.json");
const gpt = { from: "gpt", value: " <image> stays,\n as written " };
const human = (value: unknown) => ({ from: "human", value });

for (const { value, content } of rows) {
  test(`cut and stripped as Python does: ${JSON.stringify(value).slice(0, 60)}`, async () => {
    const image = content.filter((part) => part === null).map(() => "images/a.png");
    const [example] = await readDataset(dataFile("a.jsonl", rowsOf({ image, conversations: [human(value), gpt] })));
    const found = example?.messages[0]?.content;
    assert.ok(Array.isArray(found));
    assert.deepEqual(
      found.map((part) => (part.type === "text" ? part.text : null)),
      content,
    );
    assert.deepEqual(example?.messages[1], { role: "assistant", content: [{ type: "text", text: gpt.value }] });
  });
}

test("roles, train marks, ids; no picture is none, an empty text, an empty list", async () => {
  const turns = [
    { from: "system", value: " Be brief. " },
    { from: "user", value: "a" },
    { from: "assistant", value: "b", train: false },
    human("c"),
    gpt,
  ];
  const file = dataFile(
    "a.jsonl",
    rowsOf(
      { id: "x", conversations: turns },
      { image: "", conversations: turns },
      { image: [], video: [], conversations: turns },
    ),
  );
  for (const { messages } of await readDataset(file))
    assert.deepEqual(messages, [
      { role: "system", content: [{ type: "text", text: " Be brief. " }] },
      { role: "user", content: [{ type: "text", text: "a" }] },
      { role: "assistant", content: [{ type: "text", text: "b" }], train: false },
      { role: "user", content: [{ type: "text", text: "c" }] },
      { role: "assistant", content: [{ type: "text", text: gpt.value }] },
    ]);
});

const faults: [name: string, row: unknown, message: RegExp][] = [
  ["not a list", { conversations: {} }, /conversations is an object; expected a list/],
  ["a turn that is no object", { conversations: ["a"] }, /turn 1: expected an object with from and value, found "a"/],
  [
    "an unknown name",
    { conversations: [{ from: "bot", value: "a" }] },
    /turn 1: from is "bot"; expected human, user, gpt/,
  ],
  ["a value that is no text", { conversations: [human(3)] }, /turn 1: value is 3; expected text/],
  [
    "too many tags",
    { image: "images/a.png", conversations: [human("<image><image>"), gpt] },
    /turn 1: an <image> tag more than the row's 1 images/,
  ],
  [
    "tags without pictures",
    { conversations: [human("<image>"), gpt] },
    /turn 1: an <image> tag more than the row's 0 images/,
  ],
  [
    "pictures left over",
    { image: ["images/a.png", "images/a.png"], conversations: [human("<image>"), gpt] },
    /1 <image> tags for 2 images/,
  ],
  [
    "a tag in the answer alone",
    { image: "images/a.png", conversations: [human("a"), gpt] },
    /0 <image> tags for 1 images/,
  ],
  ["nobody answers", { conversations: [human("a")] }, /no assistant turn among 1 messages/],
  [
    "a late system turn",
    { conversations: [human("a"), gpt, { from: "system", value: "b" }] },
    /message 3: a system turn; only the first/,
  ],
  [
    "a video",
    { video: "a.mp4", conversations: [human("<video>"), gpt] },
    /a video file; videos are read as their frames/,
  ],
  ["a video tag", { conversations: [human("<video>"), gpt] }, /turn 1: a video file/],
  [
    "two columns",
    { image: "images/a.png", images: ["images/a.png"], conversations: [human("<image>"), gpt] },
    /has "image" and "images"/,
  ],
  ["a train mark that is none", { conversations: [human("a"), { ...gpt, train: "no" }] }, /turn 2: train is "no"/],
];

for (const [name, row, message] of faults) {
  test(`refused with file and line: ${name}`, async () => {
    const fine = { conversations: [human("a"), gpt] };
    const said = await refuses(dataFile("a.jsonl", rowsOf(fine, row)), message);
    assert.match(said, /line 2/);
  });
}

test("stripping takes no longer than the text", () => {
  const spaces = " ".repeat(2_000_000);
  assert.equal(pythonStrip(`a${spaces}b`).length, spaces.length + 2);
  assert.equal(pythonStrip(spaces), "");
});
