/**
 * Compares this project with transformers + PEFT on a folder of reference numbers, and exits 1 where a difference is over its tolerance.
 *
 *   npx tsx scripts/parity.ts test/fixtures/tiny-qwen3vl [DEVICE]
 */
import { readDevices } from "../src/config/devices.ts";
import { CPU, type Device } from "../src/runtime/device.ts";
import { required, UserError } from "../src/utils/errors.ts";
import { readGolden } from "./parity/golden.ts";
import { compareGradients, compareOutputs, prepare, type Results } from "./parity/subjects.ts";
import { compareTraces } from "./parity/traces.ts";

export async function parity(dir: string, device: Device = CPU): Promise<Results> {
  const prepared = await prepare(readGolden(dir), device);
  if (prepared.rotaryDtype === "bfloat16")
    console.error(
      "parity: this reference was made by a model cast with .to(bfloat16): its rotary frequencies are rounded, and so are ours here; not in its traces",
    );
  return {
    ...prepared.results,
    ...(await compareOutputs(prepared)),
    ...(await compareGradients(prepared)),
    ...(await compareTraces(prepared)),
  };
}

async function main([dir, device = "cpu"]: readonly string[]): Promise<void> {
  if (!dir || dir === "--help") {
    console.error("usage: npx tsx scripts/parity.ts DIR [DEVICE]    DIR as test/fixtures/tiny-qwen3vl");
    process.exitCode = dir ? 0 : 2;
    return;
  }
  const results = await parity(dir, required(readDevices(device)[0], "device"));
  console.log(JSON.stringify(results, null, 1));
  const failed = Object.entries(results).filter(([, { pass }]) => !pass);
  console.error(
    failed.length === 0
      ? "parity: every subject is within its tolerance"
      : `parity: over tolerance: ${failed.map(([name]) => name).join(", ")}`,
  );
  process.exitCode = failed.length === 0 ? 0 : 1;
}

if (import.meta.filename === process.argv[1]) {
  main(process.argv.slice(2)).catch((error: unknown) => {
    console.error(error instanceof UserError ? error.message : error);
    process.exitCode = error instanceof UserError ? 2 : 1;
  });
}
