import assert from "node:assert/strict";
import { test } from "node:test";
import { UserError } from "../../src/utils/errors.ts";
import { resizeBicubic, smartResize } from "../../src/vision/resize.ts";
import { fixture, picture, sha256 } from "./pictures.ts";

interface ResizeRow {
  readonly from: readonly [width: number, height: number];
  readonly to: readonly [width: number, height: number];
  readonly sha256: string;
  readonly first: readonly number[];
  readonly last: readonly number[];
}

for (const row of fixture<{ rows: readonly ResizeRow[] }>("resize.json").rows) {
  test(`bicubic ${row.from.join("x")} -> ${row.to.join("x")} is Pillow's, byte for byte`, () => {
    const [width, height] = row.to;
    const { data, ...size } = resizeBicubic(picture(...row.from), { width, height });
    assert.deepEqual(size, { width, height });
    assert.deepEqual([...data.subarray(0, 12)], row.first);
    assert.deepEqual([...data.subarray(-12)], row.last);
    assert.equal(sha256(data), row.sha256); // the whole array
  });
}

test("resizing leaves the given picture as it was", () => {
  const image = picture(40, 30);
  resizeBicubic(image, { width: 32, height: 64 });
  assert.deepEqual(image, picture(40, 30));
});

test("smartResize equals transformers' on every case", () => {
  const { rows } = fixture<{ rows: readonly (readonly number[])[] }>("sizes.json");
  const ours = rows.map((row) => {
    const [height, width, factor, minPixels, maxPixels] = row as [number, number, number, number, number];
    const size = smartResize(height, width, { factor, minPixels, maxPixels });
    return [height, width, factor, minPixels, maxPixels, size.height, size.width];
  });
  assert.ok(rows.length > 400);
  assert.deepEqual(ours, rows);
});

test("smartResize rounds halves to even", () => {
  const limits = { factor: 32, minPixels: 1024, maxPixels: 1 << 24 };
  assert.deepEqual(smartResize(272, 336, limits), { height: 256, width: 320 }); // 8.5 -> 8, 10.5 -> 10
  assert.deepEqual(smartResize(304, 80, limits), { height: 320, width: 64 }); // 9.5 -> 10, 2.5 -> 2
});

test("smartResize takes 1:200 and refuses more", () => {
  const limits = { factor: 32, minPixels: 65536, maxPixels: 1 << 24 };
  assert.deepEqual(smartResize(20, 4000, limits), { height: 32, width: 4000 });
  assert.throws(
    () => smartResize(20, 4001, limits),
    (error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, /^image of 4001x20 pixels: .*200\.1 times.*at most 200.*crop it/);
      return true;
    },
  );
});
