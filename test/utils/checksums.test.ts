import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { CHECKSUMS, checksumFault, writeChecksums } from "../../src/utils/checksums.ts";
import { newFolder, scratchFolder } from "../train/folders.ts";

const scratch = scratchFolder("checksums");

async function folder(name: string): Promise<string> {
  const dir = newFolder(scratch, name);
  writeFileSync(join(dir, "b.bin"), Buffer.alloc(5_000_001, "xyz")); // more than is read at once
  writeFileSync(join(dir, "a.json"), "{}\n");
  writeFileSync(join(dir, "empty"), "");
  await writeChecksums(dir);
  return dir;
}

test("SHA256SUMS holds the sum of every file, as sha256sum writes and checks them", async () => {
  const dir = await folder("whole");
  const sum = (name: string): string => createHash("sha256").update(readFileSync(join(dir, name))).digest("hex"); // biome-ignore format: one line
  const expected = ["a.json", "b.bin", "empty"].map((name) => `${sum(name)}  ${name}\n`).join("");
  assert.equal(readFileSync(join(dir, CHECKSUMS), "utf8"), expected);
  assert.equal(await checksumFault(dir), null);
  writeFileSync(join(dir, "of-the-user.txt"), "not judged");
  assert.equal(await checksumFault(dir), null);
  const { status, stdout, error } = spawnSync("sha256sum", ["-c", CHECKSUMS], { cwd: dir, encoding: "utf8" });
  if (error === undefined) assert.deepEqual([status, stdout], [0, "a.json: OK\nb.bin: OK\nempty: OK\n"]); // not everywhere
});

test("each kind of damage is told with the file's name", async () => {
  const flip = (file: string): void => {
    const bytes = readFileSync(file);
    bytes[4_999_999] = (bytes[4_999_999] ?? 0) ^ 1;
    writeFileSync(file, bytes);
  };
  const cases: readonly (readonly [string, (dir: string) => void, RegExp])[] = [
    ["one bit", (dir) => flip(join(dir, "b.bin")), /b\.bin: damaged: its SHA-256 is [0-9a-f]{12}\.\.\., saved was /],
    ["one more byte", (dir) => appendFileSync(join(dir, "empty"), "x"), /empty: damaged: /],
    ["missing", (dir) => rmSync(join(dir, "a.json")), /a\.json: cannot be read: ENOENT/],
    ["no sums", (dir) => rmSync(join(dir, CHECKSUMS)), /SHA256SUMS: not found/],
    ["empty sums", (dir) => writeFileSync(join(dir, CHECKSUMS), ""), /SHA256SUMS: is empty/],
    ["cut off sums", (dir) => writeFileSync(join(dir, CHECKSUMS), "abc  a.json\n"), /"abc {2}a\.json" is no checksum/],
    ["a folder", (dir) => {rmSync(join(dir, "empty")); mkdirSync(join(dir, "empty"))}, /empty: cannot be read: EISDIR/],
  ]; // biome-ignore format: a table
  for (const [name, damage, expected] of cases) {
    const dir = await folder(name);
    damage(dir);
    assert.match((await checksumFault(dir)) ?? "nothing", expected, name);
  }
});
