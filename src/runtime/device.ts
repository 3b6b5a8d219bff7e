/** Where a model runs. */
import type { Target } from "../graph/writer.ts";

export type Device = (
  | { readonly kind: "cpu" }
  | { readonly kind: "webgpu" }
  | { readonly kind: "gpu"; readonly index: number }
) & {
  /** Whether others compute on the same cores at the same time: its threads then sleep where they would else wait busily. */
  readonly sharesCores?: boolean;
};

export const CPU: Device = { kind: "cpu" };

/** As it is asked for. */
export const deviceName = (device: Device): string => (device.kind === "gpu" ? String(device.index) : device.kind);

/** The form of a graph that a device runs. */
export const targetOf = ({ kind }: Device): Target => (kind === "gpu" ? "cuda" : kind);
