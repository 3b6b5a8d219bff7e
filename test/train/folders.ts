/** Model folders for the tests of this folder: the tiny Qwen3-VL, and the same in bfloat16 and shards. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { type Checkpoint, openCheckpoint } from "../../src/model/checkpoint.ts";
import { float32ToBf16 } from "../../src/utils/bf16.ts";
import { randomFrom } from "../../src/utils/random.ts";
import { elementCount, readFloat32, writeSafetensors } from "../../src/utils/safetensors.ts";

export const TINY = "test/fixtures/tiny-qwen3vl/model";
export const GOLDEN_ADAPTER = "test/fixtures/tiny-qwen3vl/adapter_init";

/** A folder that goes when the tests of the file are done. */
export function scratchFolder(name: string): string {
  const dir = mkdtempSync(join(tmpdir(), `${name}-`));
  after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export const readJson = (file: string) => JSON.parse(readFileSync(file, "utf8"));

/** A copy of a folder, some of its JSON files changed. */
export function copyWith(from: string, to: string, changes: Readonly<Record<string, object>> = {}): string {
  cpSync(from, to, { recursive: true });
  for (const [name, fields] of Object.entries(changes))
    writeFileSync(join(to, name), JSON.stringify({ ...readJson(join(to, name)), ...fields }));
  return to;
}

/** The tiny model in bfloat16, in three shards; `rename` gives tensors other names, as older files have them. */
export async function shardedBf16(to: string, rename = (name: string): string => name): Promise<Checkpoint> {
  const source = openCheckpoint(TINY);
  copyWith(TINY, to, { "config.json": { dtype: "bfloat16" } });
  rmSync(join(to, "model.safetensors"));
  const tensors = [...source.tensors.values()].map((entry) => {
    const { name, shape } = entry;
    return { name: rename(name), shape, dtype: "BF16" as const, values: float32ToBf16(readFloat32(entry)) };
  });
  const weightMap: Record<string, string> = {};
  for (let shard = 0; shard < 3; shard++) {
    const file = `model-0000${shard + 1}-of-00003.safetensors`;
    const part = tensors.filter((_, i) => i % 3 === shard);
    await writeSafetensors(join(to, file), part);
    for (const { name } of part) weightMap[name] = file;
  }
  writeFileSync(join(to, "model.safetensors.index.json"), JSON.stringify({ metadata: {}, weight_map: weightMap }));
  return openCheckpoint(to);
}

/** Small random numbers for every name. */
export function randomArrays(shapes: ReadonlyMap<string, readonly number[]>, seed: string): Map<string, Float32Array> {
  return new Map(
    [...shapes].map(([name, shape]) => {
      const random = randomFrom(seed, name);
      return [name, Float32Array.from({ length: elementCount(shape) }, () => random.normal() / 8)];
    }),
  );
}

/** An empty folder inside `root`. */
export function newFolder(root: string, name: string): string {
  const dir = join(root, name);
  mkdirSync(dir, { recursive: true });
  return dir;
}
