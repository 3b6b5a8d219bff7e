/** Tensors on the host, and the one place where whole numbers become BigInt for the runtime. */
import type * as ort from "onnxruntime-node";
import { InternalError } from "../utils/errors.ts";

/** Row-major numbers with their dimensions. int64 travels as Int32Array: no id or index of ours needs more. */
export type HostTensor =
  | { readonly dtype: "float32"; readonly dims: readonly number[]; readonly data: Float32Array }
  | { readonly dtype: "int64"; readonly dims: readonly number[]; readonly data: Int32Array };

/** Numbers that stay in a device's memory between runs: any session on that device takes them. Whoever made one frees it. */
export interface DeviceTensor {
  readonly dtype: "float32";
  readonly dims: readonly number[];
  readonly buffer: ort.Tensor;
}

export type HostFeeds = Readonly<Record<string, HostTensor>>;
export type Feeds = Readonly<Record<string, HostTensor | DeviceTensor>>;

export const floats = (data: Float32Array, dims: readonly number[]): HostTensor => ({ dtype: "float32", dims, data });
export const ints = (data: Int32Array, dims: readonly number[]): HostTensor => ({ dtype: "int64", dims, data });

/**
 * @param Tensor the runtime's tensor class, handed in so that this file need not load the runtime
 * @param type what the model takes: models for WebGPU take whole numbers as int32
 */
export function toRuntime(
  tensor: HostTensor | DeviceTensor,
  Tensor: typeof ort.Tensor,
  type: ort.Tensor.Type,
): ort.Tensor {
  if ("buffer" in tensor) return tensor.buffer;
  const dims = [...tensor.dims];
  if (tensor.dtype === "float32") return new Tensor("float32", tensor.data, dims);
  if (type === "int32") return new Tensor("int32", tensor.data, dims);
  const wide = new BigInt64Array(tensor.data.length);
  for (let i = 0; i < wide.length; i++) wide[i] = BigInt(tensor.data[i] as number);
  return new Tensor("int64", wide, dims);
}

export function onDevice(tensor: ort.Tensor): DeviceTensor {
  if (tensor.type !== "float32") throw new InternalError(`an output of type ${tensor.type} does not stay on a device`);
  return { dtype: tensor.type, dims: tensor.dims, buffer: tensor };
}

export const free = (tensors: Iterable<DeviceTensor>): void => {
  for (const { buffer } of tensors) buffer.dispose();
};

/** @param tensor one whose numbers are on the host: reading another's ends the process (onnxruntime-node 1.30) */
export function fromRuntime(tensor: ort.Tensor): HostTensor {
  if (tensor.location !== "cpu") throw new InternalError(`an output is kept in ${tensor.location} and cannot be read`);
  const { type, dims, data } = tensor;
  if (type === "float32") return floats(data as Float32Array, dims);
  if (type === "int64") return ints(Int32Array.from(data as BigInt64Array, Number), dims);
  if (type === "int32") return ints(data as Int32Array, dims);
  throw new InternalError(`an output of type ${type} has no host form`);
}
