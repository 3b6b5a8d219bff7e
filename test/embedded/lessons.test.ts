import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { type Classroom, drawLesson, type Lesson, nameTokensOf, SCREEN_GRID } from "../../scripts/pretrain/lesson.ts";
import { batchOf } from "../../scripts/pretrain/lessonBatch.ts";
import { lessonGraph } from "../../scripts/pretrain/lessonGraph.ts";
import { collate, IGNORE } from "../../src/collator.ts";
import { APPS, CONTROLS } from "../../src/embedded/apps.ts";
import { ALIASES } from "../../src/embedded/commands.ts";
import { loadIcons } from "../../src/embedded/icons.ts";
import { startEngine } from "../../src/engine/start.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import { openCheckpoint } from "../../src/model/checkpoint.ts";
import { FULL, trainablesOf } from "../../src/model/trainables.ts";
import { loadProcessor } from "../../src/processor.ts";
import { openSession } from "../../src/runtime/session.ts";
import { floats } from "../../src/runtime/tensor.ts";
import { ADAMW_DEFAULTS } from "../../src/train/optimizer.ts";
import { required } from "../../src/utils/errors.ts";
import { readFloat32 } from "../../src/utils/safetensors.ts";

const MODEL = path.resolve(import.meta.dirname, "../../assets/tiny-qwen3vl");
const processor = loadProcessor(MODEL);
const words = [...APPS, ...CONTROLS];
const room: Classroom = {
  processor,
  icons: await loadIcons(),
  nameTokens: nameTokensOf(
    processor,
    words.map(({ name }) => name),
  ),
};
const level = { apps: 12, allKinds: true, fullPrompts: 0.5, misnamed: 0, questions: 3 };
const lessons = Array.from({ length: 6 }, (_, i) => drawLesson(room, level, 7, "test", i));

test("a lesson's loss is that of its questions asked one by one, each behind its own picture", async () => {
  const checkpoint = openCheckpoint(MODEL);
  const spec = FULL;
  const { graph, trainable } = lessonGraph(checkpoint, trainablesOf(checkpoint, spec));
  const session = await openSession(encodeOnnx(graph), { device: { kind: "cpu" }, weightsDir: MODEL });
  const optimizer = { ...ADAMW_DEFAULTS, weightDecay: 0 };
  const alone = startEngine({
    modelDir: MODEL,
    device: { kind: "cpu" },
    trainable: spec,
    training: { optimizer, maxGradNorm: 1 },
  });
  try {
    const parameters = trainable.map((name) => {
      const entry = required(checkpoint.tensors.get(name), name);
      return [name, floats(readFloat32(entry), entry.shape)] as const;
    });
    const { feeds } = batchOf(lessons, checkpoint.architecture, processor);
    const { loss_sum, token_count } = await session.run({ ...feeds, ...Object.fromEntries(parameters) });
    const questions = lessons.flatMap((lesson) => questionsOf(lesson).map((encoded) => ({ lesson, encoded })));
    let [lossSum, tokens] = [0, 0];
    for (const { lesson, encoded } of questions) {
      const { batchSize, length, inputIds, labels, positionIds, segmentIds, imageRows } = collate(
        [encoded],
        processorOptions,
      );
      const pictures = [{ grid: SCREEN_GRID, pixelValues: lesson.pixelValues }];
      const batch = { batchSize, length, inputIds, labels, positionIds, segmentIds, imageRows, pictures };
      const output = await alone.remote.evaluateLoss(batch);
      lossSum += output.lossSum;
      tokens += output.tokenCount;
    }
    assert.equal(token_count?.data[0], tokens);
    const together = Number(loss_sum?.data[0]);
    assert.ok(Math.abs(together - lossSum) < 1e-5 * lossSum, `${together} together, ${lossSum} one by one`);
  } finally {
    await session.release();
    await alone.stop();
  }
});

const processorOptions = { ...processor, mergeSize: processor.vision.mergeSize };

/** The questions of a lesson as samples of their own. */
function questionsOf({ inputIds, labels, segments }: Lesson) {
  return Array.from({ length: Math.max(...segments) }, (_, i) => {
    const own = segments.flatMap((segment, t) => (segment === 0 || segment === i + 1 ? [t] : []));
    const pick = (values: readonly number[]): Int32Array => Int32Array.from(own, (t) => required(values[t], "token"));
    const images = [{ frames: [], grid: SCREEN_GRID }];
    return { id: String(i), user: null, inputIds: pick(inputIds), labels: pick(labels), images };
  });
}

test("the same seed draws the same lesson, another seed another one", () => {
  assert.deepEqual(drawLesson(room, level, 7, "test", 0), lessons[0]);
  assert.notDeepEqual(drawLesson(room, level, 8, "test", 0).inputIds, lessons[0]?.inputIds);
});

test("a digit is pointed at from the token before it, towards a token of the picture", () => {
  for (const { inputIds, labels, pointing, digits } of lessons) {
    assert.equal(pointing.length, digits.length);
    pointing.forEach(([from, to], i) => {
      assert.equal(from + 1, digits[i]);
      assert.match(processor.tokenizer.decode([required(labels[from + 1], "label")]), /^\d$/);
      assert.equal(inputIds[to], processor.imageTokenId);
    });
  }
});

test("a command that names something else leaves the name untrained and the point in place", () => {
  for (let i = 0; i < 4; i++) {
    const [right, wrong] = [0, 1].map((misnamed) => drawLesson(room, { ...level, misnamed }, 7, "misnamed", i));
    const trained = ({ labels = [] }: Partial<Lesson> = {}) => labels.filter((label) => label !== IGNORE);
    const names = new Set(room.nameTokens.values());
    assert.deepEqual(
      trained(wrong),
      trained(right).filter((label) => !names.has(label)),
    );
    assert.notDeepEqual(wrong?.inputIds, right?.inputIds);
  }
});

test("a lesson says no synonym and no private name: they are left for the users to teach", () => {
  const names = new Set(words.map(({ name }) => name));
  const kept = new Set(
    [...words.map(({ synonym }) => synonym), ...ALIASES].filter((word) => !names.has(word) && !word.includes(" ")),
  );
  for (let i = 0; i < 20; i++) {
    const lesson = drawLesson(room, { ...level, fullPrompts: 0 }, 9, "words", i);
    const text = processor.tokenizer.decode(lesson.inputIds.filter((_, t) => lesson.labels[t] === IGNORE));
    for (const word of text.split(/\W+/)) assert.ok(!kept.has(word), `"${word}" in ${text}`);
  }
});
