// Greedy answers: whatever the batch, and as if the prompt were read anew for each token.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { PictureStore } from "../../src/engine/pictures.ts";
import type { RemoteEngine } from "../../src/engine/start.ts";
import { continued, type DecoderPrompt } from "../../src/eval/decoding.ts";
import type { GenerationSettings } from "../../src/eval/generator.ts";
import { decoderPrompt } from "../../src/eval/prompts.ts";
import type { NamedArrays } from "../../src/train/replica.ts";
import { required, UserError } from "../../src/utils/errors.ts";
import { adapterOf, collateOptions, loadTiny, loraSpec, openEngine } from "../tiny.ts";

const tiny = await loadTiny();
const golden = JSON.parse(readFileSync(`${tiny.dir}/golden.json`, "utf8")) as {
  samples: { prompt_ids: number[]; greedy: number[] }[];
  lora: { greedy0: number[] };
};
const engine = openEngine(tiny, loraSpec(), { isTraining: false });
const pictures = new PictureStore(engine, tiny.processor.vision);
const options = { ...collateOptions(tiny), pictures };
const prompts = await Promise.all(
  golden.samples.map(({ prompt_ids: ids }, k) => {
    const { id, user, images } = required(tiny.encoded[k], "example");
    return decoderPrompt({ id, user, inputIds: Int32Array.from(ids), images }, options);
  }),
);
const promptOf = (k: number): DecoderPrompt => required(prompts[k], `prompt ${k}`);

const generate = (
  of: readonly DecoderPrompt[],
  settings: Partial<GenerationSettings> = {},
  parameters: string | null = null,
): Promise<number[][]> =>
  engine.generate(of, { maxNewTokens: 24, stopIds: [], padId: tiny.processor.padTokenId, ...settings }, parameters);

test("eight prompts of unequal length at once answer as transformers does one by one", async () => {
  assert.ok(new Set(prompts.map(({ inputIds }) => inputIds.length)).size > 4);
  const expected = golden.samples.map(({ greedy }) => greedy);
  assert.deepEqual(await generate(prompts), expected);
  assert.deepEqual(await generate(prompts.toReversed()), expected.toReversed());
  for (const k of [0, 2, 3]) assert.deepEqual(await generate([promptOf(k)]), [expected[k]]);
});

test("what fills up a short prompt does not matter", async () => {
  const two = [promptOf(0), promptOf(2)];
  assert.deepEqual(await generate(two, { padId: 5 }), await generate(two));
});

async function largestOf(remote: RemoteEngine, prompt: DecoderPrompt): Promise<number> {
  const logits = await remote.logits(prompt, null);
  const last = logits.subarray(-logits.length / prompt.inputIds.length);
  return last.indexOf(last.reduce((max, value) => Math.max(max, value)));
}

test("the cache changes nothing: reading all anew gives the same next token", async () => {
  for (const k of [2, 3]) {
    const [answer = []] = await generate([promptOf(k)], { maxNewTokens: 8 });
    for (let made = 0; made < answer.length; made++)
      assert.equal(
        await largestOf(engine, continued(promptOf(k), answer.slice(0, made))),
        answer[made],
        `token ${made}`,
      );
  }
});

test("an answer ends with the token that stops it, each at its own place", async () => {
  const whole = await generate(prompts);
  const stopIds = [required(whole[0]?.[5], "token"), required(whole[3]?.[2], "token")];
  const cut = (answer: readonly number[]) => {
    const end = answer.findIndex((token) => stopIds.includes(token));
    return end < 0 ? answer : answer.slice(0, end + 1);
  };
  const stopped = await generate(prompts, { stopIds });
  assert.deepEqual(stopped, whole.map(cut));
  assert.ok(new Set(stopped.map((answer) => answer.length)).size > 1);
});

const SAMPLING = { temperature: 1.5, topK: 0, topP: 0.95, seed: 11 };

