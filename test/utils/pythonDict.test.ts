import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { pythonDict, readPythonDict } from "../../src/utils/python.ts";

const number = fc.option(fc.double({ noDefaultInfinity: true, noNaN: true }), { nil: null });

test("a dict of floats is read back as it was written", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.stringMatching(/^[a-z]\w*$/), number, { minKeys: 1 }), (values) => {
      const written = { ...values }; // fast-check's dictionaries may lack a prototype
      assert.deepEqual({ ...readPythonDict(pythonDict(written)) }, written);
    }),
  );
  assert.deepEqual(readPythonDict("{'a': nan, 'b': -inf, 'c': inf, 'd': 1}\n"), { a: Number.NaN, b: -Infinity, c: Infinity, d: 1 }); // biome-ignore format: one line
});

test("other texts are none", () => {
  for (const text of [
    "",
    "0.5",
    "{",
    "{'a': }",
    "{'a': 1.0, 'b'}",
    '{"a": 1.0}',
    "{'a': __import__('os')}",
    "{'a': 1.0} x",
  ])
    assert.equal(readPythonDict(text), null, text);
});
