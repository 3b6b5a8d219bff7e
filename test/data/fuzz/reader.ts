/**
 * Reads the malformed files of the fuzz test one after the other, in a process of its own, so that the test can see a crash and
 * end a hang. Arguments: an empty folder to work in, which of how many shares. Tells its parent each case before and after.
 */

import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodeExample } from "../../../src/collator.ts";
import { readDataset } from "../../../src/dataset.ts";
import { loadProcessor } from "../../../src/processor.ts";
import { UserError } from "../../../src/utils/errors.ts";
import { TINY_MODEL } from "../../text/models.ts";
import { CASES, type FuzzCase, PICTURE } from "./cases.ts";

/** What became of a case. */
export interface Told {
  readonly name: string;
  readonly outcome: "begun" | "read" | "refused" | "failed" | "ended";
  readonly file?: string;
  readonly message?: string;
  readonly elapsedMs?: number;
  /** Of the whole process, at its end. */
  readonly peakBytes?: number;
}

const [folder = "", share = "0", shares = "1"] = process.argv.slice(2);
const processor = loadProcessor(TINY_MODEL);
const tell = (told: Told): unknown => process.send?.(told);

/** What a data file could wrongly reach. */
function prepare(): void {
  mkdirSync(join(folder, "data", "images"), { recursive: true });
  writeFileSync(join(folder, "data", "images", "a.png"), PICTURE);
  writeFileSync(join(folder, "secret.png"), PICTURE);
  symlinkSync("..", join(folder, "data", "out"));
  symlinkSync("../../secret.png", join(folder, "data", "images", "link.png"));
  symlinkSync("nowhere.png", join(folder, "data", "dangling.png"));
  symlinkSync("circle.png", join(folder, "data", "circle.png"));
  execFileSync("mkfifo", [join(folder, "data", "pipe.png")]);
}

async function outcomeOf({ file, bytes, options = {} }: FuzzCase): Promise<Omit<Told, "name">> {
  const path = join(folder, "data", file);
  writeFileSync(path, bytes);
  const started = performance.now();
  const elapsed = () => ({ file: path, elapsedMs: performance.now() - started });
  try {
    const imageRoot = options.imageRoot ? join(folder, "data", options.imageRoot) : undefined;
    const examples = await readDataset(path, { ...options, imageRoot });
    for (const example of examples.slice(0, 3)) await encodeExample(example, processor, { labelMode: "official" });
    return { outcome: "read", ...elapsed() };
  } catch (thrown) {
    const isRefusal = thrown instanceof UserError;
    const message = thrown instanceof Error ? (isRefusal ? thrown.message : String(thrown.stack)) : String(thrown);
    return { outcome: isRefusal ? "refused" : "failed", message, ...elapsed() };
  } finally {
    rmSync(path);
  }
}

prepare();
for (const [i, { name, make }] of CASES.entries()) {
  if (i % Number(shares) !== Number(share)) continue;
  tell({ name, outcome: "begun" });
  const made = make();
  tell({ name: made.name, ...(await outcomeOf(made)) });
}
tell({ name: "all", outcome: "ended", peakBytes: process.resourceUsage().maxRSS * 1024 });
process.disconnect?.();
