import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { sameSamples } from "../../src/data/sameSamples.ts";
import { type Example, readDataset } from "../../src/dataset.ts";
import { dataFile, folderOf, freshFolder, PICTURE, rowsOf } from "./files.ts";

const OTHER = Buffer.from(PICTURE);
OTHER[OTHER.length - 20] = (OTHER[OTHER.length - 20] ?? 0) ^ 1; // as many bytes, not the same

const asking = (image: unknown, text: string, answer = "yes") => ({
  messages: [
    { role: "user", content: [...(image === null ? [] : [{ type: "image", image }]), { type: "text", text }] },
    { role: "assistant", content: answer },
  ],
});

const idsOf = (groups: readonly (readonly Example[])[]): string[][] => groups.map((group) => group.map(({ id }) => id));
const groupsOf = async (...rows: object[]): Promise<string[][]> => {
  const folder = folderOf({
    "copy.png": PICTURE,
    "other.png": OTHER,
    "images/a.png": PICTURE,
    "d.jsonl": rowsOf(...rows),
  });
  return idsOf(await sameSamples(await readDataset(join(folder, "d.jsonl"))));
};

test("the same words on the same picture, wherever its bytes lie", async () => {
  const uri = `data:image/png;base64,${PICTURE.toString("base64")}`;
  const rows = ["images/a.png", "other.png", "copy.png", uri].map((image) => asking(image, "what?"));
  assert.deepEqual(await groupsOf(...rows), [["d.jsonl:1", "d.jsonl:3", "d.jsonl:4"]]);
});

test("another word, answer, order or number of pictures makes another sample", async () => {
  const two = { type: "image", image: "images/a.png" };
  const rows = [
    asking("images/a.png", "what?"),
    asking("images/a.png", "what"),
    asking("images/a.png", "what?", "no"),
    asking(null, "what?"),
    {
      messages: [
        { role: "user", content: [{ type: "text", text: "what?" }, two] },
        { role: "assistant", content: "yes" },
      ],
    },
    {
      messages: [
        { role: "user", content: [two, two, { type: "text", text: "what?" }] },
        { role: "assistant", content: "yes" },
      ],
    },
    { ...asking("images/a.png", "what?"), tools: [{ name: "f" }] },
  ];
  assert.deepEqual(await groupsOf(...rows), []);
});

test("text in parts reads as text in one; users and train marks are no part of a sample", async () => {
  const parts = {
    role: "user",
    content: [
      { type: "text", text: "a" },
      { type: "text", text: "b" },
    ],
  };
  const rows = [
    {
      messages: [
        { role: "user", content: "ab" },
        { role: "assistant", content: "c" },
      ],
      user: 1,
    },
    { messages: [parts, { role: "assistant", content: "c", train: true }], user: 2 },
  ];
  assert.deepEqual(await groupsOf(...rows), [["d.jsonl:1", "d.jsonl:2"]]);
});

test("a picture that went away is named", async () => {
  const file = dataFile("d.jsonl", rowsOf(asking("images/a.png", "x")));
  const [example] = await readDataset(file);
  assert.ok(example);
  const gone = { kind: "file", path: join(freshFolder(), "gone.png") } as const;
  const lost = {
    ...example,
    messages: [{ role: "user" as const, content: [{ type: "image" as const, image: gone }] }],
  };
  await assert.rejects(sameSamples([lost]), /^UserError: \S+gone\.png: the picture cannot be read \(ENOENT/);
});
