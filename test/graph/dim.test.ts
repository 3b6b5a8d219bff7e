// Dimensions: whatever is built by adding, multiplying and dividing names the length that the numbers have.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { addDims, broadcast, type Dim, divDims, factorOf, mulDims, sizeOf, symbolsOf } from "../../src/graph/dim.ts";

/** What a dimension is when its symbols are these numbers. */
function lengthOf(dim: Dim, symbols: Readonly<Record<string, number>>): number {
  return Number(new Function(...Object.keys(symbols), `return ${dim};`)(...Object.values(symbols)));
}

const lengths = fc.record({ B: fc.integer({ min: 1, max: 9 }), T: fc.integer({ min: 1, max: 9 }), M: fc.nat(9) });
const leaf = fc.oneof(fc.nat(12), fc.constantFrom("B", "T", "M"));
const dims = fc.letrec<{ dim: Dim }>((tie) => ({
  dim: fc.oneof(
    { maxDepth: 3 },
    leaf,
    fc.tuple(tie("dim"), tie("dim")).map(([a, b]) => mulDims(a, b)),
    fc.tuple(tie("dim"), tie("dim")).map(([a, b]) => addDims(a, b)),
  ),
})).dim;

test("a sum and a product are what their numbers say", () => {
  fc.assert(
    fc.property(dims, dims, lengths, (a, b, symbols) => {
      assert.equal(lengthOf(addDims(a, b), symbols), lengthOf(a, symbols) + lengthOf(b, symbols));
      assert.equal(lengthOf(mulDims(a, b), symbols), lengthOf(a, symbols) * lengthOf(b, symbols));
    }),
  );
});

test("order and grouping do not change the name", () => {
  fc.assert(
    fc.property(dims, dims, dims, (a, b, c) => {
      assert.equal(addDims(a, b), addDims(b, a));
      assert.equal(mulDims(a, b), mulDims(b, a));
      assert.equal(addDims(addDims(a, b), c), addDims(a, addDims(b, c)));
      assert.equal(mulDims(mulDims(a, b), c), mulDims(a, mulDims(b, c)));
      assert.equal(sizeOf([a, b, c]), mulDims(c, a, b));
    }),
  );
});

test("what was multiplied can be divided away", () => {
  fc.assert(
    fc.property(dims, dims, (a, b) => {
      fc.pre(b !== 0 && a !== 0);
      assert.equal(divDims(mulDims(a, b), b), a);
      assert.equal(mulDims(a, 1), a);
      assert.equal(addDims(a, 0), a);
    }),
  );
});

test("names", () => {
  assert.equal(mulDims("T", 2, "B", 3), "6*B*T");
  assert.equal(mulDims(0, "T"), 0);
  assert.equal(addDims("T", "T"), "2*T");
  assert.equal(addDims("T", "S"), "(S+T)");
  assert.equal(addDims(addDims("S", mulDims(2, "T")), 1), "(1+2*T+S)");
  assert.deepEqual(symbolsOf(mulDims("B", addDims("S", mulDims(2, "T")))), ["(2*T+S)", "B"]);
  assert.equal(factorOf("12*M"), 12);
});

test("a quotient that is not whole is a mistake", () => {
  assert.throws(() => divDims("6*M", 4), /6\*M is not a multiple of 4/);
  assert.throws(() => divDims("M", "B"), /M is not a multiple of B/);
  assert.throws(() => divDims(mulDims("M", 4), "M*M"), /4\*M is not a multiple of M\*M/);
});

test("broadcasting, as numpy", () => {
  assert.deepEqual(broadcast(["B", 1, 3], ["T", 1]), ["B", "T", 3]);
  assert.deepEqual(broadcast([], [2]), [2]);
  assert.deepEqual(broadcast([0, 3], [1, 3]), [0, 3]);
  assert.equal(broadcast(["B"], ["T"]), null);
  assert.equal(broadcast([2], [3]), null);
});
