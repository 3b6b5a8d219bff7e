/** Whether a device can compute here, found out by computing on it. */
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { builderOf } from "../graph/builder.ts";
import { Graph } from "../graph/graph.ts";
import { encodeOnnx } from "../graph/onnx.ts";
import { messageOf, UserError } from "../utils/errors.ts";
import { CPU, type Device, deviceName, targetOf } from "./device.ts";
import { floats } from "./tensor.ts";

const NO_ADAPTER =
  "the runtime finds no WebGPU adapter (on Linux it needs a Vulkan driver; docs/gpus.md names a software one)";

/** What keeps a device from computing, or null. */
export async function faultOf(device: Device): Promise<string | null> {
  const { openSession } = await import("./session.ts"); // loads the runtime, which a run on the CPU needs only in its worker
  const graph = new Graph("probe");
  const ops = builderOf(graph);
  const x = graph.input("x", "float32", [2, 2]);
  graph.output("y", ops.matMul(x, x));
  try {
    const session = await openSession(encodeOnnx(graph, targetOf(device)), { device });
    const { y } = await session.run({ x: floats(Float32Array.of(1, 2, 3, 4), [2, 2]) });
    await session.release();
    return y?.data.join() === "7,10,15,22" ? null : `it computes a product wrongly ([${y?.data.join()}])`;
  } catch (thrown) {
    const [first = ""] = messageOf(thrown).split("\n");
    return first.includes("Failed to get a WebGPU adapter") ? NO_ADAPTER : first;
  }
}

/** Whether the optional CUDA libraries were installed beside the runtime; asking it without them makes it print errors of its own. */
function hasCudaFiles(): boolean {
  const bin = join(dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json")), "bin");
  return readdirSync(bin, { recursive: true }).some((file) => /providers_cuda\./.test(String(file)));
}

/**
 * The devices to use. A number asks for that GPU where there is one: those that are not usable are left out, and where none is
 * left the CPU does the work; `warn` says so.
 * @throws UserError when a device that was asked for by name cannot be used
 */
export async function usableDevices(devices: readonly Device[], warn: (line: string) => void): Promise<Device[]> {
  const usable: Device[] = [];
  const missing: string[] = [];
  for (const device of devices) {
    if (await isUsable(device)) usable.push(device);
    else missing.push(deviceName(device));
  }
  if (missing.length === 0) return usable;
  const instead = usable.length > 0 ? `running on GPU ${usable.map(deviceName).join(", ")}` : "running on the CPU";
  warn(
    `GPU ${missing.join(", ")}: not usable here, ${instead} (to use one: ONNXRUNTIME_NODE_INSTALL=cuda12 node node_modules/onnxruntime-node/script/install.js)`,
  );
  return usable.length > 0 ? usable : [CPU];
}

async function isUsable(device: Device): Promise<boolean> {
  if (device.kind === "cpu") return true;
  const fault = device.kind === "gpu" && !hasCudaFiles() ? "no CUDA files" : await faultOf(device);
  if (fault !== null && device.kind === "webgpu")
    throw new UserError(`device webgpu: not usable here: ${fault}; use cpu`);
  return fault === null;
}
