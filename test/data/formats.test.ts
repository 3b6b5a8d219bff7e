// One sample in every format is one example, one row of tokens and one row of labels.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { encodeExample } from "../../src/collator.ts";
import { type DatasetOptions, type Example, readDataset } from "../../src/dataset.ts";
import { groundingAnswer, groundingPrompt } from "../../src/text/groundingPrompt.ts";
import { readFixture, realProcessor } from "../text/models.ts";
import { adapterOf, batchesOf, loadTiny, loraSpec, openEngine } from "../tiny.ts";
import { dataFile, folderOf, freshFolder, fromBase64, PICTURE, refuses, rowsOf, withBytes } from "./files.ts";

const { rows } = readFixture<{ rows: { name: string; file: string }[] }>("data", "formats.json");

const prompt = groundingPrompt("Open the settings");
const answer = groundingAnswer("gear icon", [311, 541]);
const words = { type: "text", text: prompt };
const spoken = { role: "assistant", content: [{ type: "text", text: answer }] };
const rest = { user: 7, episode: "e1" };
const uri = `data:image/png;base64,${PICTURE.toString("base64")}`;
const asked = (part: object) => [{ role: "user", content: [part, words] }, spoken];
const said = [
  { from: "human", value: `<image>\n${prompt}` },
  { from: "gpt", value: answer },
];

const texts: Readonly<Record<string, string>> = {
  "messages.jsonl": rowsOf(
    { messages: asked({ type: "image", image: "images/a.png" }), ...rest },
    { messages: asked({ type: "image_url", image_url: { url: uri } }), ...rest },
    { messages: asked({ type: "image" }), images: ["images/a.png"], ...rest },
    { messages: [{ role: "user", content: `<image>${prompt}` }, spoken], image: "images/a.png", ...rest },
  ),
  "messages.json": JSON.stringify([{ messages: asked({ type: "image", url: "images/a.png" }), ...rest }], null, 2),
  "one.json": JSON.stringify({ messages: asked({ type: "image", path: "images/a.png" }), ...rest }, null, 2),
  "llava.jsonl": rowsOf({ image: "images/a.png", conversations: said, ...rest }),
  "llava.json": JSON.stringify([{ images: ["images/a.png"], conversations: said, ...rest }]),
  "csv/user_7.csv": `image,command,referring,x,y,episode\n../images/a.png,Open the settings,gear icon,311,541,e1\n`,
};

async function everyExample(): Promise<Map<string, Example>> {
  const folder = folderOf({ "images/a.png": PICTURE, ...texts });
  folderOf(Object.fromEntries(rows.map(({ name, file }) => [name, fromBase64(file)])), folder);
  const found = new Map<string, Example>();
  for (const name of [...Object.keys(texts), ...rows.map((row) => row.name)]) {
    const options: DatasetOptions = name.includes("/")
      ? { imageRoot: name.startsWith("csv") ? join(folder, "csv") : folder }
      : {};
    if (name.startsWith("csv"))
      folderOf({ "csv/a.png": PICTURE, [name]: (texts[name] ?? "").replace("../images/", "") }, folder);
    for (const [i, example] of (await readDataset(join(folder, name), options)).entries())
      found.set(`${name} ${i + 1}`, example);
  }
  return found;
}

test("equal examples, token ids and labels", async () => {
  const examples = await everyExample();
  assert.equal(examples.size, 4 + 2 + 2 + 1 + 6 + 6 + 2);
  const [first] = examples.values();
  assert.ok(first);
  const reference = withBytes({ ...first, id: "" });
  const tokens = await encodeExample(first, realProcessor(), { labelMode: "official" });
  for (const [name, example] of examples) {
    const isTask = name.includes(".pkl"); // pickles of the task know no episodes
    const same = withBytes({ ...example, id: "", ...(isTask ? { episode: "e1" } : {}) });
    assert.deepEqual(same, reference, name);
    const { inputIds, labels, images } = await encodeExample(example, realProcessor(), { labelMode: "official" });
    assert.deepEqual(inputIds, tokens.inputIds, name);
    assert.deepEqual(labels, tokens.labels, name);
    assert.deepEqual(
      images.map(({ grid }) => grid),
      tokens.images.map(({ grid }) => grid),
      name,
    );
  }
  assert.deepEqual(first.target, { point: [311, 541], content: "gear icon" });
});

test("the same gradients, to the bit", async () => {
  const { processor, ...tiny } = await loadTiny();
  const examples = [...(await everyExample())];
  const encoded = await Promise.all(
    examples.map(([, one]) => encodeExample(one, processor, { labelMode: "official" })),
  );
  const all = { ...tiny, processor, encoded };
  const engine = openEngine(all, loraSpec());
  await engine.setValues(adapterOf(all));
  const { batch } = batchesOf(all, engine);
  let first: ReadonlyMap<string, Float32Array> | undefined;
  for (const [i, [name]] of examples.entries()) {
    const { tokenCount } = await engine.accumulate(await batch([i]), { weight: 1, dropoutSeed: 0 });
    const gradients = new Map([...(await engine.gradients(tokenCount))].map(([key, values]) => [key, values.slice()]));
    await engine.clearGradients();
    first ??= gradients;
    assert.deepEqual(gradients, first, name);
  }
});

