// The training loop: what it reports, when it stops, and what a broken step leaves behind.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { IGNORE } from "../../src/collator.ts";
import type { RemoteEngine } from "../../src/engine/start.ts";
import { isVision } from "../../src/model/parameters.ts";
import { FULL_TEXT } from "../../src/model/trainables.ts";
import { dropoutSeed } from "../../src/train/plan.ts";
import type { NamedArrays } from "../../src/train/replica.ts";
import { type BatchSource, type StepReport, type TrainerOptions, trainSteps } from "../../src/train/trainer.ts";
import { Interrupted, UserError } from "../../src/utils/errors.ts";
import { adapterOf, batchesOf, largestDifference, loadTiny, loraSpec, openEngine } from "../tiny.ts";

const tiny = await loadTiny();

const OPTIONS: TrainerOptions = {
  rows: 8,
  batchSize: 1,
  accumulation: 3,
  shuffle: true,
  seed: 3,
  schedule: { kind: "cosine", peak: 1e-2, warmupSteps: 1, totalSteps: 4 },
  lossNormalization: "token",
};

async function loraEngine(): Promise<RemoteEngine> {
  const engine = openEngine(tiny, loraSpec({ dropout: 0.1 }));
  await engine.setValues(adapterOf(tiny));
  return engine;
}

async function train(
  engine: RemoteEngine,
  options: Partial<TrainerOptions> = {},
  { doneSteps = 0, source = batchesOf(tiny, engine).source }: { doneSteps?: number; source?: BatchSource } = {},
): Promise<StepReport[]> {
  const reports: StepReport[] = [];
  for await (const report of trainSteps(engine, source, { ...OPTIONS, ...options }, doneSteps)) reports.push(report);
  return reports;
}

/** What does not depend on the clock. */
const numbersOf = (reports: readonly StepReport[]) =>
  reports.map(({ elapsedMs: _, waitShare: __, ...numbers }) => numbers);

const isCleared = async (engine: RemoteEngine): Promise<boolean> =>
  [...(await engine.gradients(1)).values()].every((values) => values.every((value) => value === 0));

test("reports: steps, epochs, rates, tokens without padding", async () => {
  const engine = await loraEngine();
  const told: string[] = [];
  const reports = await train(engine, {
    batchSize: 3,
    accumulation: 2,
    onMicroBatch: ({ step, done, of }) => told.push(`${step}: ${done}/${of}`),
  });
  assert.deepEqual(
    reports.map(({ step, epoch }) => [step, epoch]),
    [
      [1, 0.5],
      [2, 1],
      [3, 1.5],
      [4, 2],
    ],
  );
  assert.deepEqual(told, ["1: 1/2", "1: 2/2", "2: 1/1", "3: 1/2", "3: 2/2", "4: 1/1"]);
  assert.equal(reports[0]?.learningRate, 0);
  assert.equal(reports[1]?.learningRate, 1e-2);
  const tokens = tiny.encoded.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
  const supervised = tiny.encoded.reduce(
    (sum, { labels }) => sum + labels.filter((label) => label !== IGNORE).length,
    0,
  );
  for (const epoch of [reports.slice(0, 2), reports.slice(2)]) {
    assert.equal(
      epoch.reduce((sum, report) => sum + report.tokens, 0),
      tokens,
    );
    assert.equal(
      epoch.reduce((sum, report) => sum + report.supervisedTokens, 0),
      supervised,
    );
  }
  assert.ok(reports.every(({ elapsedMs, waitShare }) => elapsedMs > 0 && waitShare >= 0 && waitShare <= 1));
});

test("stopped and taken up again in another engine, it goes the same way to the last bit", async () => {
  const [whole, first, second] = [await loraEngine(), await loraEngine(), await loraEngine()];
  const expected = await train(whole);
  const early: StepReport[] = [];
  for await (const report of trainSteps(first, batchesOf(tiny, first).source, OPTIONS)) {
    early.push(report);
    if (report.step === 2) break;
  }
  await second.setState(structuredClone(await first.state()));
  const late = await train(second, {}, { doneSteps: 2 });
  assert.deepEqual(numbersOf([...early, ...late]), numbersOf(expected));
  assert.deepEqual(await second.state(), await whole.state());
  assert.ok((expected.at(-1)?.loss ?? 9) < (expected[0]?.loss ?? 0), "and it learns");
});

test("a moving average is resumed as well, and is what losses are told of", async () => {
  const engine = async (): Promise<RemoteEngine> => {
    const opened = openEngine(tiny, loraSpec(), { emaDecay: 0.9 });
    await opened.setValues(adapterOf(tiny));
    return opened;
  };
  const [whole, first, second, told] = [await engine(), await engine(), await engine(), openEngine(tiny, loraSpec())];
  await train(whole);
  for await (const { step } of trainSteps(first, batchesOf(tiny, first).source, OPTIONS)) if (step === 2) break;
  await second.setState(structuredClone(await first.state()));
  await train(second, {}, { doneSteps: 2 });
  assert.deepEqual(await second.state(), await whole.state());
  const { values, average } = await whole.state();
  assert.ok(average && largestDifference(values, average).share > 1e-3, "the average lags behind");
  await told.setValues(structuredClone(average));
  const batch = await batchesOf(tiny, told).batch([0, 1]);
  assert.deepEqual(await whole.evaluateLoss(batch), await told.evaluateLoss(batch));
});

