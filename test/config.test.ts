import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Device,
  describeConfig,
  parseEvalConfig,
  parsePreviewConfig,
  parseTrainConfig,
  readDevices,
  readUsers,
  USER_SPLIT,
} from "../src/config.ts";
import { UserError } from "../src/utils/errors.ts";
import { HelpRequested } from "../src/utils/flags.ts";

const words = (line: string): string[] => line.split(" ").filter((word) => word !== "");
const train = (line: string) => parseTrainConfig(words(line));
const evaluate = (line: string) => parseEvalConfig(words(line));
const preview = (line: string) => parsePreviewConfig(words(line));

/** The lines of the one error that a command line gives, its entry's name taken off. */
function faultsOf(line: string, parse: (line: string) => unknown = train): string[] {
  try {
    parse(line);
  } catch (thrown) {
    assert.ok(thrown instanceof UserError, String(thrown));
    const [first = "", ...rest] = thrown.message.split("\n");
    return rest.length === 0 ? [first.replace(/^\w+: /, "")] : rest.map((fault) => fault.trim());
  }
  assert.fail(`no fault in: ${line}`);
}

test("the defaults of training", () => {
  const { sources, ...values } = train("1 --lora");
  assert.deepEqual(values, {
    devices: [{ kind: "gpu", index: 1 }],
    model: null,
    data: null,
    out: "out",
    logDir: "logs",
    checkpointDir: "checkpoints/global_agent_lora",
    format: null,
    imageRoot: null,
    allowRemoteImages: false,
    maxPixels: null,
    minPixels: null,
    maxImageTokens: null,
    maxVideoPixels: null,
    limit: null,
    labelMode: "official",
    config: null,
    preset: null,
    seed: 42,
    quiet: false,
    trainOn: "all",
    maxLength: null,
    overlong: "refuse",
    trainUsers: null,
    valUsers: null,
    valData: null,
    valFraction: null,
    testData: null,
    allowOverlap: false,
    lora: true,
    loraR: 4,
    loraAlpha: 32,
    loraDropout: 0.1,
    loraTargets: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    useRslora: false,
    useDora: false,
    adapter: null,
    train: null,
    lrVision: null,
    lrMerger: null,
    lrLlm: null,
    lrHead: null,
    loraplusLrRatio: null,
    emaDecay: null,
    optim: "adamw_torch",
    lr: 2e-3,
    schedule: "linear",
    warmupSteps: 10,
    weightDecay: 0.01,
    maxGradNorm: 1,
    epochs: 2,
    maxSteps: null,
    batchSize: 8,
    accumulation: 2,
    lossNormalization: "token",
    shuffle: true,
    packing: false,
    groupByLength: false,
    trainVision: false,
    gradientCheckpointing: false,
    baseQuant: null,
    visionCacheGb: null,
    saveSteps: 1000,
    evalSteps: 1000,
    keep: 3,
    metricForBestModel: "eval_loss",
    loadBest: true,
    earlyStoppingPatience: null,
    earlyStoppingThreshold: 0,
    onNonFinite: "stop",
    reportTo: "tensorboard",
    resume: null,
    resumeAnyway: false,
    users: null,
    parse: "compatible",
    maxNewTokens: null,
    sample: false,
    temperature: null,
    topP: null,
    topK: null,
    evalBatchSize: 8,
    evalGenerate: null,
    eval: true,
  });
  assert.deepEqual(
    Object.entries(sources)
      .filter(([, source]) => source === "flag")
      .map(([name]) => name),
    ["devices", "lora"],
  );
});

test("defaults that depend on model and mode", () => {
  const cases: [string, number, number, string, boolean][] = [
    ["--lora", 2e-3, 10, "checkpoints/global_agent_lora", false],
    ["", 5e-4, 10, "checkpoints/global_agent_full", true],
    ["--lora --model m", 1e-4, 50, "checkpoints/global_agent_lora", false],
    ["--model m", 1e-5, 50, "checkpoints/global_agent_full", true],
    ["--model m --lr 3e-6 --warmup-steps 0 --checkpoint-dir c --no-train-vision", 3e-6, 0, "c", false],
  ];
  for (const [line, lr, warmupSteps, checkpointDir, trainVision] of cases) {
    const config = train(line);
    assert.deepEqual(
      [config.lr, config.warmupSteps, config.checkpointDir, config.trainVision],
      [lr, warmupSteps, checkpointDir, trainVision],
      line,
    );
  }
});

