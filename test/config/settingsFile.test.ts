// Settings from a file: what is read, what is refused and where the message points.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import {
  describeConfig,
  parseEvalConfig,
  parsePersonConfig,
  parsePreviewConfig,
  parseTrainConfig,
} from "../../src/config.ts";
import { UserError } from "../../src/utils/errors.ts";
import { newFolder, scratchFolder } from "../train/folders.ts";

const folder = newFolder(scratchFolder("settings"), "files");
let count = 0;
function fileOf(text: string): string {
  const file = join(folder, `${++count}.toml`);
  writeFileSync(file, text);
  return file;
}
const train = (text: string, ...flags: string[]) => parseTrainConfig(["--config", fileOf(text), ...flags]);

/** Faults of a training file, without the folder. */
function faultsOf(text: string, ...flags: string[]): string[] {
  const file = fileOf(text);
  try {
    parseTrainConfig(["--config", file, ...flags]);
  } catch (thrown) {
    assert.ok(thrown instanceof UserError, String(thrown));
    const lines = thrown.message.split("\n");
    const faults = lines.length === 1 ? lines.map((line) => line.replace(/^\w+: /, "")) : lines.slice(1);
    return faults.map((line) => line.trim().replaceAll(file, "a.toml"));
  }
  assert.fail(`no fault in ${text}`);
}

test("keys are the names of the flags, with or without sections, and mean what the flags mean", () => {
  const flat = 'device = 0\nlora = true\nlora-r = 8\nlr = 1e-5\nu = [3, 5]\nshuffle = false\ndata = "a b.jsonl"\n';
  const { sources: _, config: __, ...fromFile } = train(flat);
  const {
    sources: ___,
    config: ____,
    ...fromFlags
  } = parseTrainConfig("0 --lora --lora-r 8 --lr 1e-5 --u 3 5 --no-shuffle --data".split(" ").concat("a b.jsonl"));
  assert.deepEqual(fromFile, fromFlags);
  assert.deepEqual(fromFile.users, [3, 4, 5]);
  const parts = [
    'device = "0"\n[model-and-files]\ndata = "a b.jsonl" # of last week\n\n[lora]\nlora = true\nlora-r = 8',
    "[optimizer]\r\nlr = 0.00001\r\nshuffle = false\r\n[evaluation]\r\nu = [\r\n  3,\r\n  5,\r\n]",
  ];
  const { sources: s, config: c, ...fromSections } = train(`\uFEFF${parts.join("\n")}`);
  assert.deepEqual(fromSections, fromFlags);
  assert.equal(train("lora.lora = true\nlora.lora-targets = '.*q_proj'").loraTargets, ".*q_proj");
  assert.deepEqual(train('lora = true\nlora-targets = ["q_proj", "v_proj"]').loraTargets, ["q_proj", "v_proj"]);
  assert.equal(train("resume = true").resume, true);
  assert.equal(train('resume = "c"').resume, "c");
  assert.equal(train("resume = false").resume, null);
  assert.equal(train("batch-size = 2.0").batchSize, 2);
  assert.equal(train("").lr, 5e-4);
});

test("an unknown key is refused with file, line and the nearest known one", () => {
  const cases: [string, string][] = [
    ["lr = 1\n\nlorra = true", "a.toml:3: lorra: unknown setting; did you mean lora?"],
    ["lora_r = 4", "a.toml:1: lora_r: unknown setting; did you mean lora-r?"],
    ["warmupSteps = 4", "a.toml:1: warmupSteps: unknown setting; did you mean warmup-steps?"],
    ["no-shuffle = true", "a.toml:1: no-shuffle: write shuffle = false"],
    ["colour = 4", "a.toml:1: colour: unknown setting; see --help"],
    ["devise = 4", "a.toml:1: devise: unknown setting; did you mean device?"],
    ["[run]\n# a comment\n[optimiser]\nlr = 1", "a.toml:3: optimiser: unknown section; did you mean [optimizer]?"],
    ["[lora]\nlora-r = 4\nlora-rr = 4\nlora = true", "a.toml:3: lora-rr: unknown setting; did you mean lora-r?"],
    ['config = "b.toml"', "a.toml:1: config: a settings file names no other; give --config on the command line"],
    ["[evaluation]\nlimit = 4", "a.toml:2: limit: is a setting of [data], not of [evaluation]; move it"],
    ["[run]\ndevice = 0", "a.toml:2: device: stands above the first section, not in [run]"],
    ["__proto__ = 4", "a.toml:1: __proto__: unknown setting; see --help"],
    ["constructor = 4", "a.toml:1: constructor: unknown setting; see --help"],
    ['u = [\n "x",\n "y"\n]\ntoString = 1', 'a.toml:1: u: expected a number or a list of them, got the text "x"'],
  ];
  for (const [text, fault] of cases) assert.equal(faultsOf(text)[0], fault);
});

