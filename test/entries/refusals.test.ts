// What a user did wrong is told in one message that names the file, the sample or the flag: exit code 2, and nothing but a log is written.
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  ADAPTER,
  copyWith,
  DATA,
  type EntryName,
  FIXTURE,
  filesIn,
  MODEL,
  runEntry,
  scratch,
  workingFolder,
} from "./entry.ts";

interface Refusal {
  readonly name: string;
  readonly entry?: EntryName;
  readonly args: readonly string[];
  /** The whole of stderr, the last newline left out. */
  readonly says: RegExp;
}

const inputs = join(scratch, "inputs");
mkdirSync(inputs);

let models = 0;
/** A copy of the tiny model, damaged. */
function brokenModel(damage: (dir: string) => void, config: object = {}): string {
  const dir = copyWith(MODEL, join(inputs, `model-${++models}`), { "config.json": config });
  damage(dir);
  return dir;
}
const without = (name: string) => brokenModel((dir) => rmSync(join(dir, name)));
const ofType = (type: string) => brokenModel(() => undefined, { model_type: type });
const cutOff = (name: string, bytes: number) => brokenModel((dir) => truncateSync(join(dir, name), bytes));

cpSync(join(FIXTURE, "data/images"), join(inputs, "images"), { recursive: true });
writeFileSync(join(inputs, "images/text.png"), "this is no picture\n");
writeFileSync(join(inputs, "images/cut.png"), readFileSync(join(inputs, "images/0.png")).subarray(0, 300));

let files = 0;
function dataFile(text: string, name = `data-${++files}.jsonl`): string {
  writeFileSync(join(inputs, name), text);
  return join(inputs, name);
}
const rowsFile = (...rows: readonly object[]): string =>
  dataFile(rows.map((row) => `${JSON.stringify(row)}\n`).join(""));

const answer = { role: "assistant", content: "yes" };
const placeholder = { type: "image" };
const asked = (...content: readonly object[]) => ({
  role: "user",
  content: [...content, { type: "text", text: "what?" }],
});
const showing = (image: string) => ({ messages: [asked({ type: "image", image: `images/${image}` }), answer] });
const GOOD = showing("1.png");

/** A folder of two users, the second of whom has a damaged picture. */
function damagedUsers(): string {
  const dir = join(inputs, "users");
  mkdirSync(dir);
  for (const [user, image] of [[1, "0.png"], [2, "cut.png"]]) // biome-ignore format: one line
    writeFileSync(
      join(dir, `user_${user}.csv`),
      `image,command,referring,x,y,episode\nimages/${image},press it,the button,5,6,0\n`,
    );
  return dir;
}

const train = (model: string, data: string, ...more: readonly string[]): string[] => [
  ...[
    "cpu",
    "--lora",
    "--model",
    model,
    "--data",
    data,
    "--no-eval",
    "--max-steps",
    "1",
    "--accumulation",
    "1",
    ...more,
  ],
];
const trainOn = (data: string, ...more: readonly string[]): string[] => train(MODEL, data, ...more);

