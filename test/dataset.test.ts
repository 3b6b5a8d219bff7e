import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { imagesOf, visualsOf } from "../src/data/example.ts";
import { type DatasetOptions, type Example, readDataset } from "../src/dataset.ts";
import { groundingAnswer, groundingPrompt } from "../src/text/groundingPrompt.ts";
import { UserError } from "../src/utils/errors.ts";
import { temporaryFolder } from "./text/folders.ts";
import { TINY } from "./text/models.ts";

const PICTURE = join(TINY, "data", "images", "0.png");
const BYTES = readFileSync(PICTURE);

/** Writes a file, and beside it the picture a.png. */
function written(name: string, content: string | Buffer): string {
  const folder = temporaryFolder();
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  copyFileSync(PICTURE, join(folder, "a.png"));
  writeFileSync(file, content);
  return file;
}

const rows = (...values: unknown[]): string => values.map((value) => JSON.stringify(value)).join("\n");
const answer = { role: "assistant", content: "yes" };
const ask = (content: unknown) => ({ messages: [{ role: "user", content }, answer] });

async function refuses(file: string, message: RegExp, options: DatasetOptions = {}): Promise<void> {
  await assert.rejects(readDataset(file, options), (error: Error) => {
    assert.ok(error instanceof UserError, error.stack);
    assert.match(error.message, message);
    assert.ok(error.message.startsWith(file), error.message);
    return true;
  });
}

const first = async (file: string): Promise<Example> => {
  const [example] = await readDataset(file);
  assert.ok(example);
  return example;
};

test("golden rows: ids, turns, pictures beside the file", async () => {
  const file = join(TINY, "data", "train.jsonl");
  const examples = await readDataset(file);
  assert.equal(examples.length, 8);
  assert.deepEqual(examples[4], {
    id: "train.jsonl:5",
    user: null,
    messages: [
      { role: "system", content: [{ type: "text", text: "You are a helpful assistant." }] },
      {
        role: "user",
        content: [
          { type: "text", text: "before" },
          { type: "image", image: { kind: "file", path: join(TINY, "data", "images", "3.png") } },
          { type: "text", text: "after" },
        ],
      },
      { role: "assistant", content: [{ type: "text", text: "[12, 34]" }] },
    ],
  });
  assert.deepEqual(
    (await readDataset(file, { limit: 3 })).map(({ id }) => id),
    ["train.jsonl:1", "train.jsonl:2", "train.jsonl:3"],
  );
});

test("one picture in every way of naming it", async () => {
  const file = written("rows.jsonl", "");
  const path = join(dirname(file), "a.png");
  const uri = `data:image/png;base64,${BYTES.toString("base64")}`;
  const words = { type: "text", text: "what?" };
  const inParts = [
    { type: "image", image: "a.png" },
    { type: "image", url: "a.png", text: null },
    { type: "image", path },
    { type: "image_url", image_url: { url: "./a.png" } },
    { type: "image_url", image_url: uri },
    { type: "image", image: pathToFileURL(path).href },
  ].map((part) => ask([part, words]));
  const inColumn = [
    { ...ask([{ type: "image" }, words]), images: ["a.png"] },
    { ...ask([{ type: "image", image: null }, words]), images: [{ path: "a.png", bytes: null }] },
    { ...ask("<image>what?"), images: "a.png" },
    { ...ask([{ type: "text", text: "<image>what?" }]), images: ["a.png"] },
  ];
  writeFileSync(file, rows(...inParts, ...inColumn));
  const examples = await readDataset(file);
  assert.equal(examples.length, 10);
  for (const { messages } of examples) {
    const content = messages[0]?.content;
    assert.ok(Array.isArray(content));
    const [picture, text] = content;
    assert.deepEqual(text, words);
    const bytes = picture.image.kind === "file" ? readFileSync(picture.image.path) : Buffer.from(picture.image.bytes);
    assert.ok(bytes.equals(BYTES));
  }
});

test("text around <image> tags stays as written, and tags count only where they stand for pictures", async () => {
  const tagged = { ...ask(" a <image>\n<image> b "), images: ["a.png", "a.png"] };
  const literal = { ...ask([{ type: "image" }, { type: "text", text: "the <image> tag" }]), images: ["a.png"] };
  const file = written("rows.jsonl", rows(tagged, literal, ask([{ type: "text", text: "<image>" }])));
  const contents = (await readDataset(file)).map(({ messages }) => messages[0]?.content);
  const shapes = contents.map(
    (content) => Array.isArray(content) && content.map((part) => (part.type === "text" ? part.text : 1)),
  );
  assert.deepEqual(shapes, [[" a ", 1, "\n", 1, " b "], [1, "the <image> tag"], ["<image>"]]);
});

