/** Where a user's programs keep what they can make again: $XDG_CACHE_HOME, or ~/.cache. */
import { homedir } from "node:os";
import { join } from "node:path";

/** This program's folder for one kind of such things. */
export const userCache = (kind: string): string =>
  join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "qwen3-vl-finetune", kind);
