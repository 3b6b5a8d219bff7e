import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { test } from "node:test";
import { type EncodeAllOptions, encodeAll } from "../../src/app/encodeAll.ts";
import { encodeExample } from "../../src/collator.ts";
import type { ContentPart, Example, Message } from "../../src/data/example.ts";
import { loadProcessor } from "../../src/processor.ts";
import { Interrupted, UserError } from "../../src/utils/errors.ts";
import { createLog } from "../../src/utils/log.ts";
import { TINY_MODEL } from "../text/models.ts";
import { picture, pngOf } from "../vision/pictures.ts";

const processor = loadProcessor(TINY_MODEL);
const image: ContentPart = { type: "image", image: await pngOf(picture(256, 256)) };
const say = (role: Message["role"], content: string): Message => ({ role, content });
const ask = (id: string, content: string | ContentPart[], answer = "yes"): Example => ({
  ...{ id, user: null },
  messages: [{ role: "user", content }, say("assistant", answer)],
});

const EXAMPLES = [
  ask("short", "one"),
  ask("picture", [image]),
  ask("long", "one two three ".repeat(30)),
  ask("answer", "one", "yes ".repeat(60)),
];
const lengths = await Promise.all(
  EXAMPLES.map(async (one) => (await encodeExample(one, processor, { labelMode: "official" })).inputIds.length),
);

/** What comes back and what is said. */
async function encode(limit: Partial<EncodeAllOptions>, examples: readonly Example[] = EXAMPLES) {
  let said = "";
  const stream = new Writable({
    write(chunk, _, done) {
      said += String(chunk);
      done();
    },
  });
  const rest = { labelMode: "official", split: "training", maxLength: null, overlong: "refuse" } as const;
  const log = createLog({ quiet: false, stream });
  const encoded = await encodeAll(examples, processor, {
    ...rest,
    log,
    signal: new AbortController().signal,
    ...limit,
  });
  return { ids: encoded.map(({ id }) => id), encoded, said };
}

const rowsOf = (said: string): string[][] =>
  said
    .split("\n")
    .filter((line) => line.startsWith("│"))
    .map((line) =>
      line
        .split("│")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );

test("without a limit every example comes back, and nothing is said", async () => {
  const { ids, said } = await encode({});
  assert.deepEqual([ids, said], [["short", "picture", "long", "answer"], ""]);
});

test("the limits that the other tests stand on", () => {
  const [short = 0, ...longer] = lengths;
  assert.ok(short < 30 && longer.every((length) => length > 60), `${lengths}`);
});

test("refuse names the first, how many and the longest, and the ways out", async () => {
  await assert.rejects(encode({ maxLength: 60 }), (thrown: Error) => {
    assert.ok(thrown instanceof UserError);
    const expected =
      `--max-length 60: 3 of 4 training samples are longer; the first is example picture with ${lengths[1]} tokens, ` +
      `the longest has ${Math.max(...lengths)}: raise --max-length, make pictures smaller (--max-image-tokens), or say with --overlong`;
    assert.ok(thrown.message.startsWith(expected), thrown.message);
    return true;
  });
});

test("each policy leaves what it says, and a table counts it", async () => {
  const [short, drawn, long, answer] = lengths.map(String);
  const head = ["training samples", "number", "share", "longest, in tokens"];
  const whole = ["as they are", "1", "25.0 %", short];

  const dropped = await encode({ maxLength: 60, overlong: "drop" });
  assert.deepEqual(dropped.ids, ["short"]);
  const longest = String(Math.max(...lengths));
  assert.deepEqual(rowsOf(dropped.said), [head, whole, ["left out: too long", "3", "75.0 %", longest]]);
  assert.match(dropped.said, /^lengths under --max-length 60 --overlong drop\n/);

  const right = await encode({ maxLength: 60, overlong: "cut-right" });
  assert.deepEqual(right.ids, ["short", "answer"]);
  const emptied = String(Math.max(Number(drawn), Number(long)));
  assert.deepEqual(rowsOf(right.said), [
    head,
    whole,
    ["cut", "1", "25.0 %", answer],
    ["left out: nothing to learn after the cut", "2", "50.0 %", emptied],
  ]);

  const left = await encode({ maxLength: 60, overlong: "cut-left" });
  assert.deepEqual(left.ids, ["short", "picture", "long", "answer"]);
  assert.deepEqual(rowsOf(left.said)[2]?.slice(0, 2), ["cut", "3"]);
});

test("smaller pictures, and those samples that are too long without", async () => {
  const pictured = EXAMPLES.slice(0, 2);
  const { ids, encoded, said } = await encode({ maxLength: 60, overlong: "shrink-images" }, pictured);
  assert.deepEqual(ids, ["short", "picture"]);
  assert.ok((encoded[1]?.inputIds.length ?? 99) <= 60);
  assert.deepEqual(rowsOf(said)[2], ["with smaller pictures", "1", "50.0 %", String(lengths[1])]);
  await assert.rejects(
    encode({ maxLength: 60, overlong: "shrink-images" }),
    /^UserError: --max-length 60: 2 of 4 training samples are with the smallest pictures still longer; the first is example long/,
  );
});

test("where nothing is left, the run does not begin", async () => {
  await assert.rejects(
    encode({ maxLength: 3, overlong: "drop" }),
    /^UserError: --max-length 3: none of 4 training samples is left/,
  );
  assert.deepEqual((await encode({ maxLength: 3, overlong: "drop" }, [])).ids, []);
});

test("--train-on reaches every example", async () => {
  const two = { ...ask("two", "a"), messages: [...ask("", "a", "b").messages, ...ask("", "c", "d").messages] };
  const counts = await Promise.all(
    (["all", "last"] as const).map(async (trainOn) => {
      const { encoded } = await encode({ trainOn }, [two]);
      return encoded[0]?.labels.filter((label, t) => label === encoded[0]?.inputIds[t]).length;
    }),
  );
  assert.equal(counts[0], 2 * (counts[1] ?? 0));
});

test("an interruption ends the reading", async () => {
  await assert.rejects(encode({ signal: AbortSignal.abort() }), Interrupted);
});
