// Outputs of the vision tower on disk: the same bits, bounded, whole or not there, whatever processes and disks do.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FeatureFiles } from "../../src/engine/featureFiles.ts";
import type { PictureFeatures } from "../../src/model/feeds.ts";
import { newFolder, scratchFolder } from "../train/folders.ts";

const scratch = scratchFolder("feature-files");
let folders = 0;
const newRoot = (): string => newFolder(scratch, `root-${++folders}`);

/** Two DeepStack outputs; every number depends on the seed. */
const featuresOf = (seed: number, length = 24): PictureFeatures => {
  const numbers = (part: number) => Float32Array.from({ length }, (_, i) => Math.sin(seed * 31 + part * 7 + i) / 3);
  return { imageEmbeds: numbers(0), deepstack: [numbers(1), numbers(2)] };
};

function opened(root: string, maxBytes = 1e6, tower = "tower") {
  const notes: string[] = [];
  return { notes, files: new FeatureFiles({ root, tower, maxBytes, onNote: (note) => notes.push(note) }) };
}

const kept = (root: string): string[] =>
  readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((name) => statSync(join(root, name)).isFile())
    .sort();
const bytesIn = (root: string): number => kept(root).reduce((sum, name) => sum + statSync(join(root, name)).size, 0);

test("what was kept is found again, bit for bit, by another process's view of the folder", async () => {
  const root = newRoot();
  const odd = {
    imageEmbeds: Float32Array.of(-0, 1e-45, Number.NaN, Number.NEGATIVE_INFINITY),
    deepstack: [] as Float32Array[],
  };
  await opened(root).files.keep("a", featuresOf(1));
  await opened(root).files.keep("odd", odd);
  const { files, notes } = opened(root);
  assert.deepEqual(await files.find("a"), featuresOf(1));
  const bits = (values: Float32Array | undefined) => [...new Uint32Array(values?.slice().buffer ?? new ArrayBuffer(0))];
  assert.deepEqual(bits((await files.find("odd"))?.imageEmbeds), bits(odd.imageEmbeds));
  assert.equal(await files.find("b"), null);
  assert.equal(await opened(root, 1e6, "other tower").files.find("a"), null);
  assert.deepEqual(notes, []);
});

const DAMAGES: Readonly<Record<string, (file: string) => void>> = {
  "a bit of its data": (file) => {
    const bytes = readFileSync(file);
    bytes[bytes.length - 5] = (bytes[bytes.length - 5] ?? 0) ^ 1;
    writeFileSync(file, bytes);
  },
  "its end": (file) => truncateSync(file, statSync(file).size - 4),
  "all of it": (file) => truncateSync(file, 0),
  "its header": (file) => writeFileSync(file, readFileSync(file).subarray(3)),
  "the order of its parts": (file) =>
    writeFileSync(file, readFileSync(file, "latin1").replace("deepstack.0", "deepstack.9"), "latin1"),
};
for (const [what, damage] of Object.entries(DAMAGES)) {
  test(`a file that lost ${what} is told, removed and made again`, async () => {
    const root = newRoot();
    await opened(root).files.keep("a", featuresOf(1));
    damage(join(root, "tower/a.safetensors"));
    const { files, notes } = opened(root);
    assert.equal(await files.find("a"), null);
    assert.match(notes.join("\n"), /a\.safetensors: .*; it is made again$/);
    assert.deepEqual(kept(root), []);
    await files.keep("a", featuresOf(1));
    assert.deepEqual(await files.find("a"), featuresOf(1));
  });
}

test("the files of all towers stay within the bound; what was used longest ago goes first", async () => {
  const root = newRoot();
  await opened(root, 1e6, "old tower").files.keep("x", featuresOf(0));
  const size = bytesIn(root);
  utimesSync(join(root, "old tower/x.safetensors"), 1, 1);
  const bound = Math.round(8.5 * size);
  const { files, notes } = opened(root, bound);
  for (let i = 0; i < 7; i++) {
    await files.keep(`${i}`, featuresOf(i));
    utimesSync(join(root, `tower/${i}.safetensors`), 100 + i, 100 + i);
  }
  assert.equal(kept(root).length, 8);
  assert.deepEqual(await files.find("0"), featuresOf(0)); // and so used last
  await files.keep("7", featuresOf(7));
  assert.ok(!kept(root).includes("old tower/x.safetensors"), "another tower's went first");
  for (let i = 8; i < 40; i++) {
    await files.keep(`${i}`, featuresOf(i));
    assert.ok(bytesIn(root) <= bound, `${bytesIn(root)} bytes after ${i}, at most ${bound}`);
    if (i === 8) assert.deepEqual([await files.find("1"), await files.find("0")], [null, featuresOf(0)]);
  }
  assert.ok(kept(root).length >= 7, `${kept(root).length} are left`);
  assert.deepEqual(notes, []);
});

