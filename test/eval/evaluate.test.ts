// Several adapters over one open base: each answers into its own folder, and what is there is not answered again.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Example } from "../../src/data/example.ts";
import { readDataset } from "../../src/dataset.ts";
import { PictureStore } from "../../src/engine/pictures.ts";
import type { Answering } from "../../src/eval/answers.ts";
import { type EvaluationOptions, evaluateSamples, evaluateUsers } from "../../src/eval/evaluate.ts";
import type { Answer } from "../../src/eval/results.ts";
import { Interrupted } from "../../src/utils/errors.ts";
import { createLog } from "../../src/utils/log.ts";
import { adapterOf, loadTiny, loraSpec, openEngine } from "../tiny.ts";
import { scratchFolder } from "../train/folders.ts";

const scratch = scratchFolder("evaluate");
const tiny = await loadTiny();
const engine = openEngine(tiny, loraSpec(), { isTraining: false });
const pictures = new PictureStore(engine, tiny.processor.vision);
const examples: Example[] = (await readDataset(`${tiny.dir}/data/train.jsonl`)).map((example, i) => ({
  ...example,
  target: { point: [100 * i, 500], content: `element ${i}` },
}));
await engine.setParameters("golden", adapterOf(tiny));
await engine.setParameters("doubled", new Map([...adapterOf(tiny)].map(([name, values]) => [name, values.map((value) => 2 * value)]))); // biome-ignore format: one line

/** Asks the engine, and notes what it was asked. */
const asked: { ids: string[]; set: string | null | readonly (string | null)[] }[] = [];
const answering = (parameterSet: string | null): Answering => ({
  engine: {
    lanes: async () => 1,
    generate: async (prompts, settings, set) => {
      asked.push({ ids: prompts.map(({ id }) => id), set });
      return engine.generate(prompts, settings, set);
    },
  },
  ...{ processor: tiny.processor, pictures, parameterSet },
});
const generation = { maxNewTokens: 12, stopIds: [], padId: 0 };
const optionsFor = (dir: string, more: Partial<EvaluationOptions> = {}): EvaluationOptions => ({
  ...{ dir: join(scratch, dir), identity: { dir }, parse: "strict", generation, batchSize: 3 },
  ...{ log: createLog({ quiet: true }), ...more },
});
const answersIn = (dir: string): Answer[] => JSON.parse(readFileSync(join(scratch, dir, "out.json"), "utf8"));
const saidIn = (dir: string): string[] => answersIn(dir).map(({ pred_raw }) => pred_raw);

test("each adapter answers for itself, into a folder of its own", async () => {
  for (const set of [null, "golden", "doubled"]) {
    const metrics = await evaluateSamples(examples, answering(set), optionsFor(`fold-${set}`));
    assert.equal(metrics.n, examples.length);
    assert.deepEqual(asked.splice(0).map(({ set: of }) => of), Array(Math.ceil(examples.length / 3)).fill(set)); // biome-ignore format: one line
    assert.deepEqual(JSON.parse(readFileSync(join(scratch, `fold-${set}`, "metrics.json"), "utf8")), metrics);
  }
  assert.equal(new Set(["fold-null", "fold-golden", "fold-doubled"].map((dir) => saidIn(dir).join())).size, 3);
  assert.deepEqual(answersIn("fold-golden").map(({ gt_content }) => gt_content), examples.map((_, i) => `element ${i}`)); // biome-ignore format: one line
});

test("a folder that is whole is not answered again; of another identity it is", async () => {
  const before = saidIn("fold-golden");
  await evaluateSamples(examples, answering("golden"), optionsFor("fold-golden"));
  assert.deepEqual(asked.splice(0), []);
  assert.deepEqual(saidIn("fold-golden"), before);
  await evaluateSamples(examples, answering("doubled"), optionsFor("fold-golden", { identity: { other: true } }));
  assert.deepEqual(asked.splice(0).flatMap(({ ids }) => ids), examples.map(({ id }) => id)); // biome-ignore format: one line
  assert.deepEqual(saidIn("fold-golden"), saidIn("fold-doubled"));
});

test("broken off between two batches, the answers so far stay, and the rest is asked alone", async () => {
  const controller = new AbortController();
  const slow = answering("golden");
  const stopping: Answering = {
    ...slow,
    engine: {
      lanes: async () => 1,
      generate: (...args) => {
        controller.abort();
        return slow.engine.generate(...args);
      },
    },
  };
  const options = optionsFor("broken", { signal: controller.signal });
  await assert.rejects(evaluateSamples(examples, stopping, options), (thrown) => thrown instanceof Interrupted && /the answers so far are in .*broken, and the same command goes on from there$/.test(thrown.message)); // biome-ignore format: one line
  assert.deepEqual([answersIn("broken").length, existsSync(join(scratch, "broken/metrics.json"))], [3, false]);
  asked.splice(0);
  await evaluateSamples(examples, answering("golden"), optionsFor("broken", { identity: options.identity }));
  assert.deepEqual(asked.splice(0).flatMap(({ ids }) => ids), examples.slice(3).map(({ id }) => id)); // biome-ignore format: one line
});

test("batches of users do not mix, and every batch size gives the same answers", async () => {
  const users = new Map([[4, examples.slice(0, 5)], [2, examples.slice(5)]]); // biome-ignore format: one line
  const files = ["user_2/out.json", "user_4/out.json", "summary.json"];
  const written = [];
  for (const batchSize of [1, 3, 8]) {
    const options = optionsFor(`users-${batchSize}`, { batchSize });
    const summary = await evaluateUsers(users, answering("golden"), options);
    assert.deepEqual([summary.users["4"]?.n, summary.users["2"]?.n], [5, examples.length - 5]);
    written.push(files.map((file) => readFileSync(join(scratch, `users-${batchSize}`, file), "utf8")));
    assert.ok(asked.splice(0).every(({ ids }) => ids.length <= batchSize));
  }
  assert.deepEqual(written[1], written[0]);
  assert.deepEqual(written[2], written[0]);
});
