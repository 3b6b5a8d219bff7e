// Files of weights in few bits: made once, found whole, made again where they are damaged, by one process or several.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  appendFileSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { dirname, isAbsolute, join, relative } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { type Checkpoint, openCheckpoint, weightsDir, withQuantised } from "../../../src/model/checkpoint.ts";
import { formOf, quantise } from "../../../src/model/quantised/matrix.ts";
import { isForGradients, PARTS, type QuantPart, quantisedNames } from "../../../src/model/quantised/parts.ts";
import { openQuantised, quantisedFiles } from "../../../src/model/quantised/store.ts";
import { Interrupted, required, UserError } from "../../../src/utils/errors.ts";
import { readFloat32, readFloat32Rows, readTensorBytes } from "../../../src/utils/safetensors.ts";
import { newFolder, scratchFolder, shardedBf16 } from "../../train/folders.ts";

const MODEL = "test/fixtures/tiny-qwen3vl/model";
const scratch = scratchFolder("base-quant");
const checkpoint = openCheckpoint(MODEL);

interface Made {
  readonly files: { readonly [part in QuantPart]?: string };
  readonly notes: readonly string[];
  /** Parts that were written. */
  readonly written: ReadonlySet<string>;
}

async function make(
  roots: readonly string[],
  parts: readonly QuantPart[] = ["text"],
  of: Checkpoint = checkpoint,
): Promise<Made> {
  const [notes, written] = [[] as string[], new Set<string>()];
  const { files } = await quantisedFiles(of, {
    ...{ kind: "int8", parts, roots },
    onNote: (note) => notes.push(note),
    onProgress: ({ part }) => written.add(part),
  });
  return { files, notes, written };
}

test("every matrix of every part is in its file, as `quantise` makes it, from float32 and from bfloat16 in shards", async () => {
  const sharded = await shardedBf16(newFolder(scratch, "sharded"));
  for (const of of [checkpoint, sharded]) {
    const { files } = await make([newFolder(scratch, `all-${of === sharded}`)], PARTS, of);
    for (const areForGradients of [false, true]) {
      const entries = openQuantised({ files }, areForGradients);
      const names = PARTS.filter((part) => isForGradients(part) === areForGradients).flatMap((part) =>
        quantisedNames(of.architecture, "int8", part),
      );
      assert.deepEqual([...entries.keys()].sort(), [...names].sort());
      for (const name of names) {
        const tensor = required(of.tensors.get(name), name);
        const [rows = 0, columns = 0] = tensor.shape;
        const read = (start: number, end: number): Float32Array => readFloat32Rows(tensor, start, end);
        const { values, scales, zeroPoints } = quantise({ rows, columns, read }, "int8", areForGradients);
        const entry = required(entries.get(name), name);
        assert.deepEqual(readFloat32(entry.scales), scales, name);
        const kept = readTensorBytes(entry.values);
        assert.deepEqual(Buffer.compare(kept, new Uint8Array(values.buffer)), 0, name);
        assert.deepEqual(
          entry.zeroPoints && [...readTensorBytes(entry.zeroPoints)],
          zeroPoints && [...zeroPoints],
          name,
        );
        assert.equal(entry.scales.offset % 4, 0);
        assert.equal(formOf("int8", columns).kind, columns < 512 ? "blocks" : "rows");
      }
    }
  }
});

test("found the second time; other weights, kinds and places have files of their own", async () => {
  const root = newFolder(scratch, "twice");
  const first = await make([root]);
  assert.deepEqual([...first.written], ["text"]);
  const second = await make([root]);
  assert.deepEqual(
    { files: second.files, notes: second.notes, written: [...second.written] },
    { files: first.files, notes: [], written: [] },
  );

  const copy = join(newFolder(scratch, "copied"), "model");
  cpSync(MODEL, copy, { recursive: true });
  assert.deepEqual((await make([root], ["text"], openCheckpoint(copy))).files, first.files); // the same bytes elsewhere
  const weights = join(copy, "model.safetensors");
  const bytes = readFileSync(weights);
  bytes.writeUInt8(bytes.readUInt8(bytes.length - 3) ^ 1, bytes.length - 3);
  writeFileSync(weights, bytes);
  assert.notEqual((await make([root], ["text"], openCheckpoint(copy))).files.text, first.files.text);
  const int4 = await quantisedFiles(checkpoint, { kind: "int4", parts: ["text"], roots: [root] });
  assert.notEqual(int4.files.text, first.files.text);
});

const DAMAGE: Readonly<Record<string, { readonly harm: (file: string) => void; readonly says: RegExp }>> = {
  "cut off": {
    harm: (file) => truncateSync(file, 1000),
    says: /damaged: it has 1000 bytes, made were \d+; it is made again$/,
  },
  grown: { harm: (file) => appendFileSync(file, "x"), says: /damaged: it has \d+ bytes/ },
  "one bit turned": {
    harm: (file) => {
      const bytes = readFileSync(file);
      bytes.writeUInt8(bytes.readUInt8(5000) ^ 4, 5000);
      writeFileSync(file, bytes);
      utimesSync(file, 1, 1); // should the clock be coarse
    },
    says: /damaged: its SHA-256 is not the one/,
  },
  "its note gone": { harm: (file) => rmSync(`${file}.json`), says: /does not say what it should be/ },
  "its note cut off": { harm: (file) => truncateSync(`${file}.json`, 20), says: /does not say what it should be/ },
};