test("every flag of training reaches its field", () => {
  const config = train(
    "cpu,cpu --lora --model m --data d --out o --checkpoint-dir c --seed 7 --u 3 1 2 --max-pixels 9000 --min-pixels 100 --label-mode pigg " +
      "--max-video-pixels 8000 --train-on last --max-length 900 --overlong cut-left --limit 5 --format parquet --image-root i --allow-remote-images --quiet --lora-r 8 --lora-alpha 16 --lora-dropout 0 --lora-targets q_proj v_proj --adapter a --use-rslora --use-dora --train merger --lr-vision .1 --lr-merger .2 --lr-llm .3 --lr-head .4 --loraplus-lr-ratio 16 --ema-decay .99 --lr .5 --max-steps 6 --batch-size 2 " +
      "--accumulation 4 --warmup-steps 2 --schedule cosine --weight-decay 0 --max-grad-norm 0.5 --loss-normalization microbatch-mean --no-shuffle --packing --group-by-length " +
      "--train-users 5 7 --val-users 4 --test-data t --allow-overlap --save-steps 10 --eval-steps 20 --keep 1 --metric-for-best-model eval_accuracy --no-load-best --early-stopping-patience 2 --early-stopping-threshold 0.01 --on-non-finite skip --report-to none --log-dir l --resume r --resume-anyway --gradient-checkpointing --base-quant int8 --optim adafactor --vision-cache-gb 2.5 --no-eval --parse strict --max-new-tokens 64 --sample --temperature 0.7 --top-p 0.8 --top-k 20 --eval-batch-size 3 --eval-generate 5",
  );
  const { sources, ...values } = config;
  assert.deepEqual(values, {
    devices: [{ kind: "cpu" }, { kind: "cpu" }],
    model: "m",
    data: "d",
    out: "o",
    logDir: "l",
    checkpointDir: "c",
    format: "parquet",
    imageRoot: "i",
    allowRemoteImages: true,
    maxPixels: 9000,
    minPixels: 100,
    maxImageTokens: null,
    maxVideoPixels: 8000,
    limit: 5,
    labelMode: "pigg",
    config: null,
    preset: null,
    seed: 7,
    quiet: true,
    trainOn: "last",
    maxLength: 900,
    overlong: "cut-left",
    trainUsers: [5, 6, 7],
    valUsers: [4],
    valData: null,
    valFraction: null,
    testData: "t",
    allowOverlap: true,
    lora: true,
    loraR: 8,
    loraAlpha: 16,
    loraDropout: 0,
    loraTargets: ["q_proj", "v_proj"],
    useRslora: true,
    useDora: true,
    adapter: "a",
    train: ["merger"],
    lrVision: 0.1,
    lrMerger: 0.2,
    lrLlm: 0.3,
    lrHead: 0.4,
    loraplusLrRatio: 16,
    emaDecay: 0.99,
    lr: 0.5,
    schedule: "cosine",
    warmupSteps: 2,
    optim: "adafactor",
    weightDecay: 0,
    maxGradNorm: 0.5,
    epochs: 1,
    maxSteps: 6,
    batchSize: 2,
    accumulation: 4,
    lossNormalization: "microbatch-mean",
    shuffle: false,
    packing: true,
    groupByLength: true,
    trainVision: false,
    gradientCheckpointing: true,
    baseQuant: "int8",
    visionCacheGb: 2.5,
    saveSteps: 10,
    evalSteps: 20,
    keep: 1,
    metricForBestModel: "eval_accuracy",
    loadBest: false,
    earlyStoppingPatience: 2,
    earlyStoppingThreshold: 0.01,
    onNonFinite: "skip",
    reportTo: "none",
    resume: "r",
    resumeAnyway: true,
    users: [3, 1, 2],
    parse: "strict",
    maxNewTokens: 64,
    sample: true,
    temperature: 0.7,
    topP: 0.8,
    topK: 20,
    evalBatchSize: 3,
    evalGenerate: 5,
    eval: false,
  });
  const untouched = Object.entries(sources)
    .filter(([, source]) => source === "default")
    .map(([name]) => name);
  assert.deepEqual(untouched, [
    "maxImageTokens",
    "config",
    "preset",
    "valData",
    "valFraction",
    "epochs",
    "trainVision",
  ]);
  assert.equal(train("--train-vision --epochs 3").epochs, 3);
  assert.deepEqual(
    [train("--resume").resume, train("--resume d").resume, train("--resume --quiet").resume],
    [true, "d", true],
  );
});