test("a video is its frames in order and their rate", async () => {
  const uri = `data:image/png;base64,${BYTES.toString("base64")}`;
  const video = { type: "video", video: ["a.png", { path: "a.png" }, uri], fps: 0.5 };
  const { messages } = await first(written("rows.jsonl", rows(ask([video, { type: "text", text: "what?" }]))));
  const [part] = visualsOf(messages);
  assert.ok(part?.type === "video");
  assert.deepEqual([part.fps, part.video.map(({ kind }) => kind)], [0.5, ["file", "file", "bytes"]]);
  assert.deepEqual(imagesOf(messages), part.video);
});

test("tools, tool calls, thoughts, train marks and users are kept", async () => {
  const call = { type: "function", function: { name: "get", arguments: { city: "Paris" } } };
  const messages = [
    { role: "user", content: "weather?" },
    { role: "assistant", content: null, tool_calls: [call], train: false },
    { role: "tool", content: "12 C" },
    { role: "assistant", content: "12", reasoning_content: "short", tool_calls: null },
  ];
  const example = await first(written("rows.jsonl", rows({ messages, tools: [{ name: "get" }], user: 7 })));
  assert.deepEqual(example, {
    id: "rows.jsonl:1",
    user: "7",
    tools: [{ name: "get" }],
    messages: [
      { role: "user", content: "weather?" },
      { role: "assistant", content: "", tool_calls: [call], train: false },
      { role: "tool", content: "12 C" },
      { role: "assistant", content: "12", reasoning_content: "short" },
    ],
  });
});

test("JSON lists, a single JSON object, blank lines, a byte order mark and U+2028 are read", async () => {
  assert.deepEqual(
    (await readDataset(written("a.json", JSON.stringify([ask("a"), ask("b")])))).map(({ id }) => id),
    ["a.json:1", "a.json:2"],
  );
  assert.equal((await readDataset(written("a.json", `\uFEFF${JSON.stringify(ask("a"))}`))).length, 1);
  const odd = await readDataset(written("a.jsonl", `\uFEFF${rows(ask("a\u2028b"))}\r\n\n  \n${rows(ask("c"))}`));
  assert.deepEqual(
    odd.map(({ id, messages }) => [id, messages[0]?.content]),
    [
      ["a.jsonl:1", "a\u2028b"],
      ["a.jsonl:4", "c"],
    ],
  );
});

test("lines longer than the reader's chunks are put together again", async () => {
  const words = ["é".repeat(100_000), "b".repeat(65_536), "c"];
  const examples = await readDataset(written("long.jsonl", rows(...words.map(ask))));
  assert.deepEqual(
    examples.map(({ messages }) => messages[0]?.content),
    words,
  );
});

test("users select rows that name them", async () => {
  const file = written(
    "rows.jsonl",
    rows({ ...ask("a"), user: 1 }, { ...ask("b"), user: "2" }, { ...ask("c"), user: 3 }),
  );
  assert.deepEqual(
    (await readDataset(file, { users: [2, 3] })).map(({ user }) => user),
    ["2", "3"],
  );
  await refuses(file, /no example in it for users 9/, { users: [9] });
  await refuses(written("rows.jsonl", rows(ask("a"))), /line 1: users 2 are selected, but this row has no "user"/, {
    users: [2],
  });
});