test("a signal between two micro-batches ends it: the step under way is dropped", async () => {
  const [engine, untroubled] = [await loraEngine(), await loraEngine()];
  const abort = new AbortController();
  const reports: StepReport[] = [];
  await assert.rejects(
    async () => {
      const options: TrainerOptions = {
        ...OPTIONS,
        signal: abort.signal,
        onMicroBatch: ({ step, done }) => {
          if (step === 2 && done === 2) abort.abort();
        },
      };
      for await (const report of trainSteps(engine, batchesOf(tiny, engine).source, options)) reports.push(report);
    },
    (error: Error) => error instanceof Interrupted && error.message === "stopped before step 2 was done",
  );
  assert.deepEqual([reports.length, await isCleared(engine)], [1, true]);
  const rest = await train(engine, {}, { doneSteps: 1 });
  assert.deepEqual(numbersOf([...reports, ...rest]), numbersOf(await train(untroubled)));
});

test("an example without a token to train on, and one that cannot be read, are named; nothing stays behind", async () => {
  const engine = await loraEngine();
  const before = structuredClone(await engine.state());
  const { source } = batchesOf(tiny, engine);
  const untold: BatchSource = async (indices) => {
    const batch = await source(indices);
    return indices.includes(2) ? { ...batch, labels: batch.labels.map(() => IGNORE) } : batch;
  };
  await assert.rejects(
    train(engine, { shuffle: false }, { source: untold }),
    (error: Error) =>
      error instanceof UserError && /^step 1: no token to train on in .*train\.jsonl:3$/.test(error.message),
  );
  assert.ok(await isCleared(engine));
  const broken: BatchSource = async (indices) => {
    if (indices.includes(1)) throw new UserError("train.jsonl:2: images/1.png: not a picture");
    return source(indices);
  };
  await assert.rejects(train(engine, { shuffle: false }, { source: broken }), /train\.jsonl:2: images\/1\.png/);
  assert.ok(await isCleared(engine));
  assert.deepEqual(await engine.state(), before, "no half step was taken");
});

test("a loss that is no number ends the run and names the examples", async () => {
  const engine = await loraEngine();
  const values: NamedArrays = new Map([...adapterOf(tiny)].map(([name, v]) => [name, v.map(() => Number.NaN)]));
  await engine.setValues(values);
  await assert.rejects(
    train(engine, { shuffle: false, batchSize: 2 }),
    (error: Error) =>
      error instanceof UserError && /^step 1: the loss is NaN on .*:1, .*:2; a lower --lr/.test(error.message),
  );
});

/** An engine whose losses (or gradients) of some micro-batches are made no numbers. */
function faultyEngine(engine: RemoteEngine, faults: Readonly<Record<string, "loss" | "gradient">>): RemoteEngine {
  let at = { update: 0, microBatch: 0 };
  return new Proxy(engine, {
    get: (target, method) => {
      if (method === "accumulate")
        return async (...args: Parameters<RemoteEngine["accumulate"]>) => {
          const output = await target.accumulate(...args);
          const isFaulty = faults[`${at.update}.${at.microBatch++}`] === "loss";
          return isFaulty ? { ...output, lossSum: Number.POSITIVE_INFINITY } : output;
        };
      if (method === "clearGradients" || method === "update") {
        const fault = faults[`${at.update}`];
        at = { update: at.update + 1, microBatch: 0 };
        if (method === "update" && fault === "gradient")
          return async () => {
            await target.clearGradients();
            return Number.NaN;
          };
      }
      return Reflect.get(target, method);
    },
  });
}