test("what is larger than the bound is not kept, and pushes nothing out", async () => {
  const root = newRoot();
  const { files, notes } = opened(root, 2000);
  await files.keep("a", featuresOf(1));
  await files.keep("large", featuresOf(2, 1000));
  assert.deepEqual(kept(root), ["tower/a.safetensors"]);
  assert.deepEqual(notes, []);
});

test("unfinished files go when nobody works on them any more", async () => {
  const root = newRoot();
  mkdirSync(join(root, "tower"));
  const [dead, alive] = ["a.safetensors.part-gone-1-1", "b.safetensors.part-here-2-1"];
  for (const name of [dead, alive]) writeFileSync(join(root, "tower", name), "half");
  utimesSync(join(root, "tower", dead), 1, 1);
  await opened(root).files.keep("c", featuresOf(1));
  assert.deepEqual(kept(root), [`tower/${alive}`, "tower/c.safetensors"]);
});

test("a folder that cannot be written is told once, and nothing fails", async () => {
  const root = join(newRoot(), "file");
  writeFileSync(root, "no folder");
  const { files, notes } = opened(root);
  for (const name of ["a", "b"]) await files.keep(name, featuresOf(1));
  assert.equal(await files.find("a"), null);
  assert.equal(notes.length, 1);
  assert.match(notes[0] ?? "", /cannot be kept there .*; later runs compute them again$/);
});

/** Keeps and finds pictures of a small set in one folder until it has done so 200 times; every one found must be whole. */
const HAMMER = `
  import { FeatureFiles } from ${JSON.stringify(import.meta.resolve("../../src/engine/featureFiles.ts"))};
  const [root, maxBytes, seed] = process.argv.slice(1);
  const numbers = (s, part) => Float32Array.from({ length: 4096 }, (_, i) => s * 1000 + part + i);
  const notes = [];
  const files = new FeatureFiles({ root, tower: "tower", maxBytes: Number(maxBytes), onNote: (n) => notes.push(n) });
  let [found, dice] = [0, Number(seed)];
  for (let i = 0; i < 200; i++) {
    dice = (Math.imul(dice, 1103515245) + 12345) & 0x7fffffff;
    const s = (dice >> 8) % 16;
    const one = await files.find(String(s));
    if (one === null) await files.keep(String(s), { imageEmbeds: numbers(s, 0), deepstack: [numbers(s, 1)] });
    else {
      found++;
      for (const [part, values] of [one.imageEmbeds, ...one.deepstack].entries()) {
        const expected = numbers(s, part);
        if (!values.every((v, k) => v === expected[k])) throw new Error("other numbers of " + s);
      }
    }
  }
  if (notes.length > 0) throw new Error(notes.join());
  console.log(found);`;

test("four processes in one folder: every file that is found is whole, and the bound holds but for what is under way", async () => {
  const root = newRoot();
  const one = 4096 * 4 * 2 + 300;
  const bound = 12 * one;
  const found = await Promise.all([1, 2, 3, 4].map((seed) => hammer([root, String(bound), String(seed)])));
  assert.ok(Math.min(...found) > 20, `found ${found}`);
  assert.ok(bytesIn(root) <= bound + 3 * (bound / 16 + one), `${bytesIn(root)} bytes, bound ${bound}`);
  assert.deepEqual(
    kept(root).filter((name) => name.includes(".part-")),
    [],
  );
});

function hammer(args: readonly string[]): Promise<number> {
  const command = ["--import", import.meta.resolve("tsx"), "--input-type=module", "--eval", HAMMER, ...args];
  const child = spawn(process.execPath, command, { stdio: ["ignore", "pipe", "pipe"] });
  let [out, err] = ["", ""];
  child.stdout.on("data", (text) => (out += text));
  child.stderr.on("data", (text) => (err += text));
  return new Promise((done, fail) =>
    child.on("close", (code) => (code === 0 ? done(Number(out)) : fail(new Error(err)))),
  );
}