const faults: [name: string, row: unknown, message: RegExp][] = [
  [
    "no messages",
    { text: "a" },
    /line 2: expected an object with "messages" or "conversations", found an object with text/,
  ],
  ["not an object", 3, /line 2: expected an object with "messages" or "conversations", found 3/],
  ["messages not a list", { messages: "a" }, /line 2: messages is "a"; expected a list/],
  ["no assistant turn", { messages: [{ role: "user", content: "a" }] }, /line 2: no assistant turn among 1 messages/],
  [
    "unknown role",
    { messages: [{ role: "bot", content: "a" }, answer] },
    /line 2, message 1: role is "bot"; expected one of system, user, assistant, tool/,
  ],
  [
    "late system turn",
    { messages: [answer, { role: "system", content: "a" }] },
    /line 2, message 2: a system turn; only the first/,
  ],
  [
    "no content",
    { messages: [{ role: "user" }, answer] },
    /line 2, message 1: content is nothing; expected text or a list/,
  ],
  [
    "message not an object",
    { messages: ["a", answer] },
    /line 2, message 1: expected an object with role and content, found "a"/,
  ],
  [
    "train not a boolean",
    { messages: [{ ...answer, train: "no" }] },
    /line 2, message 1: train is "no"; expected true or false/,
  ],
  [
    "tool_calls not a list",
    { messages: [{ ...answer, tool_calls: {} }] },
    /line 2, message 1: tool_calls is an object/,
  ],
  [
    "thoughts not text",
    { messages: [{ ...answer, reasoning_content: 1 }] },
    /line 2, message 1: reasoning_content is 1/,
  ],
  [
    "unknown part",
    ask([{ type: "audio", audio: "a.wav" }]),
    /line 2, message 1, part 1: type is "audio"; expected text, image, image_url or video/,
  ],
  [
    "video as a file",
    ask([{ type: "video", video: "a.mp4", fps: 2 }]),
    /part 1: video is "a.mp4"; expected a list of its frames/,
  ],
  ["video without frames", ask([{ type: "video", video: [], fps: 2 }]), /part 1: video is an empty list; expected/],
  ["video without a rate", ask([{ type: "video", video: ["a.png"] }]), /part 1: fps is nothing; expected how many/],
  [
    "frame without a file",
    ask([{ type: "video", video: ["a.png", "b.png"], fps: 2 }]),
    /line 2, frame 2: picture b.png cannot be read/,
  ],
  ["text not text", ask([{ type: "text", text: 1 }]), /line 2, message 1, part 1: text is 1/],
  ["part not an object", ask(["a"]), /line 2, message 1, part 1: expected an object with a type/],
  ["picture named twice", ask([{ type: "image", image: "a.png", url: "a.png" }]), /part 1: names its picture 2 times/],
  ["picture not named by text", ask([{ type: "image", image: 4 }]), /part 1: a picture is 4; expected a path/],
  [
    "placeholder without images",
    ask([{ type: "image" }]),
    /line 2: an image part without image, url or path, and the row has no "images"/,
  ],
  ["tag without images", ask("<image> a"), /line 2, message 1: an <image> tag, but the row has no "images"/],
  [
    "too few images",
    { ...ask("<image><image>"), images: ["a.png"] },
    /line 2: 2 <image> tags for 1 images; expected one for each/,
  ],
  [
    "too many images",
    { ...ask([{ type: "image" }]), images: ["a.png", "a.png"] },
    /line 2: 1 \{"type": "image"\} placeholders for 2 images/,
  ],
  ["images unused", { ...ask("a"), images: ["a.png"] }, /line 2: 0 <image> tags for 1 images/],
  [
    "missing picture",
    ask([{ type: "image", image: "none.png" }]),
    /line 2: picture none\.png cannot be read \(ENOENT.*expected it at \//,
  ],
  ["a folder as picture", ask([{ type: "image", image: "." }]), /line 2: picture \. is not a file/],
  ["an empty path", ask([{ type: "image", image: "" }]), /line 2: a picture has an empty path/],
  [
    "a picture on the network",
    ask([{ type: "image", url: "https://a.b/c.png" }]),
    /line 2: the picture https:\/\/a\.b\/c\.png is on the network; pass --allow-remote-images/,
  ],
  [
    "a data URI of text",
    ask([{ type: "image", url: "data:text/plain;base64,QQ==" }]),
    /line 2: a picture begins data:text\/plain;base64,QQ==; expected data:image/,
  ],
  [
    "a data URI that is not base64",
    ask([{ type: "image", url: "data:image/png;base64,QUJD%%" }]),
    /line 2: the bytes of a data: picture are not base64/,
  ],
  ["user not a name", { ...ask("a"), user: [1] }, /line 2: user is a list/],
  ["tools not a list", { ...ask("a"), tools: "get" }, /line 2: tools is text but not JSON/],
];

for (const [name, row, message] of faults) {
  test(`refused with file and line: ${name}`, () => refuses(written("rows.jsonl", rows(ask("fine"), row)), message));
}

test("files that are no data are refused by name", async () => {
  await refuses(written("a.jsonl", ""), /empty file/);
  await refuses(written("a.json", " "), /empty file/);
  await refuses(written("a.jsonl", `${rows(ask("a"))}\n{"messages": [`), /line 2: not JSON/);
  await refuses(written("a.json", "[1,"), /not JSON/);
  await refuses(written("a.json", JSON.stringify([ask("a"), 1])), /row 2: expected an object with "messages" or/);
  await refuses(written("a.jsonl", Buffer.from([0x7b, 0xff, 0x0a])), /line 1: not UTF-8/);
  await refuses(written("a.json", Buffer.from([0x7b, 0xff])), /not UTF-8/);
  await refuses(
    written("a.txt", "a"),
    /neither its content nor its name tells what it is; expected a \.jsonl, \.json, \.csv, \.parquet or \.pkl file/,
  );
  await refuses(join(temporaryFolder(), "none.jsonl"), /not found/);
  await refuses(temporaryFolder(), /no user_<id>\.csv or \.pkl in it/);
});

const HEADER = "image,command,referring,x,y,episode\n";

/** A folder of users, each with these rows. */
function usersFolder(users: Record<number, string>): string {
  const folder = temporaryFolder();
  copyFileSync(PICTURE, join(folder, "a.png"));
  for (const [id, content] of Object.entries(users)) writeFileSync(join(folder, `user_${id}.csv`), HEADER + content);
  return folder;
}

test("a CSV row becomes the grounding conversation", async () => {
  const folder = usersFolder({ 7: 'a.png,"open ""it"", now",blue plus button,311,541,e1\n' });
  const [example] = await readDataset(join(folder, "user_7.csv"));
  assert.deepEqual(example, {
    id: "user_7.csv:2",
    user: "7",
    messages: [
      {
        role: "user",
        content: [
          { type: "image", image: { kind: "file", path: join(folder, "a.png") } },
          { type: "text", text: groundingPrompt('open "it", now') },
        ],
      },
      { role: "assistant", content: [{ type: "text", text: groundingAnswer("blue plus button", [311, 541]) }] },
    ],
    target: { point: [311, 541], content: "blue plus button" },
    episode: "e1",
  });
});

test("a folder of users: all in order of their number, or those wanted; the missing are named once", async () => {
  const row = (n: number) => `a.png,c,r,${n},0,e\n`;
  const folder = usersFolder({ 10: row(10), 2: row(2) + row(3), 1: row(1) });
  const points = async (options: DatasetOptions) =>
    (await readDataset(folder, options)).map(({ user, target }) => [user, target?.point[0]]);
  assert.deepEqual(await points({}), [
    ["1", 1],
    ["2", 2],
    ["2", 3],
    ["10", 10],
  ]);
  const warnings: string[] = [];
  const warn = (message: string) => warnings.push(message);
  assert.deepEqual(await points({ users: [10, 5, 2, 6], limit: 1, warn }), [
    ["10", 10],
    ["2", 2],
  ]);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? "", /no file for user 5, 6 \(user_<id>\.csv or \.pkl\): skipped/);
  await refuses(folder, /no example in it for users 5/, { users: [5], warn });
});

