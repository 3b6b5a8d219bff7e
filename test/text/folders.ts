/** Folders for what a test writes. Only tests import this: it calls node:test. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

const scratch = mkdtempSync(join(tmpdir(), "qwen3-vl-finetune-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

/** A fresh folder; it goes when the tests of the file are done. */
export const temporaryFolder = (): string => mkdtempSync(join(scratch, "folder-"));
