import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { UserError } from "../../src/utils/errors.ts";
import {
  readFloat32,
  readHeader,
  readTensorBytes,
  type TensorEntry,
  type WritableTensor,
  writeSafetensors,
} from "../../src/utils/safetensors.ts";

const REFERENCE = "test/fixtures/utils/tensors.safetensors"; // written by safetensors.torch: scripts/fixtures/dtypes.py
const scratch = mkdtempSync(join(tmpdir(), "safetensors-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const entryOf = (file: string, name: string): TensorEntry => {
  const entry = readHeader(file).tensors.get(name);
  assert.ok(entry, name);
  return entry;
};
const floats = (name: string): number[] => [...readFloat32(entryOf(REFERENCE, name))];

test("reads what the reference implementation wrote", () => {
  const { tensors, metadata } = readHeader(REFERENCE);
  assert.deepEqual(metadata, { format: "pt", seed: "11" });
  const shapes = Object.fromEntries([...tensors].map(([name, { dtype, shape }]) => [name, [dtype, ...shape]]));
  assert.deepEqual(shapes, {
    "layers.0.weight": ["F32", 2, 3],
    "layers.0.bias": ["BF16", 3],
    half: ["F16", 2, 1],
    ids: ["I64", 3],
    scalar: ["F32"],
    empty: ["F32", 0, 4],
    flags: ["BOOL", 2],
  });
  assert.deepEqual(
    floats("layers.0.weight"),
    [0, 1, 2, 3, 4, 5].map((i) => i / 8),
  );
  assert.deepEqual(floats("layers.0.bias"), [1.5, -2.25, 0.00099945068359375]);
  assert.deepEqual(floats("half"), [0.0999755859375, 65504]);
  assert.deepEqual([floats("scalar"), floats("empty")], [[0.75], []]);
  assert.deepEqual([...new BigInt64Array(readTensorBytes(entryOf(REFERENCE, "ids")).buffer)], [1n, -2n, 2n ** 40n]);
  assert.throws(() => readFloat32(entryOf(REFERENCE, "ids")), /tensor "ids" has dtype I64; expected F32, BF16 or F16/);
});

test("offsets count from the start of the file", () => {
  const bytes = readFileSync(REFERENCE);
  const entry = entryOf(REFERENCE, "scalar");
  assert.equal(bytes.readFloatLE(entry.offset), 0.75);
  assert.equal(entry.byteLength, 4);
});

const sample = (): WritableTensor[] => [
  { name: "b.weight", dtype: "F32", shape: [2, 2], values: new Float32Array([1, -2, 3.5, 1e-20]) },
  { name: "ä.bias", dtype: "BF16", shape: [3], values: new Uint16Array([0x3f80, 0, 0xc000]) },
  { name: "none", dtype: "F16", shape: [0], values: new Uint16Array(0) },
];

test("what is written reads back equal, and a second writing gives the same bytes", async () => {
  const file = join(scratch, "sample.safetensors");
  await writeSafetensors(file, sample());
  const { tensors, metadata } = readHeader(file);
  assert.deepEqual([...tensors.keys()], ["b.weight", "ä.bias", "none"]);
  assert.deepEqual(metadata, { format: "pt" });
  assert.deepEqual([...readFloat32(entryOf(file, "b.weight"))], [...new Float32Array([1, -2, 3.5, 1e-20])]);
  assert.deepEqual([...readFloat32(entryOf(file, "ä.bias"))], [1, 0, -2]);
  assert.equal(entryOf(file, "b.weight").offset % 8, 0);
  const again = join(scratch, "again.safetensors");
  await writeSafetensors(again, sample());
  assert.deepEqual(readFileSync(again), readFileSync(file));
  assert.deepEqual(
    readdirSync(scratch).sort(),
    ["again.safetensors", "sample.safetensors"],
    "no temporary file is left",
  );
});

test("a view into a larger buffer is written by its own bounds", async () => {
  const file = join(scratch, "view.safetensors");
  const whole = Float32Array.from({ length: 10 }, (_, i) => i);
  await writeSafetensors(file, [{ name: "part", dtype: "F32", shape: [3], values: whole.subarray(4, 7) }]);
  assert.deepEqual([...readFloat32(entryOf(file, "part"))], [4, 5, 6]);
});

test("our own mistakes are internal errors and write nothing", async () => {
  const file = join(scratch, "never.safetensors");
  const values = new Float32Array(3);
  const one: WritableTensor = { name: "x", dtype: "F32", shape: [2], values };
  await assert.rejects(writeSafetensors(file, [one]), /internal: tensor "x" \[2\] F32 was given 12 bytes/);
  const three = { ...one, shape: [3] };
  await assert.rejects(writeSafetensors(file, [three, three]), /internal: tensor "x" is written twice/);
  await assert.rejects(writeSafetensors(join(scratch, "no/such/file"), [three]), (thrown) => {
    return thrown instanceof UserError && /no\/such\/file: cannot be written: .*ENOENT/.test(thrown.message);
  });
  assert.ok(!readdirSync(scratch).some((name) => name.startsWith("never")));
});

function fileWith(header: string | Uint8Array, data = new Uint8Array(0)): string {
  const file = join(scratch, "broken");
  const bytes = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(bytes.length), true);
  writeFileSync(file, Buffer.concat([length, bytes, data]));
  return file;
}