test("evaluation: its flags and no others", () => {
  const config = evaluate("0 --u 1 10 --seed 3 --checkpoint-dir c --label-mode official");
  assert.deepEqual(config.users, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.deepEqual(config.devices, [{ kind: "gpu", index: 0 }]);
  assert.equal(config.seed, 3);
  assert.deepEqual(faultsOf("--lora", evaluate), ["--lora: unknown flag; see --help"]);
  for (const parse of [evaluate, train]) {
    assert.deepEqual(faultsOf("--temperature 0.7 --top-k 3", parse), [
      "--temperature needs --sample: without it the likeliest token is taken each time",
      "--top-k needs --sample: without it the likeliest token is taken each time",
    ]);
    assert.deepEqual(faultsOf("--sample --top-p 0 --top-p 1.5", parse), ["--top-p: given 2 times; give it once"]);
    assert.deepEqual(faultsOf("--sample --top-p 1.5", parse), [
      '--top-p: expected a number above 0 and at most 1, got "1.5"',
    ]);
  }
});

test("a preview takes a training command's flags and gives the same settings", () => {
  const line = "0 --lora --model m --data d --lr 1e-3 --val-fraction 0.1 --max-length 9";
  const { sources: _, ...training } = train(line);
  const { sources: __, show, json, html, htmlSamples, gflops, ...same } = preview(line);
  assert.deepEqual(same, training);
  assert.deepEqual([show, json, html, htmlSamples, gflops], [null, false, null, 200, null]);
  assert.deepEqual([preview("--show 3").show, preview("--show a:1 b:2").show], [3, ["a:1", "b:2"]]);
  assert.deepEqual(faultsOf("--show 0", preview), ['--show: expected a whole number at least 1, got "0"']);
});

test("--u: two numbers are a range either way, other counts a list", () => {
  assert.deepEqual(readUsers(["3", "6"]), [3, 4, 5, 6]);
  assert.deepEqual(readUsers(["6", "3"]), [6, 5, 4, 3]);
  assert.deepEqual(readUsers(["4", "4"]), [4]);
  assert.deepEqual(readUsers(["4"]), [4]);
  assert.deepEqual(readUsers(["9", "1", "9", "4"]), [9, 1, 4]);
  assert.throws(() => readUsers(["1", "1000000000"]), /1 to 1000000000 are 1000000000 users; expected at most 100000/);
  assert.deepEqual(faultsOf("--u 1.5"), ['--u: expected a whole number at least 0, got "1.5"']);
  assert.deepEqual(faultsOf("--u -1 3"), ['--u: expected a whole number at least 0, got "-1"']);
  assert.deepEqual(faultsOf("--u"), ["--u: needs a value (A B ...)"]);
});

test("devices", () => {
  const cases: [string, Device[]][] = [
    ["0", [{ kind: "gpu", index: 0 }]],
    ["1,0", [{ kind: "gpu", index: 1 }, { kind: "gpu", index: 0 }]], // biome-ignore format: one line
    ["cpu", [{ kind: "cpu" }]],
    ["cpu,cpu", [{ kind: "cpu" }, { kind: "cpu" }]],
    ["webgpu", [{ kind: "webgpu" }]],
  ];
  for (const [word, devices] of cases) assert.deepEqual(readDevices(word), devices, word);
  assert.deepEqual(train("--lora").devices, [{ kind: "cpu" }]);
  assert.match(
    faultsOf("cuda")[0] ?? "",
    /^device: expected a GPU's number, cpu or webgpu, or several .*, got "cuda"$/,
  );
  assert.match(faultsOf("0,cpu")[0] ?? "", /^device: "0,cpu" mixes kinds/);
  assert.match(faultsOf("0,0")[0] ?? "", /^device: "0,0" names a device twice/);
  assert.match(faultsOf("0,")[0] ?? "", /got ""$/);
  assert.match(faultsOf("0 1 --lora")[0] ?? "", /^"1": belongs to no flag/);
});

test("--lora-targets by PEFT's rules", () => {
  const targets = (line: string) => train(`--lora --lora-targets ${line}`).loraTargets;
  assert.deepEqual(targets("q_proj"), ["q_proj"]);
  assert.deepEqual(targets("q_proj,v_proj"), ["q_proj", "v_proj"]);
  assert.deepEqual(targets("self_attn.q_proj mlp.up_proj"), ["self_attn.q_proj", "mlp.up_proj"]);
  assert.equal(targets(".*language_model.*\\.(q|v)_proj"), ".*language_model.*\\.(q|v)_proj");
  assert.match(faultsOf("--lora --lora-targets .*q_proj v_proj")[0] ?? "", /a regex stands alone, got 2 values/);
  assert.match(faultsOf("--lora --lora-targets (q")[0] ?? "", /expected names or a regex, got "\(q"/);
});

test("values out of bounds name the flag, the bounds and what came", () => {
  const cases: [string, string][] = [
    ["--lr abc", '--lr: expected a number at least 0 and at most 1, got "abc"'],
    ["--lr -1", '--lr: expected a number at least 0 and at most 1, got "-1"'],
    ["--lr 0x1", '--lr: expected a number at least 0 and at most 1, got "0x1"'],
    ["--lr Infinity", '--lr: expected a number at least 0 and at most 1, got "Infinity"'],
    ["--batch-size 0", '--batch-size: expected a whole number at least 1, got "0"'],
    ["--epochs 1.5", '--epochs: expected a whole number at least 1, got "1.5"'],
    ["--seed 1e30", '--seed: expected a whole number at least 0, got "1e30"'],
    ["--lora --lora-dropout 1", '--lora-dropout: expected a number at least 0 and below 1, got "1"'],
    ["--lora --lora-alpha 0", '--lora-alpha: expected a number above 0, got "0"'],
    ["--schedule step", '--schedule: expected one of linear, cosine, constant, got "step"'],
    ["--label-mode Official", '--label-mode: expected one of official, pigg, got "Official"'],
    ["--lora=yes", '--lora: is a switch and takes no value, got "yes"'],
    ["--no-shuffle=no", '--shuffle: is a switch and takes no value, got "no"'],
    ["--lora --no-lora", "--lora: given 2 times; give it once"],
    ["--limit", "--limit: needs a value (N)"],
    ["--out= --lora", "--out: needs a value (DIR)"],
    ["--lr 1 --lr 1", "--lr: given 2 times; give it once"],
  ];
  for (const [line, fault] of cases) assert.deepEqual(faultsOf(line), [fault]);
  assert.deepEqual(
    ["--lora=true", "--lora true", "--lora=false", "--lora false"].map((line) => train(line).lora),
    [true, true, false, false],
  );
  assert.equal(train("--lr=1e-5").lr, 1e-5);
});

test("unknown flags name the nearest known one", () => {
  const cases: [string, string][] = [
    ["--lorra", "--lorra: unknown flag; did you mean --lora?"],
    ["--learning-rate 1", "--learning-rate: unknown flag; see --help"],
    ["--maxsteps 3", "--maxsteps: unknown flag; did you mean --max-steps?"],
    ["--warmup_steps=3", "--warmup_steps: unknown flag; did you mean --warmup-steps?"],
    ["--no-shufle", "--no-shufle: unknown flag; did you mean --no-shuffle?"],
    ["--no-lr", "--no-lr: unknown flag; see --help"],
    ["--no-lora-", "--no-lora-: unknown flag; did you mean --no-lora?"],
    ["-lora", "-lora: flags start with two dashes; did you mean --lora?"],
    ["--a.b c", "--a.b: unknown flag; see --help"],
  ];
  for (const [line, fault] of cases) assert.deepEqual(faultsOf(line), [fault]);
});

test("impossible combinations", () => {
  const cases: [string, RegExp][] = [
    ["--lora-r 4", /^--lora-r needs --lora/],
    ["--lora-alpha 4", /^--lora-alpha needs --lora/],
    ["--lora-dropout 0", /^--lora-dropout needs --lora/],
    ["--lora-targets q_proj", /^--lora-targets needs --lora/],
    ["--adapter a", /^--adapter needs --lora/],
    ["--use-dora", /^--use-dora needs --lora/],
    ["--use-rslora", /^--use-rslora needs --lora/],
    ["--loraplus-lr-ratio 4", /^--loraplus-lr-ratio needs --lora/],
    ["--train llm --train-vision", /^--train and --train-vision say different things/],
    ["--base-quant int8", /^--base-quant needs --lora/],
    ["--lora --train-vision", /^--train-vision does not go with --lora/],
    ["--val-fraction 0.1 --val-data v", /^--val-users, --val-data and --val-fraction each/],
    ["--resume-anyway", /^--resume-anyway needs --resume/],
    ["--early-stopping-threshold 1", /^--early-stopping-threshold needs --early-stopping-patience/],
    ["--max-steps 3 --epochs 1", /^--epochs does not go with --max-steps/],
    ["--min-pixels 10 --max-pixels 9", /^--min-pixels is above --max-pixels/],
    ["--max-image-tokens 9 --max-pixels 9", /^--max-image-tokens does not go with --max-pixels/],
    ["--overlong drop", /^--overlong needs --max-length/],
  ];
  for (const [line, pattern] of cases) {
    const faults = faultsOf(line);
    assert.equal(faults.length, 1, line);
    assert.match(faults[0] ?? "", pattern);
  }
  assert.match(faultsOf("--min-pixels 10 --max-pixels 9", evaluate)[0] ?? "", /^--min-pixels is above/);
  assert.match(faultsOf("--max-image-tokens 1 --max-pixels 9", evaluate)[0] ?? "", /^--max-image-tokens does not go/);
  assert.equal(train("--max-image-tokens 9").maxImageTokens, 9);
  assert.equal(train("--min-pixels 9 --max-pixels 9 --lora --no-train-vision").minPixels, 9);
});

test("parts of the model: names in any order, once each; the tower is among them or not", () => {
  assert.deepEqual(train("--train head merger,merger").train, ["merger", "head"]);
  assert.deepEqual(faultsOf("--train towers"), ['--train: expected some of vision, merger, llm, head, got "towers"']);
  const vision = (line: string): boolean => train(line).trainVision;
  assert.deepEqual(["--train llm", "--train vision llm", "--lora --train vision", ""].map(vision), [
    false,
    true,
    true,
    true,
  ]);
  assert.equal(train("--train vision --train-vision").trainVision, true);
});

test("all faults come together, one line each, under the entry's name", () => {
  const line = "gpu extra --lorra --lr x --keep 0 --lora-r 3 --min-pixels 2 --max-pixels 1";
  assert.deepEqual(
    faultsOf(line).map((fault) => fault.split(/[: ]/)[0]),
    ["--lorra", "--lr", "--keep", "device", '"extra"', "--min-pixels", "--lora-r"],
  );
  assert.throws(() => train(line), /^UserError: finetuneGlobal: 7 faults\n {2}--lorra/);
  assert.throws(() => evaluate("--limit 0"), /^UserError: vanillaEval: --limit: expected/);
});

test("help names every flag with its default, and examples that parse", () => {
  for (const parse of [train, evaluate, preview]) {
    assert.throws(
      () => parse("--nonsense --help"),
      (thrown) => {
        assert.ok(thrown instanceof HelpRequested);
        const examples = thrown.message.split("Examples\n")[1]?.trim().split("\n") ?? [];
        assert.ok(examples.length >= 3);
        for (const example of examples) parse(example.replace(/^.*?\.ts /, "").split(/ {2,}/)[0] ?? "");
        assert.deepEqual(
          thrown.message.split("\n").filter((line) => line.length > 112),
          [],
        );
        return true;
      },
    );
  }
  const help = (() => {
    try {
      return String(train("--help"));
    } catch (thrown) {
      return String(thrown);
    }
  })();
  for (const name of Object.keys(train("").sources)) {
    if (name === "devices") continue;
    const flag = name === "users" ? "u" : name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    assert.match(help, new RegExp(`\n  --(no-)?${flag}( |\n)`), name);
  }
  assert.match(help, /--accumulation N .*\(default:\s+embedded model 2; others 8\)/);
  assert.match(
    help,
    /--lr X .*embedded model 0.002 with --lora,\s+0.0005 without; others 0.0001 with --lora, 0.00001 without/,
  );
});

test("the result is frozen through and through, and plain JSON", () => {
  const config = train("0 --lora --u 1 2 3");
  assert.ok(
    Object.isFrozen(config) &&
      Object.isFrozen(config.users) &&
      Object.isFrozen(config.devices[0]) &&
      Object.isFrozen(config.sources),
  );
  assert.deepEqual(JSON.parse(JSON.stringify(config)), config);
});

test("the description says each value and where it came from", () => {
  const lines = describeConfig(train("0,1 --lora --lr 1e-3 --data d.jsonl"));
  for (const line of [
    "devices = 0,1 (flag)",
    "lr = 0.001 (flag)",
    'data = "d.jsonl" (flag)',
    "accumulation = 2 (embedded-model default)",
    "warmupSteps = 10 (embedded-model default)",
  ]) {
    assert.ok(lines.includes(line), line);
  }
  assert.equal(lines.length, Object.keys(train("").sources).length);
});

test("the users' splits cover 83 users once", () => {
  const ids = Object.values(USER_SPLIT).flatMap(([from, to]) => readUsers([String(from), String(to)]));
  assert.deepEqual(
    [...ids].sort((a, b) => a - b),
    Array.from({ length: 83 }, (_, i) => i + 1),
  );
});