test("drawn answers follow from seed and sample alone, not from batch or order", async () => {
  const together = await generate(prompts, { sampling: SAMPLING });
  const alone = [];
  for (const prompt of prompts) alone.push(...(await generate([prompt], { sampling: SAMPLING })));
  assert.deepEqual(together, alone);
  assert.deepEqual((await generate(prompts.toReversed(), { sampling: SAMPLING })).toReversed(), alone);
  assert.notDeepEqual(await generate(prompts, { sampling: { ...SAMPLING, seed: 12 } }), alone);
  assert.notDeepEqual(await generate(prompts), alone);
  const twins = await generate([promptOf(0), { ...promptOf(0), id: "another" }], { sampling: SAMPLING });
  assert.notDeepEqual(twins[0], twins[1], "the same question under another id is drawn anew");
});

test("one likeliest token to draw from is the greedy answer", async () => {
  assert.deepEqual(await generate(prompts, { sampling: { ...SAMPLING, topK: 1 } }), await generate(prompts));
});

test("at most so many tokens", async () => {
  const whole = await generate(prompts.slice(0, 3));
  for (const maxNewTokens of [1, 2, 7])
    assert.deepEqual(
      await generate(prompts.slice(0, 3), { maxNewTokens }),
      whole.map((answer) => answer.slice(0, maxNewTokens)),
    );
});

test("adapters are told apart by name; one of zeros, or none, is the base", async () => {
  const adapter = adapterOf(tiny);
  const zeros: NamedArrays = new Map([...adapter].map(([name, values]) => [name, new Float32Array(values.length)]));
  await engine.setParameters("adapter", adapter);
  await engine.setParameters("zeros", zeros);
  const base = golden.samples[0]?.greedy;
  assert.deepEqual(await generate([promptOf(0)], {}, "adapter"), [golden.lora.greedy0]);
  assert.notDeepEqual(golden.lora.greedy0, base);
  assert.deepEqual(await generate([promptOf(0)], {}, "zeros"), [base]);
  assert.deepEqual(await generate([promptOf(0)], {}, null), [base]);
  await engine.setParameters("adapter", null);
  await assert.rejects(generate([promptOf(0)], {}, "adapter"), /parameter set adapter is missing/);
});

test("adapters of several users side by side answer as each does alone", async () => {
  const adapter = adapterOf(tiny);
  const half: NamedArrays = new Map([...adapter].map(([name, v]) => [name, name.includes("lora_B") ? v.map((x) => x / 2) : v])); // biome-ignore format: one line
  await engine.setParameters("adapter", adapter);
  await engine.setParameters("half", half);
  const users = prompts.map((_, i) => ["adapter", null, "half"][i % 3] ?? null);
  const alone = [];
  for (const [i, user] of users.entries()) alone.push(...(await generate([promptOf(i)], {}, user)));
  const settings = { maxNewTokens: 24, stopIds: [], padId: tiny.processor.padTokenId };
  assert.deepEqual(await engine.generate(prompts, settings, users), alone);
  assert.deepEqual((await engine.generate(prompts.toReversed(), settings, users.toReversed())).toReversed(), alone);
  for (const user of ["adapter", null, "half"])
    assert.notDeepEqual(await generate(prompts, {}, user), alone, `${user} alone gives other answers`);
  for (const name of ["adapter", "half"]) await engine.setParameters(name, null);
  await assert.rejects(engine.generate(prompts, settings, [null]), /1 sets of parameters came with 8 prompts/);
});

test("what is being trained answers by default", async () => {
  const training = openEngine(tiny, loraSpec());
  await training.setValues(adapterOf(tiny));
  const settings = { maxNewTokens: 24, stopIds: [], padId: 0 };
  assert.deepEqual(await training.generate([promptOf(0)], settings, null), [golden.lora.greedy0]);
});

test("logits that are no numbers are no answer", async () => {
  const damaged: NamedArrays = new Map([...adapterOf(tiny)].map(([name, v]) => [name, v.map(() => Number.NaN)]));
  await engine.setParameters("damaged", damaged);
  await assert.rejects(
    generate([promptOf(2)], {}, "damaged"),
    (error: Error) => error instanceof UserError && /logits are not numbers/.test(error.message),
  );
});
