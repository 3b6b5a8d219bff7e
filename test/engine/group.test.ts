// Several devices: the numbers of one, to the last bit, and one clear error where a device is lost.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import type { Engine } from "../../src/engine/engine.ts";
import { EngineGroup, type Member } from "../../src/engine/group.ts";
import { PictureStore } from "../../src/engine/pictures.ts";
import { type RemoteEngine, startEngines } from "../../src/engine/start.ts";
import { FULL, type TrainableSpec } from "../../src/model/trainables.ts";
import { CPU } from "../../src/runtime/device.ts";
import { ADAMW_DEFAULTS } from "../../src/train/optimizer.ts";
import type { NamedArrays, ReplicaState } from "../../src/train/replica.ts";
import { type StepReport, type TrainerOptions, trainSteps } from "../../src/train/trainer.ts";
import { validationLoss } from "../../src/train/validation.ts";
import { InternalError } from "../../src/utils/errors.ts";
import { adapterOf, batchesOf, loadTiny, loraSpec } from "../tiny.ts";

const tiny = await loadTiny();
const stops: (() => Promise<void>)[] = [];
after(() => Promise.all(stops.map((stop) => stop())));

function start(devices: number, trainable: TrainableSpec): RemoteEngine {
  const training = { optimizer: { ...ADAMW_DEFAULTS, weightDecay: 0.01 }, maxGradNorm: 1, emaDecay: 0.9 };
  const options = { modelDir: `${tiny.dir}/model`, trainable, training };
  const { remote, stop } = startEngines(options, Array<typeof CPU>(devices).fill(CPU));
  stops.push(stop);
  return remote;
}

/** Eight samples, one without a picture and one with two; steps of three and then two micro-batches, the last of one sample. */
const OPTIONS: TrainerOptions = {
  ...{ rows: 8, batchSize: 2, accumulation: 3, shuffle: true, seed: 5, lossNormalization: "token" },
  schedule: { kind: "constant", peak: 2e-3, warmupSteps: 0, totalSteps: 4 },
};

interface Result {
  readonly state: ReplicaState;
  readonly reports: readonly Partial<StepReport>[];
  readonly validation: { readonly loss: number; readonly tokenCount: number };
}

async function trained(devices: number, spec: TrainableSpec, options: Partial<TrainerOptions> = {}): Promise<Result> {
  const engine = start(devices, spec);
  if (spec.kind === "lora") await engine.setValues(adapterOf(tiny));
  const { source } = batchesOf(tiny, engine, spec.kind === "full");
  const reports: Partial<StepReport>[] = [];
  for await (const { elapsedMs: _, waitShare: __, ...report } of trainSteps(engine, source, { ...OPTIONS, ...options }))
    reports.push(report);
  const validation = await validationLoss(engine, { validation: source, validationExamples: 7, scores: null }, OPTIONS);
  return { state: await engine.state(), reports, validation };
}

/** Whole tensors: sums in double make them the same bits; a float32 sum in another order would be off by 1e-4 after as few steps. */
function assertSame({ state, ...told }: Result, expected: Result): void {
  assert.deepEqual(told, { reports: expected.reports, validation: expected.validation });
  for (const kind of ["values", "average"] as const)
    for (const [name, values] of expected.state[kind] ?? [])
      assert.deepEqual(state[kind]?.get(name), values, `${kind} of ${name}`);
  for (const [group, arrays] of expected.state.moments)
    for (const [name, values] of arrays)
      assert.deepEqual(state.moments.get(group)?.get(name), values, `${group} of ${name}`);
}

describe("the same values, average, moments, losses and norms as on one device, in every bit", () => {
  test("LoRA with dropout: two devices, and three of which one has nothing to do in the shorter steps", async () => {
    const spec = loraSpec({ dropout: 0.1 });
    const expected = await trained(1, spec);
    assert.ok(expected.reports.length === 4 && expected.state.values.size === 42);
    assertSame(await trained(2, spec), expected);
    assertSame(await trained(3, spec), expected);
  });

  test("full fine-tuning, vision included: three devices, batches unequal, more devices than micro-batches", async () => {
    const options = { batchSize: 3, accumulation: 2 };
    const expected = await trained(1, FULL, options);
    assert.ok(expected.state.values.size > 60);
    assertSame(await trained(3, FULL, options), expected);
  });

  test("every micro-batch counts alike, where it is so wanted", async () => {
    const options = { lossNormalization: "microbatch-mean" } as const;
    assertSame(await trained(2, loraSpec(), options), await trained(1, loraSpec(), options));
  });
});

test("a state goes from one device to two and back", async () => {
  const [one, two, again] = [start(1, loraSpec()), start(2, loraSpec()), start(1, loraSpec())];
  const at = (engine: RemoteEngine, options: Partial<TrainerOptions>, doneSteps: number) =>
    stepsOf(engine, { ...OPTIONS, ...options }, doneSteps);
  const short = (totalSteps: number) => ({ schedule: { ...OPTIONS.schedule, totalSteps } });
  await one.setValues(adapterOf(tiny));
  await at(one, short(2), 0);
  await two.setState(await one.state());
  await at(two, short(3), 2);
  await again.setState(await two.state());
  await at(one, short(4), 2);
  await at(again, short(4), 3);
  assert.deepEqual(await again.state(), await one.state());
});

async function stepsOf(engine: RemoteEngine, options: TrainerOptions, doneSteps: number): Promise<void> {
  for await (const _ of trainSteps(engine, batchesOf(tiny, engine).source, options, doneSteps));
}