const MODELS: readonly Refusal[] = [
  {
    name: "a model folder that does not exist",
    args: train("nowhere", DATA),
    says: /^model "nowhere": not found; expected a folder or a hub id \(org\/name\)$/,
  },
  {
    name: "a folder without weights",
    args: train(without("model.safetensors"), DATA),
    says: /^\S+model-\d+: no weights; expected model\.safetensors, or model\.safetensors\.index\.json with its shards$/,
  },
  {
    name: "weights that are cut off",
    args: train(cutOff("model.safetensors", 100_000), DATA),
    says: /^\S+\/model\.safetensors: cut off: tensor "\S+" ends at byte \d+, the file has 100000; download it again$/,
  },
  {
    name: "weights that are cut off inside their header",
    entry: "vanillaEval",
    args: ["cpu", "--model", cutOff("model.safetensors", 1000)],
    says: /^\S+\/model\.safetensors: .*1000.*$/,
  },
  {
    name: "no config.json",
    args: train(without("config.json"), DATA),
    says: /^\S+\/config\.json: not found; a folder of a Hugging Face Qwen3-VL has one: check the folder.*$/,
  },
  {
    name: "no tokenizer.json",
    args: train(without("tokenizer.json"), DATA),
    says: /^\S+\/tokenizer\.json: not found; it holds the model's tokens: check the folder.*$/,
  },
  {
    name: "another kind of model",
    args: train(ofType("qwen2_vl"), DATA),
    says: /^\S+\/config\.json: model_type is "qwen2_vl"; expected "qwen3_vl" .*$/,
  },
  {
    name: "a mixture of experts",
    entry: "vanillaEval",
    args: ["cpu", "--model", ofType("qwen3_vl_moe")],
    says: /^\S+\/config\.json: model_type is "qwen3_vl_moe"; expected "qwen3_vl" .*mixtures of experts.* not supported\)$/,
  },
  {
    name: "an adapter of another shape",
    args: trainOn(DATA, "--adapter", copyWith(ADAPTER, join(inputs, "adapter"), { "adapter_config.json": { r: 8 } })),
    says: /^\S+\/adapter_model\.safetensors: "\S+lora_A\.weight" is \[4,64\], the model calls for \[8,64\] \(and 41 more.*\)$/,
  },
  {
    name: "an adapter that is not there",
    args: trainOn(DATA, "--adapter", "nowhere"),
    says: /^nowhere\/adapter_config\.json: not found; .*check the folder.*$/,
  },
];

const SAMPLES: readonly Refusal[] = [
  {
    name: "a data file that is not there",
    args: trainOn("nowhere.jsonl"),
    says: /^nowhere\.jsonl: not found; expected a .*file, or a folder$/,
  },
  {
    name: "a text file called .png",
    args: trainOn(rowsFile(GOOD, showing("text.png"))),
    says: /^example data-\d+\.jsonl:2: \S+\/images\/text\.png: not a readable picture \(.*\); expected JPEG, PNG, .*: convert it or replace it$/,
  },
  {
    name: "a picture that is cut off, after many good ones",
    args: trainOn(rowsFile(...Array.from({ length: 9 }, () => GOOD), showing("cut.png"))),
    says: /^example data-\d+\.jsonl:10: \S+\/images\/cut\.png: the picture is damaged or cut off \(.*\); replace it or leave its sample out$/,
  },
  {
    name: "a picture that is cut off, of a user to be evaluated",
    entry: "vanillaEval",
    args: ["cpu", "--model", MODEL, "--data", damagedUsers(), "--image-root", inputs, "--u", "1", "2"],
    says: /^example user_2\.csv:2: \S+\/images\/cut\.png: the picture is damaged or cut off \(.*\); replace it .*$/,
  },
  {
    name: "a picture that is not there",
    args: trainOn(rowsFile(GOOD, GOOD, showing("gone.png"))),
    says: /^\S+data-\d+\.jsonl, line 3: picture images\/gone\.png cannot be read \(ENOENT.*\); expected it at \S+gone\.png$/,
  },
  {
    name: "no assistant turn",
    args: trainOn(rowsFile({ messages: [asked()] })),
    says: /^\S+\.jsonl, line 1: no assistant turn among 1 messages; there is nothing to learn from$/,
  },
  {
    name: "nothing to train on",
    args: trainOn(rowsFile({ messages: [asked(), { role: "assistant", content: "" }] }), "--label-mode", "pigg"),
    says: /^example data-\d+\.jsonl:1: nothing to learn: no token of an answer is left; .*$/,
  },
  {
    name: "more image placeholders than images",
    args: trainOn(rowsFile({ images: ["images/0.png"], messages: [asked(placeholder, placeholder), answer] })),
    says: /^\S+\.jsonl, line 1: 2 \{"type": "image"\} placeholders for 1 images; expected one for each$/,
  },
  {
    name: "an image without a placeholder",
    args: trainOn(rowsFile({ images: ["images/0.png"], messages: [asked(), answer] })),
    says: /^\S+\.jsonl, line 1: 0 <image> tags for 1 images; expected one for each$/,
  },
  {
    name: "the image token typed as text",
    args: trainOn(rowsFile({ messages: [{ role: "user", content: "<|image_pad|>" }, answer] })),
    says: /^example data-\d+\.jsonl:1: 1 image tokens for 0 pictures; expected one for each: .*$/,
  },
  {
    name: "one file, of which nothing is held out to be evaluated",
    args: ["cpu", "--lora", "--model", MODEL, "--data", DATA],
    says: /^--data \S+train\.jsonl: no sample is held out to be answered; name users with --u .*--test-data.*--no-eval\)$/,
  },
  {
    name: "conversations that are to be evaluated",
    args: ["cpu", "--lora", "--model", MODEL, "--data", DATA, "--test-data", DATA],
    says: /^train\.jsonl:2: conversations have no click point .*; evaluate user_<id>\.csv files, or .*--no-eval\)$/,
  },
  {
    name: "a sample in two splits",
    args: trainOn(rowsFile(GOOD, showing("0.png")), "--val-data", rowsFile(showing("2.png"), showing("0.png"))),
    says: /^data-\d+\.jsonl:2 \(training\) and data-\d+\.jsonl:2 \(validation\) are the same sample, .*--allow-overlap$/,
  },
  {
    name: "an embedded user that does not exist",
    entry: "vanillaEval",
    args: ["cpu", "--u", "900"],
    says: /^embedded users: there are users 1 to 83, not 900; choose among them with --u, or .*--data$/,
  },
];