test("a broken file is refused with its name and what is wrong", () => {
  const tensor = (fields: object): string =>
    JSON.stringify({ w: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...fields } });
  const cases: [string, RegExp][] = [
    ["{oops", /broken: not a safetensors file: its header is not JSON/],
    ["null", /its header is no JSON object/],
    ["[1]", /its header is no JSON object/],
    [tensor({}), /broken: cut off: tensor "w" ends at byte \d+, the file has \d+; download it again/],
    [tensor({ dtype: "F7" }), /tensor "w" has dtype F7; expected one of F64, F32/],
    [tensor({ dtype: "constructor" }), /tensor "w" has dtype constructor/],
    [tensor({ shape: [3] }), /tensor "w" \[3\] F32 needs 12 bytes, the header gives it 8/],
    [tensor({ shape: "2" }), /tensor "w" has shape "2"/],
    [tensor({ shape: [-2] }), /tensor "w" has shape \[-2\]/],
    [tensor({ data_offsets: [-8, 0] }), /data_offsets \[-8,0\]; expected whole numbers/],
    [tensor({ data_offsets: null }), /data_offsets null/],
    ['{"w": 3}', /tensor "w" has dtype undefined/],
  ];
  for (const [header, pattern] of cases) {
    assert.throws(
      () => readHeader(fileWith(header)),
      (thrown) => thrown instanceof UserError && pattern.test(thrown.message),
      header,
    );
  }
  assert.throws(() => readHeader(join(scratch, "absent")), /absent: cannot be opened: .*ENOENT/);
  writeFileSync(join(scratch, "broken"), "abc");
  assert.throws(() => readHeader(join(scratch, "broken")), /not a safetensors file: 3 bytes/);
  writeFileSync(join(scratch, "broken"), "version https://git-lfs.github.com/spec/v1\n");
  assert.throws(() => readHeader(join(scratch, "broken")), /cut off or not safetensors/);
});

test("any cut of a good file is refused by name", () => {
  const whole = readFileSync(REFERENCE);
  const file = join(scratch, "cut");
  for (let length = 0; length < whole.length; length += 7) {
    writeFileSync(file, whole.subarray(0, length));
    assert.throws(
      () => readHeader(file),
      (thrown) => thrown instanceof UserError && thrown.message.startsWith(file),
    );
  }
});

test("any JSON as header, any bytes as file: a UserError or a header, nothing else", () => {
  const tryFile = (file: string): void => {
    try {
      readHeader(file);
    } catch (thrown) {
      assert.ok(thrown instanceof UserError, String(thrown));
    }
  };
  const entry = fc.record(
    { dtype: fc.constantFrom("F32", "U8", 3), shape: fc.jsonValue(), data_offsets: fc.jsonValue() },
    { requiredKeys: [] },
  );
  const options = { numRuns: 300, seed: 1 };
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.oneof(entry, fc.jsonValue())), (header) =>
      tryFile(fileWith(JSON.stringify(header))),
    ),
    options,
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (header) => tryFile(fileWith(header))),
    options,
  );
});