test("features do not depend on who computes them", async () => {
  const [one, two] = [start(1, loraSpec()), start(2, loraSpec())];
  for (const engine of [one, two]) await engine.setValues(adapterOf(tiny));
  const images = tiny.encoded.flatMap(({ images: own }) => own);
  const features = (engine: RemoteEngine) => new PictureStore(engine, tiny.processor.vision).features(images);
  assert.deepEqual(await features(two), await features(one));
});

/** Members that do as they are told: a call of `method` on member `rank` does what stands under "rank.method". */
function pretended(size: number, doing: Readonly<Record<string, () => Promise<unknown>>>) {
  const calls: string[] = [];
  const deaths: ((reason: Error) => void)[] = [];
  const members = Array.from({ length: size }, (_, rank): Member => {
    const remote = new Proxy({} as RemoteEngine, {
      get: (_target, method) => async () => {
        calls.push(`${rank}.${String(method)}`);
        return doing[`${rank}.${String(method)}`]?.();
      },
    });
    const died = new Promise<Error>((die) => deaths.push(die));
    return { name: `device cpu (${rank + 1} of ${size})`, remote, died };
  });
  let broken = 0;
  const group = new EngineGroup(members, () => broken++);
  return { group, calls, die: (rank: number) => deaths[rank]?.(new InternalError("a worker thread ended with code 7 while it was needed")), timesBroken: () => broken }; // biome-ignore format: one line
}

const BATCH = {} as Parameters<Engine["accumulate"]>[0];
const WEIGHT = { weight: 1, dropoutSeed: 1 };
const CHANGE = { total: 1, learningRate: 1, step: 1 };
const never = () => new Promise<never>(() => undefined);
const LOST = /^UserError: device cpu \(2 of 3\): a worker thread ended with code 7 while it was needed$/;

test("micro-batches are dealt in turn, each step from the first device on; changes go to all", async () => {
  const { group, calls } = pretended(3, {});
  for (let i = 0; i < 4; i++) await group.accumulate(BATCH, WEIGHT);
  await group.update(CHANGE).catch(() => undefined);
  await group.accumulate(BATCH, WEIGHT);
  assert.deepEqual(calls.filter((call) => call.endsWith("accumulate")), ["0", "1", "2", "0", "0"].map((rank) => `${rank}.accumulate`)); // biome-ignore format: one line
  assert.deepEqual(calls.filter((call) => call.endsWith("update")).length, 3);
});

test("a device that dies fails every call under way, names itself, and the others' state can still be saved", async () => {
  const state = { values: new Map(), moments: new Map() };
  const { group, die, timesBroken } = pretended(3, { "0.accumulate": never, "0.state": async () => state });
  const waiting = assert.rejects(group.accumulate(BATCH, WEIGHT), LOST);
  die(1);
  await waiting;
  assert.deepEqual([group.isBroken, timesBroken()], [true, 1]);
  await assert.rejects(group.accumulate(BATCH, WEIGHT), LOST);
  await assert.rejects(group.update(CHANGE), LOST);
  assert.deepEqual(await group.state(), state);
});

test("one that dies in the middle of an update leaves no state to be saved as that of a step", async () => {
  const { group, die } = pretended(3, { "0.update": async () => 1, "1.update": never, "2.update": never });
  const waiting = assert.rejects(group.update(CHANGE), LOST);
  die(1);
  await waiting;
  await assert.rejects(group.state(), LOST);
});

test("the state of the others is not waited for longer than a few seconds", async () => {
  const { group, die } = pretended(2, { "0.state": never });
  die(1);
  await new Promise(setImmediate);
  await assert.rejects(group.state(), /^InternalError: internal: device cpu \(1 of 2\) is still computing$/);
});

test("an error keeps its kind and gets the device's name; in an update it ends the waiting of the others", async () => {
  const refuse = async () => {
    throw new InternalError("the runtime refused a run");
  };
  const named = /^InternalError: internal: device cpu \(2 of 2\): the runtime refused a run$/;
  const { group, timesBroken } = pretended(2, { "1.accumulate": refuse, "1.update": refuse, "0.update": never });
  await group.accumulate(BATCH, WEIGHT);
  await assert.rejects(group.accumulate(BATCH, WEIGHT), named);
  assert.equal(timesBroken(), 0);
  await assert.rejects(group.update(CHANGE), named);
  assert.equal(timesBroken(), 1);
  await assert.rejects(group.state(), named);
});

test("devices whose gradients differ are found out", async () => {
  const { group } = pretended(2, { "0.update": async () => 1, "1.update": async () => 1.5 });
  await assert.rejects(group.update(CHANGE), /^InternalError: internal: the devices follow different gradients, of norms 1, 1.5$/); // biome-ignore format: one line
});

test("gradients of all devices together", async () => {
  const gradients = (value: number) => async (): Promise<NamedArrays> => new Map([["w", Float32Array.of(value, 1)]]);
  const { group } = pretended(2, { "0.gradients": gradients(2), "1.gradients": gradients(3) });
  assert.deepEqual(await group.gradients(1), new Map([["w", Float32Array.of(5, 2)]]));
});

test("a broken checkpoint is told as by one device", async () => {
  const messageFrom = async (devices: number): Promise<string> => {
    const { remote, stop } = startEngines(
      { modelDir: "test/fixtures", trainable: { kind: "none" } },
      Array<typeof CPU>(devices).fill(CPU),
    );
    stops.push(stop);
    return remote.trainableShapes().then(() => assert.fail(), String);
  };
  const [one, two] = [await messageFrom(1), await messageFrom(2)];
  assert.match(one, /^UserError: test\/fixtures/);
  assert.equal(two, one);
});
