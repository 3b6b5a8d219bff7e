// docs/data.md: every example on the page is read as the page says.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { encodeExample } from "../../src/collator.ts";
import { imagesOf } from "../../src/data/example.ts";
import { EXTENSIONS, FORMATS } from "../../src/data/format.ts";
import { type Example, readDataset } from "../../src/dataset.ts";
import { decodeImage } from "../../src/vision/decode.ts";
import { readFixture, realProcessor } from "../text/models.ts";
import { folderOf, fromBase64, PICTURE } from "./files.ts";

const page = readFileSync(new URL("../../docs/data.md", import.meta.url), "utf8");
const fences = [...page.matchAll(/^```(\w+) (\S+)\n([\s\S]*?)^```$/gm)].map(
  ([, language = "", name = "", text = ""]) => ({
    language,
    name,
    text,
  }),
);
const written = readFixture<{ rows: { name: string; code: string; file: string }[] }>("data", "docs.json").rows;

/** What the page shows under a name; of Python code, what it wrote. */
function contentOf({ language, text }: { language: string; text: string }): { name: string; content: Buffer }[] {
  if (language !== "python") return [];
  const made = written.filter(({ code }) => code === text);
  assert.ok(made.length > 0, "the page's Python changed: run scripts/fixtures/make_data.py again");
  return made.map(({ name, file }) => ({ name, content: fromBase64(file) }));
}

const shown = fences.flatMap((fence) =>
  fence.language === "python" ? contentOf(fence) : [{ name: fence.name, content: Buffer.from(fence.text) }],
);

const EXPECTED: Readonly<Record<string, (examples: readonly Example[]) => void>> = {
  "train.jsonl": ([parts, column]) => {
    assert.deepEqual(column?.messages[0]?.content, parts?.messages[0]?.content);
    assert.equal(column?.user, "7");
  },
  "tools.jsonl": ([example]) => {
    assert.equal(example?.tools?.length, 1);
    assert.equal(example?.messages[2]?.train, false);
  },
  "video.jsonl": ([example]) => assert.equal(imagesOf(example?.messages ?? []).length, 2),
  "llava.json": ([one, two]) => {
    const texts = [one, two].map((example) =>
      (example?.messages ?? []).map(
        ({ content }) => Array.isArray(content) && content.map((part) => part.text ?? null),
      ),
    );
    assert.deepEqual(texts, [
      [[null, "Which button is red?"], ["The left one."]],
      [["Compare", null, "and", null], ["They are the same."]],
    ]);
  },
  "user_7.csv": (examples) =>
    assert.deepEqual(
      examples.map(({ target, episode, user }) => [target?.point, episode, user]),
      [
        [[311, 541], "ep-1", "7"],
        [[40, 52], "ep-1", "7"],
      ],
    ),
  "train.parquet": ([example]) => {
    const [picture] = imagesOf(example?.messages ?? []);
    assert.ok(picture?.kind === "bytes" && PICTURE.equals(picture.bytes));
  },
  "user_7.pkl": ([example]) => {
    assert.deepEqual(example?.target, { point: [311, 541], content: "gear icon" });
    assert.equal(example?.messages[0]?.role, "user");
  },
  "inline.jsonl": ([example]) => assert.equal(imagesOf(example?.messages ?? [])[0]?.kind, "bytes"),
};

test("the page shows every kind of file, and nothing that is not checked here", () => {
  assert.deepEqual(
    shown.map(({ name }) => name),
    Object.keys(EXPECTED),
  );
  for (const format of FORMATS) assert.ok(page.includes(`| \`${format}\` |`), format);
  for (const extension of EXTENSIONS) assert.ok(page.includes(extension) || extension === ".pickle", extension);
});

for (const { name, content } of shown) {
  test(`the page's ${name} is read, its pictures decoded, its answers encoded`, async () => {
    const folder = folderOf({ "images/screen.png": PICTURE, [name]: content });
    const examples = await readDataset(join(folder, name));
    EXPECTED[name]?.(examples);
    for (const example of examples) {
      for (const picture of imagesOf(example.messages)) await decodeImage(picture);
      const { labels } = await encodeExample(example, realProcessor(), { labelMode: "official" });
      assert.ok(labels.some((label) => label >= 0));
    }
  });
}