for (const [name, { harm, says }] of Object.entries(DAMAGE))
  test(`a damaged file is told and made again: ${name}`, async () => {
    const root = newFolder(scratch, `damage-${name}`);
    const { files } = await make([root], ["text", "head"]);
    const file = required(files.text, "text");
    const whole = readFileSync(file);
    harm(file);
    const again = await make([root], ["text", "head"]);
    assert.equal(again.notes.length, 1);
    assert.match(again.notes[0] ?? "", says);
    assert.ok(again.notes[0]?.startsWith(`${file}: `));
    assert.deepEqual([...again.written], ["text"]);
    assert.equal(Buffer.compare(readFileSync(file), whole), 0);
    assert.deepEqual((await make([root], ["text", "head"])).notes, []);
  });

test("a file that was only touched, or moved with its note, is hashed and kept", async () => {
  const root = newFolder(scratch, "touched");
  const { files } = await make([root]);
  utimesSync(required(files.text, "text"), 1000, 1000);
  const { notes, written } = await make([root]);
  assert.deepEqual([notes, [...written]], [[], []]);
});

const maker = async (root: string): Promise<Made> => {
  const command = ["--import", "tsx", "test/model/quantised/maker.ts", MODEL, root];
  const { stdout } = await promisify(execFile)(process.execPath, command);
  return JSON.parse(stdout);
};

test("several processes at once all end with the same whole files, and nothing is left behind", async () => {
  const root = newFolder(scratch, "race");
  const made = await Promise.all([1, 2, 3].map(() => maker(root)));
  const alone = await make([newFolder(scratch, "alone")], ["text", "text.transposed", "head"]);
  for (const { files } of made)
    for (const [part, file] of Object.entries(files)) {
      const other = required(alone.files[part as QuantPart], part);
      assert.equal(Buffer.compare(readFileSync(file), readFileSync(other)), 0, part);
    }
  const names = readdirSync(dirname(required(made[0]?.files.text, "text")));
  assert.deepEqual(
    names.filter((name) => !/^int8-v\d+\.(text|text\.transposed|head)\.safetensors(\.json)?$/.test(name)),
    [],
  );
  assert.deepEqual((await make([root], ["text", "text.transposed", "head"])).written, new Set());
});

test("a process that makes the file is waited for; what a dead one left is removed", async () => {
  const root = newFolder(scratch, "waiting");
  const file = required((await make([root])).files.text, "text");
  rmSync(file);
  const dead = `${file}.tmp-${hostname()}-${2 ** 22 + 1}-1`; // above the largest process number
  const alive = `${file}.tmp-${hostname()}-${process.pid}-99`;
  writeFileSync(dead, "half");
  writeFileSync(alive, "half");
  const waiting = make([root]);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.deepEqual([existsSync(dead), existsSync(alive), existsSync(file)], [false, true, false]);
  rmSync(alive); // it gave up
  const { notes, files } = await waiting;
  assert.match(notes.join("\n"), /^waiting for .*: another process makes the same weights$/);
  assert.equal(files.text, file);
});

test("interrupted: nothing is left of it", async () => {
  const root = newFolder(scratch, "interrupted");
  const making = quantisedFiles(checkpoint, {
    kind: "int8",
    parts: ["text"],
    roots: [root],
    signal: AbortSignal.abort(),
  });
  await assert.rejects(making, Interrupted);
  assert.deepEqual(
    readdirSync(root, { recursive: true }).filter((name) => String(name).includes("int8-v")),
    [],
  );
});

test("the first place that can be written is taken; where there is none, that is said", async () => {
  const file = join(newFolder(scratch, "places"), "file");
  writeFileSync(file, "no folder");
  const other = newFolder(scratch, "other-place");
  const { files } = await make([join(file, "beside"), other]);
  assert.ok(required(files.text, "text").startsWith(other));
  await assert.rejects(make([join(file, "beside")]), (error) => {
    assert.ok(error instanceof UserError);
    assert.match(error.message, /^weights in few bits cannot be kept in .*beside .*set XDG_CACHE_HOME/);
    return true;
  });
});

test("graphs name the checkpoint's files and these relative to one folder above both", async () => {
  const { files } = await make([newFolder(scratch, "above")]);
  const both = withQuantised(checkpoint, { kind: "int8", inputBits: 8, files });
  const above = weightsDir(both);
  assert.ok(isAbsolute(above));
  for (const { file } of [...both.tensors.values()]) assert.ok(!relative(above, file).startsWith(".."), file);
  assert.ok(!relative(above, required(files.text, "text")).startsWith(".."));
  assert.equal(weightsDir(checkpoint), checkpoint.dir);
});
