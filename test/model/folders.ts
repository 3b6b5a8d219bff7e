// Checkpoint folders with something changed, in a temporary place.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

export const TINY = "test/fixtures/tiny-qwen3vl/model";
export const SHARDED = "test/fixtures/sharded-bf16/model";

const scratch = mkdtempSync(join(tmpdir(), "model-"));
after(() => rmSync(scratch, { recursive: true }));
let count = 0;

export type Json = Record<string, unknown>;

export const readJson = (file: string): Json => JSON.parse(readFileSync(file, "utf8")) as Json;

/** A copy of a folder; `change` is given its path. */
export function changed(from: string, change: (dir: string) => void): string {
  const dir = join(scratch, String(count++));
  cpSync(from, dir, { recursive: true });
  change(dir);
  return dir;
}

/** A copy whose config.json is changed. */
export const withConfig = (change: (config: Json) => void, from = TINY): string =>
  changed(from, (dir) => {
    const config = readJson(join(dir, "config.json"));
    change(config);
    writeFileSync(join(dir, "config.json"), JSON.stringify(config));
  });
