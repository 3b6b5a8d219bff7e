import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import sharp, { type Sharp } from "sharp";
import { messageOf, required, UserError } from "../../src/utils/errors.ts";
import { decodeImage, MAX_IMAGE_PIXELS, readImageSize } from "../../src/vision/decode.ts";
import type { ImageSource, RgbImage } from "../../src/vision/image.ts";
import { farthest, fixture, picture, pngOf } from "./pictures.ts";

interface DecodeRow {
  readonly name: string;
  /** Grey levels; 0 for lossless formats, 1 where decoders may round differently. */
  readonly tolerance: number;
  readonly width: number;
  readonly height: number;
  readonly file: string;
  readonly pixels: string;
}

const golden = fixture<{ rows: readonly DecodeRow[] }>("decode.json").rows;
const bytesOf = (name: string, bytes: Uint8Array): ImageSource => ({ kind: "bytes", name, bytes });

for (const { name, tolerance, width, height, file, pixels } of golden) {
  test(`${name}: pixels are Pillow's${tolerance ? ` within ${tolerance}` : ""}`, async () => {
    const source = bytesOf(name, Buffer.from(file, "base64"));
    assert.deepEqual(await readImageSize(source), { width, height });
    const { data, ...size } = await decodeImage(source);
    assert.deepEqual(size, { width, height });
    const { error, at } = farthest(data, Buffer.from(pixels, "base64"));
    assert.ok(error <= tolerance, `${error} grey levels off at byte ${at}`);
  });
}

test("the profile in the golden files would change pixels if it were applied", async () => {
  const row = required(
    golden.find(({ name }) => name === "png profile"),
    "row",
  );
  const managed = await sharp(Buffer.from(row.file, "base64")).raw().toBuffer();
  assert.ok(farthest(managed, Buffer.from(row.pixels, "base64")).error > 100);
});

const rawSharp = (values: Uint8Array | Uint16Array, channels: 1 | 2 | 3 | 4): Sharp =>
  sharp(values, { raw: { width: 6, height: values.length / channels / 6, channels } });

test("16 bits: the high byte is kept, in colour, in grey and under transparency", async () => {
  const words = Uint16Array.from({ length: 6 * 4 * 12 }, (_, i) => (i * 3701 + 511) % 65536);
  const high = Uint8Array.from(words, (word) => word >> 8);
  const colour = await decodeImage(bytesOf("rgb16", await rawSharp(words, 3).toColourspace("rgb16").png().toBuffer()));
  assert.deepEqual(colour.data, high);
  const grey = await decodeImage(bytesOf("grey16", await rawSharp(words, 1).toColourspace("grey16").png().toBuffer()));
  assert.deepEqual(
    grey.data,
    Uint8Array.from({ length: high.length * 3 }, (_, i) => high[Math.floor(i / 3)] as number),
  );
  const clear = await decodeImage(bytesOf("rgba16", await rawSharp(words, 4).toColourspace("rgb16").png().toBuffer()));
  const eight = await decodeImage(bytesOf("rgba8", await rawSharp(high, 4).png().toBuffer()));
  assert.deepEqual(clear, eight);
});

test("alpha: nothing left of a clear pixel, all of a solid one, the rounded mixture between", async () => {
  const rgba = Uint8Array.of(10, 20, 30, 0, 10, 20, 30, 255, 0, 100, 255, 128, 0, 0, 0, 1, 9, 9, 9, 254, 0, 0, 0, 127);
  const { data } = await decodeImage(bytesOf("rgba", await rawSharp(rgba, 4).png().toBuffer()));
  const expected = [255, 255, 255, 10, 20, 30, 127, 177, 255, 254, 254, 254, 10, 10, 10, 128, 128, 128];
  assert.deepEqual([...data], expected);
});