test("a value of another type is refused with file, line, key, what is expected and what came", () => {
  const cases: [string, string][] = [
    ['\nlora-r = "8"', 'a.toml:2: lora-r: expected a whole number at least 1, got the text "8"'],
    ["lora-r = 8.5", 'a.toml:1: lora-r: expected a whole number at least 1, got "8.5"'],
    ["lora-r = 0", 'a.toml:1: lora-r: expected a whole number at least 1, got "0"'],
    ["seed = 12345678901234567890", 'a.toml:1: seed: expected a whole number at least 0, got "12345678901234567890"'],
    ["lr = true", "a.toml:1: lr: expected a number at least 0 and at most 1, got true"],
    ["lr = inf", 'a.toml:1: lr: expected a number at least 0 and at most 1, got "Infinity"'],
    ["lr = [1]", "a.toml:1: lr: expected a number at least 0 and at most 1, got a list"],
    ["lr = 2020-01-01", "a.toml:1: lr: expected a number at least 0 and at most 1, got a date"],
    ["[lr]\na = 1", "a.toml:1: lr: expected a number at least 0 and at most 1, got a table"],
    ["data = 5", "a.toml:1: data: expected a text, got the number 5"],
    ['data = ""', "a.toml:1: data: needs a value (FILE|DIR)"],
    ['lora = "yes"', 'a.toml:1: lora: expected true or false, got the text "yes"'],
    ["lora = 1", "a.toml:1: lora: expected true or false, got the number 1"],
    ['schedule = "step"', 'a.toml:1: schedule: expected one of linear, cosine, constant, got "step"'],
    ["schedule = 3", "a.toml:1: schedule: expected one of linear, cosine, constant, got the number 3"],
    ["u = []", "a.toml:1: u: needs a value (A B ...)"],
    ["u = [1, 2.5, 3]", 'a.toml:1: u: expected a whole number at least 0, got "2.5"'],
    ["u = [[1]]", "a.toml:1: u: expected a number or a list of them, got a list"],
    ["resume = 3.5", "a.toml:1: resume: expected true, or a text, got the number 3.5"],
    ["device = [0]", "a.toml:1: device: expected a text, or a GPU's number, got a list"],
  ];
  for (const [text, fault] of cases) assert.equal(faultsOf(text)[0], fault);
});

test("a file that is not there, or not TOML, is one message with its line", () => {
  assert.throws(() => parseTrainConfig(["--config", "nowhere.toml"]), /--config: nowhere\.toml cannot be read: ENOENT/);
  assert.throws(() => parseTrainConfig(["--config", folder]), /cannot be read: EISDIR/);
  assert.match(faultsOf("lr = 1\nlora-r 8\n")[0] ?? "", /^a\.toml:2: cannot be read as TOML: \w+/);
  assert.match(faultsOf("lr = 1\nlr = 2\n")[0] ?? "", /^a\.toml:2: cannot be read as TOML: /);
  assert.match(
    faultsOf("lora = true\n\n[lora]\nlora-r = 8\n")[0] ?? "",
    /^a\.toml:3: cannot be read as TOML: .*; a section .* of the same name/,
  );
});

test("all faults of file and flags come together", () => {
  assert.deepEqual(faultsOf("lorra = 1\nlr = 2\n[data]\nlimit = 0", "--keep", "0", "--adapter", "a"), [
    "a.toml:1: lorra: unknown setting; did you mean lora?",
    'a.toml:2: lr: expected a number at least 0 and at most 1, got "2"',
    'a.toml:4: limit: expected a whole number at least 1, got "0"',
    '--keep: expected a whole number at least 1, got "0"',
    "--adapter needs --lora: full fine-tuning has no adapter; add --lora or leave it out",
  ]);
});

test("default, then preset, then file, then flag: the last that speaks counts and is named", () => {
  const text = 'preset = "debug"\nlimit = 7\naccumulation = 5\n';
  const config = train(text, "--accumulation", "6", "--lora");
  const { limit, accumulation, saveSteps, keep, lr, preset, sources } = config;
  assert.deepEqual({ limit, accumulation, saveSteps, keep, lr, preset }, { limit: 7, accumulation: 6, saveSteps: 2, keep: 3, lr: 2e-3, preset: "debug" }); // biome-ignore format: one line
  const told = describeConfig(config);
  for (const line of [
    `limit = 7 (file ${config.config})`,
    "accumulation = 6 (flag)",
    "saveSteps = 2 (preset debug)",
    "keep = 3 (default)",
    "lr = 0.002 (embedded-model default)",
  ])
    assert.ok(told.includes(line), line);
  assert.equal(sources.preset, "file");
  assert.equal(train(text, "--preset", "quick").limit, 7);
  assert.equal(train(text, "--preset", "quick").saveSteps, 1000);
  assert.equal(train("lr = 1e-4", "--preset", "paper").lr, 1e-4);
  assert.equal(parseTrainConfig(["--preset", "paper"]).lr, 1e-6);
  assert.equal(parseTrainConfig(["--preset", "paper"]).sources.lr, "preset");
  assert.equal(train("model = 'm'").sources.lr, "default");
});

