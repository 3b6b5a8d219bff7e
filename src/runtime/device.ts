/** Where a model runs. */
import type { Target } from "../graph/writer.ts";

export type Device = (
  | { readonly kind: "cpu" }
  | { readonly kind: "webgpu" }
  | { readonly kind: "gpu"; readonly index: number }
) & {
  /** Threads inside one operation that runs on the CPU; absent: one per core. */
  readonly threads?: number;
};

export const CPU: Device = { kind: "cpu" };

/** As it is asked for. */
export const deviceName = (device: Device): string => (device.kind === "gpu" ? String(device.index) : device.kind);

/** The form of a graph that a device runs. */
export const targetOf = ({ kind }: Device): Target => (kind === "gpu" ? "cuda" : kind);