test("AVIF: grey and colour within what its compression loses", async () => {
  const image = picture(64, 48).data.map((_, i) => (i % 3 === 0 ? 200 : 40)); // one flat colour
  const avif = await sharp(image, { raw: { width: 64, height: 48, channels: 3 } })
    .avif({ lossless: true })
    .toBuffer();
  const decoded = await decodeImage(bytesOf("avif", avif));
  assert.deepEqual([decoded.width, decoded.height], [64, 48]);
  assert.ok(farthest(decoded.data, image).error <= 3); // through 8-bit YCbCr
});

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "vision-"));
  try {
    await run(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const pngBytes = async (image: RgbImage): Promise<Uint8Array> => {
  const source = await pngOf(image);
  return source.kind === "bytes" ? source.bytes : new Uint8Array();
};

test("a file reads as its bytes do, under odd names too, and again after it was rewritten", () =>
  inFolder(async (folder) => {
    const path = join(folder, "shot [page=1].png ü [2]");
    for (const image of [picture(20, 10), picture(10, 20)]) {
      writeFileSync(path, await pngBytes(image));
      assert.deepEqual(await readImageSize({ kind: "file", path }), { width: image.width, height: image.height });
      assert.deepEqual(await decodeImage({ kind: "file", path }), image);
    }
  }));

/** Both doors must refuse, unless only the pixels are wrong: then the header may still be read. */
async function assertRefused(source: ImageSource, expected: RegExp, headerToo = true): Promise<void> {
  for (const read of headerToo ? [readImageSize, decodeImage] : [decodeImage]) {
    const thrown: unknown = await read(source).then(
      () => undefined,
      (error: unknown) => error,
    );
    assert.ok(thrown instanceof UserError, `${read.name}: ${messageOf(thrown)}`);
    assert.match(thrown.message, expected);
    assert.ok(!thrown.message.includes("\n"));
  }
}

test("missing, empty and foreign files are refused by name", () =>
  inFolder(async (folder) => {
    const file = (name: string): ImageSource => ({ kind: "file", path: join(folder, name) });
    writeFileSync(join(folder, "empty.png"), "");
    writeFileSync(join(folder, "words.png"), "these are words, not a picture");
    await assertRefused(file("none.png"), /none\.png: the picture cannot be opened \(ENOENT.*check the path/);
    await assertRefused({ kind: "file", path: folder }, /expected a picture file, it is not a file; check the path/);
    await assertRefused(file("empty.png"), /empty\.png: expected a picture, the file is empty/);
    await assertRefused(file("words.png"), /words\.png: not a readable picture .*expected JPEG, PNG.*convert it/);
    await assertRefused(bytesOf("row 7", new Uint8Array()), /^row 7: expected a picture, got 0 bytes/);
    await assertRefused(bytesOf("row 8", Buffer.from("GIF89a, or so it says")), /^row 8: not a readable picture/);
    const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>');
    await assertRefused(bytesOf("drawing", svg), /^drawing: not a readable picture \(it is SVG\); expected JPEG/);
  }));

test("pictures that are cut off are refused", async () => {
  for (const format of ["jpeg", "png", "webp", "gif", "avif", "tiff"] as const) {
    const { data, width, height } = picture(64, 64);
    const whole = await sharp(data, { raw: { width, height, channels: 3 } })
      .toFormat(format)
      .toBuffer();
    const part = bytesOf(`half.${format}`, whole.subarray(0, whole.length / 2));
    await assertRefused(
      part,
      new RegExp(`^half\\.${format}: (the picture is damaged or cut off|not a readable picture)`),
      false,
    );
  }
});

test("a decompression bomb is refused from its header", async () => {
  const side = Math.ceil(Math.sqrt(MAX_IMAGE_PIXELS));
  const png = Buffer.from(await pngBytes(picture(4, 4)));
  png.writeUInt32BE(side, 16); // IHDR: width, height, ..., checksum
  png.writeUInt32BE(side, 20);
  png.writeUInt32BE(crc32(png.subarray(12, 29)), 29);
  await assertRefused(bytesOf("bomb", png), /^bomb: the picture has 13378x13378 = 178970884 pixels, at most 178956970/);
});

/** The checksum of PNG chunks (RFC 2083, appendix 15). */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}
