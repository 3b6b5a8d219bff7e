/** Which model an adapter belongs to: kept beside it, and compared before it is used. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Checkpoint } from "../model/checkpoint.ts";
import { UserError } from "../utils/errors.ts";
import { readJsonObject } from "../utils/json.ts";
import { readTensorBytes, type TensorEntry } from "../utils/safetensors.ts";
import { ADAPTER_CONFIG } from "./adapterConfig.ts";

const PROBE_BYTES = 4096;

/**
 * Tells one set of weights from another, wherever they lie: a hash of every tensor's name, shape and some bytes from its
 * middle. A large model is read in a moment, and no training leaves these bytes alone.
 */
export function weightsDigest({ tensors }: Checkpoint): string {
  const hash = createHash("sha256");
  for (const [name, entry] of [...tensors].sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(`${name} ${entry.dtype} ${entry.shape}\n`).update(readTensorBytes(probeOf(entry)));
  }
  return hash.digest("hex");
}

/** A few values from the middle, as a tensor of their own. */
function probeOf(entry: TensorEntry): TensorEntry {
  if (entry.byteLength <= PROBE_BYTES) return entry;
  const start = Math.floor((entry.byteLength - PROBE_BYTES) / 16) * 8; // a whole value, whatever the dtype
  return { ...entry, offset: entry.offset + start, byteLength: PROBE_BYTES };
}

/** Under this name it stands in run_config.json. */
export const BASE_DIGEST = "baseWeights";

/**
 * Adapters of this program say which weights they were trained on.
 * @throws UserError where these are others; of adapters that say nothing only the shapes are known
 */
export function refuseOtherBase(dir: string, checkpoint: Checkpoint): void {
  const file = join(dir, "run_config.json");
  if (!existsSync(file)) return;
  const { [BASE_DIGEST]: trainedOn } = readJsonObject(file, "it holds the settings of the run");
  if (typeof trainedOn !== "string" || trainedOn === weightsDigest(checkpoint)) return;
  throw new UserError(
    `${dir}: this adapter was trained on other weights than those in ${checkpoint.dir}; name its own base with --model`,
  );
}

/** What adapter_config.json calls the base: a hub id or a folder, or null. */
export function namedBase(dir: string): string | null {
  const file = join(dir, ADAPTER_CONFIG);
  const { base_model_name_or_path: name } = readJsonObject(file, "an adapter folder as PEFT writes it has one");
  if (name === null || name === undefined || name === "") return null;
  if (typeof name === "string") return name;
  throw new UserError(`${file}: base_model_name_or_path is ${JSON.stringify(name)}; expected a hub id or a folder`);
}