const FLAGS: readonly Refusal[] = [
  {
    name: "an unknown flag",
    args: ["cpu", "--lroa"],
    says: /^finetuneGlobal: --lroa: unknown flag; did you mean --lora\?$/,
  },
  {
    name: "a flag of the other entry",
    entry: "vanillaEval",
    args: ["cpu", "--epochs", "2"],
    says: /^vanillaEval: --epochs: unknown flag; .*$/,
  },
  {
    name: "--lora-r without --lora",
    args: ["cpu", "--lora-r", "8"],
    says: /^finetuneGlobal: --lora-r needs --lora: full fine-tuning has no adapter; add --lora or leave it out$/,
  },
  {
    name: "several faults at once",
    args: ["gpu", "--lora", "--lr", "fast", "--epochs", "0"],
    says: /^finetuneGlobal: 3 faults\n {2}--lr: .*"fast"\n {2}--epochs: .*"0"\n {2}device: .*"gpu"$/,
  },
  {
    name: "devices of two kinds",
    args: ["cpu,0", "--lora"],
    says: /^finetuneGlobal: device: "cpu,0" mixes kinds of device; the slowest would set the pace: use one kind$/,
  },
];

describe("refused with one message, and nothing is left behind but the log that says it", { concurrency: 2 }, () => {
  for (const { name, entry = "finetuneGlobal", args, says } of [...MODELS, ...SAMPLES, ...FLAGS]) {
    test(name, async () => {
      const cwd = workingFolder();
      const { code, stdout, stderr } = await runEntry(entry, [...args, "--quiet"], cwd);
      assert.match(stderr, /[^\n]\n$/);
      assert.match(stderr.slice(0, -1), says);
      assert.deepEqual([code, stdout], [2, ""]);
      assert.ok(readdirSync(cwd).every((left) => left === "logs"));
      const logs = filesIn(cwd).map((log) => readFileSync(join(cwd, log), "utf8"));
      for (const log of logs) assert.ok(log.includes(stderr.split("\n")[0] ?? ""), log);
    });
  }
});

test("without --quiet the message is the last thing said", async () => {
  const cwd = workingFolder();
  const { code, stderr } = await runEntry("finetuneGlobal", trainOn("nowhere.jsonl"), cwd);
  assert.equal(code, 2);
  assert.match(stderr, /\nnowhere\.jsonl: not found; [^\n]+\n$/);
  assert.doesNotMatch(stderr, /^ +at /m);
});