test("skipping: a step with such a loss or gradient is left out, and the rest is as if its samples had not been", async () => {
  const [plain, faulty] = [await loraEngine(), await loraEngine()];
  const options = { shuffle: false, accumulation: 2, onNonFinite: "skip" } as const;
  const schedule = { kind: "constant", peak: 1e-2, warmupSteps: 0, totalSteps: 4 } as const;
  const reports = await train(faultyEngine(faulty, { "1.1": "loss", "2": "gradient" }), { ...options, schedule });
  assert.deepEqual(
    reports.map(({ step, fault }) => [step, fault?.replaceAll(/\S*train\.jsonl/g, "") ?? null]),
    [
      [1, null],
      [2, "the loss is Infinity on :4"],
      [3, "the gradient is not finite on :5, :6"],
      [4, null],
    ],
  );
  assert.deepEqual(
    reports.map(({ loss, gradNorm }) => [Number.isNaN(loss), Number.isNaN(gradNorm)]),
    [
      [false, false],
      [true, true],
      [true, true],
      [false, false],
    ],
  );
  // the same updates, with the same dropout, made by hand: the fourth step is AdamW's second
  const { source } = batchesOf(tiny, plain);
  for (const [update, indices, step] of [
    [1, [0, 1], 1],
    [2, [6, 7], 4],
  ] as const) {
    let total = 0;
    for (const [microBatch, index] of indices.entries()) {
      const { ids: _, ...batch } = await source([index]);
      const seed = dropoutSeed(OPTIONS.seed, step, microBatch);
      total += (await plain.accumulate(batch, { weight: 1, dropoutSeed: seed })).tokenCount;
    }
    await plain.update({ total, learningRate: 1e-2, step: update });
  }
  assert.deepEqual(await faulty.state(), await plain.state());
});

test("several micro-batches under way at once change neither reports nor faults nor state", async () => {
  const several = (engine: RemoteEngine): RemoteEngine =>
    new Proxy(engine, { get: (target, method) => (method === "lanes" ? async () => 3 : Reflect.get(target, method)) });
  const [one, many] = [await loraEngine(), await loraEngine()];
  const options = { accumulation: 3, onNonFinite: "skip" } as const;
  const faults = { "1.1": "loss", "2": "gradient" } as const;
  const expected = await train(faultyEngine(one, faults), options);
  assert.deepEqual(expected.map(({ fault }) => fault !== null), [false, true, true, false]); // biome-ignore format: one line
  assert.deepEqual(numbersOf(await train(faultyEngine(several(many), faults), options)), numbersOf(expected));
  assert.deepEqual(await many.state(), await one.state());

  const told: string[] = [];
  const broken = several(await loraEngine());
  await assert.rejects(
    train(faultyEngine(broken, { "0.1": "loss" }), { onMicroBatch: ({ done, of }) => told.push(`${done}/${of}`) }),
    /^UserError: step 1: the loss is Infinity on /,
  );
  assert.deepEqual([told, await isCleared(broken)], [["1/3", "2/3"], true]);
});

test("skipping ends where nothing but such steps is left", async () => {
  const engine = await loraEngine();
  await engine.setValues(new Map([...adapterOf(tiny)].map(([name, v]) => [name, v.map(() => Number.NaN)])));
  const schedule = { ...OPTIONS.schedule, totalSteps: 40 };
  await assert.rejects(
    train(engine, { schedule, onNonFinite: "skip" }),
    /^UserError: step 10: 10 steps in a row had to be left out, the last because the loss is NaN on .*jsonl:/,
  );
});

test("a dead engine's own reason is what comes out", async () => {
  const engine = new Proxy({} as RemoteEngine, {
    get: (_, method) =>
      method === "then"
        ? undefined
        : async () => {
            throw new Error("the thread is gone");
          },
  });
  const { source } = batchesOf(tiny, await loraEngine());
  await assert.rejects(train(engine, {}, { source }), /^Error: the thread is gone$/);
});

test("what is frozen stays as it is", async () => {
  const file = `${tiny.dir}/model/model.safetensors`;
  const digest = (): string => createHash("sha256").update(readFileSync(file)).digest("hex");
  const before = digest();
  const engine = openEngine(tiny, FULL_TEXT);
  const start = structuredClone((await engine.state()).values);
  const schedule = { kind: "constant", peak: 1e-3, warmupSteps: 0, totalSteps: 1 } as const;
  await train(engine, { schedule });
  const { values } = await engine.state();
  assert.deepEqual([...values.keys()].filter(isVision), []);
  for (const [name, now] of values) assert.notDeepEqual(now, start.get(name), `${name} was trained`);
  assert.equal(digest(), before);
});

test("weight decay shrinks weights, not biases and norms", async () => {
  const schedule = { kind: "constant", peak: 1e-3, warmupSteps: 0, totalSteps: 1 } as const;
  const trained = async (weightDecay: number): Promise<NamedArrays> => {
    const engine = openEngine(tiny, FULL_TEXT, { weightDecay });
    await train(engine, { schedule, accumulation: 1 });
    return structuredClone((await engine.state()).values);
  };
  const [plain, decayed] = [await trained(0), await trained(0.5)];
  for (const [name, values] of plain) {
    const isUnchanged = values.every((value, i) => value === decayed.get(name)?.[i]);
    assert.equal(isUnchanged, /norm/.test(name), name);
  }
});

test("without a learning rate nothing moves", async () => {
  const engine = await loraEngine();
  const before = structuredClone((await engine.state()).values);
  await train(engine, { schedule: { kind: "constant", peak: 0, warmupSteps: 0, totalSteps: 2 } });
  assert.deepEqual((await engine.state()).values, before);
});
