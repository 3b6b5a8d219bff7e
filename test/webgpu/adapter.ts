// Ends with 1 and the reason where WebGPU cannot compute.
import { faultOf } from "../../src/runtime/probe.ts";

const fault = await faultOf({ kind: "webgpu" });
if (fault !== null) {
  console.error(fault);
  process.exitCode = 1;
}
