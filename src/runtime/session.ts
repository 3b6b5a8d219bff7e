/** Sessions of ONNX Runtime: the only importer of onnxruntime-node. `run` blocks its thread, so sessions live in workers. */
import { existsSync } from "node:fs";
import * as ort from "onnxruntime-node";
import { InternalError, messageOf, UserError } from "../utils/errors.ts";
import type { Device } from "./device.ts";
import {
  type DeviceTensor,
  type Feeds,
  fromRuntime,
  type HostFeeds,
  type HostTensor,
  onDevice,
  toRuntime,
} from "./tensor.ts";

export interface SessionOptions {
  readonly device: Device;
  /** Folder that external weights are relative to: a real one, not a folder of symlinks that lead out of it. */
  readonly weightsDir?: string;
  /** Keeps constant weights in memory as the kernels like them best, instead of reading them from their files. */
  readonly packWeights?: boolean;
  /** Leaves the graph as it is written: it opens twice as fast, where there is nothing to gain. */
  readonly keepsGraph?: boolean;
  /** Outputs that stay in the device's memory, WebGPU alone; see `runKeeping`. */
  readonly kept?: readonly string[];
  /** Writes a profile `<prefix>_<time>.json` when the session is released. */
  readonly profilePrefix?: string;
}

/** An open model. Whoever opened it releases it. */
export interface Session {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /** @param fetches outputs wanted, all by default */
  run(feeds: Feeds, fetches?: readonly string[]): Promise<Record<string, HostTensor>>;
  /** As `run`, on the CPU: each output is written where it is wanted, which may be where an input lies that no later node reads. */
  runInto(feeds: Feeds, outputs: HostFeeds): Promise<void>;
  /** As `run`, the outputs apart that the session was told to keep on its device. */
  runKeeping(feeds: Feeds): Promise<{ outputs: Record<string, HostTensor>; kept: Record<string, DeviceTensor> }>;
  release(): Promise<void>;
}

function providersOf(device: Device): ort.InferenceSession.ExecutionProviderConfig[] {
  if (device.kind === "cpu") return ["cpu"];
  if (device.kind === "webgpu") return ["webgpu", "cpu"];
  return [{ name: "cuda", deviceId: device.index }, "cpu"];
}

/** @param model bytes of an ONNX model, or the path of one */
export async function openSession(model: Uint8Array | string, options: SessionOptions): Promise<Session> {
  if (typeof model === "string" && !existsSync(model)) throw new UserError(`${model}: no such model file`);
  const settings: ort.InferenceSession.SessionOptions = {
    executionProviders: providersOf(options.device),
    graphOptimizationLevel: options.keepsGraph ? "disabled" : "all",
    enableMemPattern: false, // every batch has its own lengths: a plan per shape costs a slow second run and more memory
    logSeverityLevel: 3,
    ...(options.kept?.length
      ? { preferredOutputLocation: Object.fromEntries(options.kept.map((name) => [name, "gpu-buffer" as const])) }
      : {}),
    ...(options.profilePrefix ? { enableProfiling: true, profileFilePrefix: options.profilePrefix } : {}),
    extra: {
      session: {
        // packed copies would double the memory of the weights (18.0 instead of 12.8 GB at the 2B shape) and save 2 % of a step
        disable_prepacking: options.packWeights ? "0" : "1",
        // no fewer threads than alone: how a product is cut among them shows in its last bits
        ...(options.device.sharesCores ? { intra_op: { allow_spinning: "0" } } : {}),
        ...(options.weightsDir ? { model_external_initializers_file_folder_path: options.weightsDir } : {}),
      },
    },
  };
  return wrap(await openNative(model, settings), options);
}

async function openNative(
  model: Uint8Array | string,
  settings: ort.InferenceSession.SessionOptions,
): Promise<ort.InferenceSession> {
  try {
    // two calls, because the declared overloads take a path or bytes but not their union
    return await (typeof model === "string"
      ? ort.InferenceSession.create(model, settings)
      : ort.InferenceSession.create(model, settings));
  } catch (cause) {
    const what = typeof model === "string" ? model : `a model of ${model.length} bytes`;
    throw new InternalError(`the runtime refused ${what}: ${messageOf(cause)}`, { cause });
  }
}

function wrap(native: ort.InferenceSession, options: SessionOptions): Session {
  const kept = new Set(options.kept);
  return {
    inputNames: native.inputNames,
    outputNames: native.outputNames,
    async run(feeds, fetches) {
      const results = await runNative(native, runtimeFeeds(native, feeds), fetches);
      return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, fromRuntime(tensor)]));
    },
    async runInto(feeds, outputs) {
      const places = Object.entries(outputs).map(([name, place]) => [name, toRuntime(place, ort.Tensor, place.dtype)]);
      await runNative(native, runtimeFeeds(native, feeds), Object.fromEntries(places));
    },
    async runKeeping(feeds) {
      const results = Object.entries(await runNative(native, runtimeFeeds(native, feeds)));
      const ofKind = (wanted: boolean) => results.filter(([name]) => kept.has(name) === wanted);
      return {
        outputs: Object.fromEntries(ofKind(false).map(([name, tensor]) => [name, fromRuntime(tensor)])),
        kept: Object.fromEntries(ofKind(true).map(([name, tensor]) => [name, onDevice(tensor)])),
      };
    },
    async release() {
      if (options.profilePrefix) native.endProfiling();
      await native.release();
    },
  };
}

function runtimeFeeds(native: ort.InferenceSession, feeds: Feeds): Record<string, ort.Tensor> {
  const tensors: Record<string, ort.Tensor> = {};
  for (const input of native.inputMetadata) {
    const feed = feeds[input.name];
    if (!feed) throw new InternalError(`a run lacks its input "${input.name}"`);
    tensors[input.name] = toRuntime(feed, ort.Tensor, input.isTensor ? input.type : "float32");
  }
  return tensors;
}

async function runNative(
  native: ort.InferenceSession,
  tensors: Record<string, ort.Tensor>,
  fetches?: readonly string[] | Record<string, ort.Tensor>,
): Promise<ort.InferenceSession.ReturnType> {
  try {
    return await (fetches ? native.run(tensors, fetches) : native.run(tensors));
  } catch (cause) {
    const shapes = Object.entries(tensors)
      .slice(0, 12)
      .map(([name, { dims }]) => `${name} [${dims}]`);
    throw new InternalError(`the runtime refused a run: ${messageOf(cause)} (inputs ${shapes.join(", ")})`, { cause });
  }
}