test("CSV: columns in any order, more of them, a byte order mark, CRLF, edges of the screen", async () => {
  const file = written("rows.csv", "\uFEFFy, x,step,image,command,referring,episode\r\n1000,0,3,a.png,c,r,\r\n");
  const example = await first(file);
  assert.deepEqual([example.user, example.target?.point, example.episode], [null, [0, 1000], ""]);
});

const csvFaults: [name: string, content: string, message: RegExp][] = [
  [
    "no column",
    "image,command,x,y,episode\na.png,c,1,2,e\n",
    /line 1: no column "referring"; expected the header image,command,referring,x,y,episode, found image,command,x,y,episode/,
  ],
  ["no rows", HEADER, /no rows below the header/],
  ["nothing at all", "", /empty file; expected the header/],
  [
    "x too large",
    `${HEADER}a.png,c,r,1,2,e\na.png,c,r,1001,2,e\n`,
    /line 3: x is "1001"; expected a whole number from 0 to 1000/,
  ],
  [
    "y negative",
    `${HEADER}a.png,c,r,1,-2,e\n`,
    /line 2: y is "-2"; expected a whole number from 0 to 1000 \(of the screen's height\)/,
  ],
  ["x a fraction", `${HEADER}a.png,c,r,0.5,2,e\n`, /line 2: x is "0\.5"/],
  ["x empty", `${HEADER}a.png,c,r,,2,e\n`, /line 2: x is ""/],
  ["no command", `${HEADER}a.png, ,r,1,2,e\n`, /line 2: column "command" is empty/],
  ["too few fields", `${HEADER}a.png,c,r,1\n`, /not a well-formed CSV: .*line 2/],
  ["an open quote", `${HEADER}a.png,"c,r,1,2,e\n`, /not a well-formed CSV: .*line/],
  ["missing picture", `${HEADER}none.png,c,r,1,2,e\n`, /line 2: picture none\.png cannot be read/],
];

for (const [name, content, message] of csvFaults) {
  test(`CSV refused with file and line: ${name}`, () => refuses(written("user_1.csv", content), message));
}
