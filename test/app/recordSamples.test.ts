// What was asked lies beside the answers: ids, commands, and one small copy of each screen.
import assert from "node:assert/strict";
import { copyFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import sharp from "sharp";
import { recordSamples } from "../../src/app/recordSamples.ts";
import type { Example } from "../../src/dataset.ts";
import { readSamples } from "../../src/eval/sampleList.ts";
import { commandOf, groundingPrompt } from "../../src/text/groundingPrompt.ts";
import { createLog } from "../../src/utils/log.ts";
import { newFolder, scratchFolder } from "../train/folders.ts";

const scratch = scratchFolder("samples");
const log = createLog({ quiet: true });
const { signal } = new AbortController();

async function picture(name: string, width: number, height: number, background: string): Promise<string> {
  const path = join(scratch, name);
  await sharp({ create: { width, height, channels: 3, background } })
    .png()
    .toFile(path);
  return path;
}

const exampleOf = (id: string, text: string, ...paths: readonly string[]): Example => ({
  id,
  user: "1",
  messages: [
    {
      role: "user",
      content: [
        ...paths.map((path) => ({ type: "image" as const, image: { kind: "file" as const, path } })),
        { type: "text", text },
      ],
    },
    { role: "assistant", content: "here" },
  ],
  target: { point: [1, 2], content: "x" },
});

test("one row a sample; equal screens are kept once, the last picture of a prompt is the screen", async () => {
  const out = newFolder(scratch, "out");
  const [tall, wide] = [await picture("tall.png", 300, 900, "red"), await picture("wide.png", 800, 100, "blue")];
  const same = join(scratch, "same.png");
  copyFileSync(tall, same);
  const folder = join(out, "qwen3_vanilla/user_1");
  const examples = [
    { ...exampleOf("a:1", groundingPrompt('open "mail"\n{now}'), wide, tall), episode: "7" },
    exampleOf("a:2", "Which one?", same),
    exampleOf("a:3", "No picture"),
    exampleOf("a:4", "Wide", wide),
  ];
  await recordSamples(new Map([[folder, examples], [join(out, "again"), examples.slice(1, 2)]]), { out, log, signal }); // biome-ignore format: one line
  const rows = (await readSamples(folder)) ?? assert.fail();
  assert.deepEqual(
    rows.map(({ id, command, episode }) => [id, command, episode]),
    [["a:1", 'open "mail"\n{now}', "7"], ["a:2", "Which one?", null], ["a:3", "No picture", null], ["a:4", "Wide", null]], // biome-ignore format: one line
  );
  const [first, second, third, fourth] = rows.map(({ screen }) => screen);
  assert.deepEqual([first?.width, first?.height], [300, 900]);
  assert.deepEqual([second, third], [first, null]);
  assert.deepEqual((await readSamples(join(out, "again")))?.[0]?.screen, first);
  assert.equal(readdirSync(join(out, "screens")).length, 2);
  const small = await sharp(join(out, fourth?.file ?? "")).metadata();
  assert.deepEqual([small.format, small.width, small.height], ["jpeg", 400, 50]);

  const copy = join(out, first?.file ?? "");
  const { mtimeMs } = statSync(copy);
  await recordSamples(new Map([[folder, examples]]), { out, log, signal });
  assert.equal(statSync(copy).mtimeMs, mtimeMs, "a copy that is there is not made again");
});

test("a damaged picture is told with its sample; a stop leaves no list", async () => {
  const out = newFolder(scratch, "broken");
  const path = join(scratch, "broken.png");
  writeFileSync(path, "no picture");
  const folders = new Map([[join(out, "user_1"), [exampleOf("a:9", "Which?", path)]]]);
  await assert.rejects(recordSamples(folders, { out, log, signal }), /^UserError: example a:9: .*broken\.png/);
  const whole = new Map([[join(out, "user_1"), [exampleOf("a:1", "Which?", await picture("ok.png", 9, 9, "red"))]]]);
  await assert.rejects(recordSamples(whole, { out, log, signal: AbortSignal.abort() }), /^Interrupted: stopped while copying screens/); // biome-ignore format: one line
  assert.equal(await readSamples(join(out, "user_1")), null);
});

test("a command is read back from its prompt, and from nothing else", () => {
  for (const command of ["open the cart", "", "a\nb ### Output (Example)", groundingPrompt("twice")])
    assert.equal(commandOf(groundingPrompt(command)), command);
  assert.equal(commandOf("open the cart"), null);
  assert.equal(commandOf(groundingPrompt("x").slice(1)), null);
});