test("content decides, whatever the name; --format where it is said", async () => {
  const line = texts["messages.jsonl"]?.split("\n")[0] ?? "";
  for (const name of ["a", "a.txt", "a.json", "a.csv.bak"])
    assert.equal((await readDataset(dataFile(name, line))).length, 1, name);
  assert.equal((await readDataset(dataFile("a.jsonl", `[${line}]`))).length, 1);
  assert.equal((await readDataset(dataFile("a.txt", `\uFEFF\n [${line}, ${line}]\n`))).length, 2);
  assert.equal((await readDataset(dataFile("a.json", `${line}\n${line}`))).length, 2);
  const csv = (texts["csv/user_7.csv"] ?? "").replace("../", "");
  assert.equal((await readDataset(dataFile("a.txt", csv))).length, 1);
  assert.equal((await readDataset(dataFile("a.txt", csv), { format: "csv" })).length, 1);
  for (const { name, file } of rows.filter((row) => /^(one|protocol)/.test(row.name)))
    assert.equal((await readDataset(dataFile("a.dat", fromBase64(file)))).length, 1, name);
  const parquet = fromBase64(rows.find(({ name }) => name === "named.parquet")?.file ?? "");
  assert.equal((await readDataset(dataFile("a.parquet", parquet), { format: "conversations" })).length, 1);
});

test("a format that the file has not is refused", async () => {
  const line = texts["messages.jsonl"]?.split("\n")[0] ?? "";
  await refuses(
    dataFile("a.jsonl", line),
    /line 1: expected an object with "conversations", found an object with messages/,
    {
      format: "conversations",
    },
  );
  await refuses(dataFile("a.jsonl", texts["llava.jsonl"] ?? ""), /line 1: expected an object with "messages"/, {
    format: "messages",
  });
  await refuses(dataFile("a.jsonl", line), /does not end in PAR1/, { format: "parquet" });
  await refuses(dataFile("a.jsonl", line), /is no pickle opcode|is refused|pickle/, { format: "pickle" });
  await refuses(dataFile("a.jsonl", line), /not a well-formed CSV: .*line 1/, { format: "csv" });
  const both = rowsOf({
    messages: asked({ type: "image", image: "images/a.png" }),
    conversations: said,
    image: "images/a.png",
  });
  await refuses(dataFile("a.jsonl", both), /line 1: has "messages" and "conversations"; say with --format/);
  assert.equal((await readDataset(dataFile("a.jsonl", both), { format: "conversations" })).length, 1);
});

test("folders: a file a user of any kind, shards where no file names a user", async () => {
  const line = texts["messages.jsonl"]?.split("\n")[2] ?? "";
  const nameless = JSON.stringify({ ...JSON.parse(line), user: undefined });
  const pickled = fromBase64(rows.find(({ name }) => name === "protocol2/user_7.pkl")?.file ?? "");
  const picture = { "images/a.png": PICTURE };
  const mixed = folderOf({
    ...picture,
    "user_2.jsonl": nameless,
    "user_10.pkl": pickled,
    "user_1.csv": (texts["csv/user_7.csv"] ?? "").replace("../", ""),
  });
  assert.deepEqual(
    (await readDataset(mixed)).map(({ user }) => user),
    ["1", "2", "10"],
  );
  assert.deepEqual(
    (await readDataset(mixed, { users: [10, 1] })).map(({ user }) => user),
    ["10", "1"],
  );
  assert.deepEqual(
    (await readDataset(mixed, { format: "pickle" })).map(({ user }) => user),
    ["10"],
  );
  folderOf({ "user_10.csv": "" }, mixed);
  await refuses(mixed, /user_10\.csv and user_10\.pkl are of one user; say with --format/);

  const parquet = fromBase64(rows.find(({ name }) => name === "bytes.parquet")?.file ?? "");
  const shards = folderOf({
    "train-00001-of-00002.parquet": parquet,
    "train-00000-of-00002.parquet": parquet,
    "README.md": "",
  });
  assert.deepEqual(
    (await readDataset(shards)).map(({ id }) => id),
    ["train-00000-of-00002.parquet:1", "train-00001-of-00002.parquet:1"],
  );
  await refuses(freshFolder(), /no user_<id>\.csv or \.pkl in it/);
});

test("lists larger than a chunk are cut at their rows, and faults name the row", async () => {
  const row = (text: string) => ({
    messages: [
      { role: "user", content: text },
      { role: "assistant", content: "]},[{" },
    ],
  });
  const tricky = ['"', "\\", '\\"', "[{]},", "é".repeat(40_000), "\u2028", "😀".repeat(20_000), "x".repeat(70_000)];
  const file = dataFile("a.json", JSON.stringify(tricky.map(row), null, 1));
  const examples = await readDataset(file);
  assert.deepEqual(
    examples.map(({ messages }) => messages[0]?.content),
    tricky,
  );
  const good = JSON.stringify(row("a"));
  await refuses(dataFile("a.json", `[${good},${good}`), /not JSON: its list does not end; it is cut off/);
  await refuses(dataFile("a.json", `[${good},]`), /row 2: not JSON/);
  await refuses(dataFile("a.json", `[${good},{"messages": nope}]`), /row 2: not JSON/);
  await refuses(dataFile("a.json", `[${good}] ${good}`), /not JSON: more follows/);
  await refuses(dataFile("a.json", "[]"), /empty file/);
  await refuses(dataFile("a.json", "[[[["), /not JSON: its list does not end/);
  await refuses(dataFile("a.json", "hello"), /row 1: not JSON/);
  const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
  await refuses(dataFile("a.jsonl", `{"messages": ${deep}}`), /line 1: nested more than 64 deep/);
});