test("settings that say the same in other words replace one another", () => {
  const debugged = parseTrainConfig(["--preset", "debug", "--epochs", "2"]);
  assert.deepEqual([debugged.epochs, debugged.maxSteps, debugged.sources.maxSteps], [2, null, "default"]);
  const held = train("val-users = [74]", "--val-fraction", "0.1");
  assert.deepEqual([held.valUsers, held.valFraction], [null, 0.1]);
  assert.equal(train("max-image-tokens = 9", "--max-pixels", "1000").maxImageTokens, null);
  assert.deepEqual(faultsOf("epochs = 2\nmax-steps = 3"), [
    "--epochs does not go with --max-steps: each says when to stop; give one of the two",
  ]);
});

test("a file that says the default is no wish: an adapter's rank counts, full fine-tuning needs no --lora", () => {
  const config = train("lora-r = 4\nlora-alpha = 32\noverlong = 'refuse'\nmax-steps = 3");
  assert.deepEqual([config.sources.loraR, config.sources.maxSteps], ["default", "file"]);
  assert.match(faultsOf("lora-r = 5")[0] ?? "", /^--lora-r needs --lora/);
});

test("evaluation and preview read files too, each with its own settings", () => {
  assert.deepEqual(parseEvalConfig(["--config", fileOf("u = 3\nparse = 'strict'")]).users, [3]);
  assert.throws(() => parseEvalConfig(["--config", fileOf("lora = true")]), /:1: lora: unknown setting; see --help/);
  const page = parsePreviewConfig(["--config", fileOf("lora = true\n[preview]\nhtml = 'p.html'\nshow = 3")]);
  assert.deepEqual([page.lora, page.html, page.show], [true, "p.html", 3]);
  assert.equal(parseEvalConfig(["--preset", "debug"]).limit, 4);
});

test("the presets: debug takes few of the embedded users, paper is the published run", () => {
  const debug = parseTrainConfig(["--preset", "debug"]);
  assert.deepEqual([debug.trainUsers, debug.valUsers, debug.users], [[11, 12], [74], [1, 2]]);
  const own = parseTrainConfig(["--preset", "debug", "--data", "d.jsonl"]);
  assert.deepEqual([own.trainUsers, own.valUsers, own.users, own.limit], [null, null, null, 4]);
  const { loraR, loraAlpha, loraDropout, lr, epochs, batchSize, accumulation, warmupSteps, ...rest } = parseTrainConfig(
    ["0", "--lora", ...["--preset", "paper", "--model", "Qwen/Qwen3-VL-8B-Instruct"]],
  );
  assert.deepEqual(
    [loraR, loraAlpha, loraDropout, lr, epochs, batchSize, accumulation, warmupSteps],
    [4, 32, 0.1, 1e-6, 1, 1, 8, 50],
  );
  const { schedule, weightDecay, maxGradNorm, seed, saveSteps, evalSteps, keep, maxPixels, maxNewTokens } = rest;
  assert.deepEqual(
    [schedule, weightDecay, maxGradNorm, seed, saveSteps, evalSteps, keep, maxPixels, maxNewTokens],
    ["linear", 0.01, 1, 42, 1000, 1000, 3, 1_003_520, 512],
  );
  assert.deepEqual([rest.labelMode, rest.lossNormalization, rest.parse], ["pigg", "microbatch-mean", "compatible"]);
  assert.deepEqual([rest.metricForBestModel, rest.loadBest], ["eval_loss", true]);
  const person = parsePersonConfig(["--preset", "paper"]);
  assert.deepEqual(
    [person.lr, person.epochs, person.accumulation, person.warmupSteps, person.folds, person.foldBy, person.loraR],
    [2e-5, 3, 4, 5, 3, "step", 4],
  );
  assert.deepEqual([parsePersonConfig(["--preset", "quick"]).epochs, parsePersonConfig([]).epochs], [8, 8]);
});

test("no text, however odd, ends otherwise than in settings or one message that names the file", () => {
  const piece = fc.constantFrom(
    ...[
      "lr",
      "lora",
      "u",
      "device",
      "[lora]",
      "[[run]]",
      "a.b",
      '"x y"',
      "=",
      "=",
      "\n",
      "\n",
      "\r",
      " ",
      "#",
      ",",
      ".",
    ],
    ...["1", "-0", "1e400", "0x1F", "1_000", "nan", "true", "1979-13-99", "07:32:00", '"', '"""', "'", "'''", "\\u00"],
    ...["[", "]", "{", "}", "\\", "\u0000", "\uD800", "ü", "__proto__", "constructor", "=".repeat(3), "[".repeat(3000)],
  );
  const text = fc.array(piece, { maxLength: 14, size: "max" }).map((pieces) => pieces.join(""));
  const file = fileOf("");
  let refused = 0;
  fc.assert(
    fc.property(text, (written) => {
      writeFileSync(file, written);
      try {
        parseTrainConfig(["--config", file]);
      } catch (thrown) {
        assert.ok(thrown instanceof UserError, String(thrown));
        assert.match(thrown.message, /: \S+\.toml:\d+: |\n {2}\S+\.toml:\d+: /);
        refused++;
      }
    }),
    { numRuns: 500, seed: 8 },
  );
  assert.ok(refused > 250, `${refused} of 500 were refused`);
});
