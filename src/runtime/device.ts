/** Where a model runs. */

export type Device = (
  | { readonly kind: "cpu" }
  | { readonly kind: "webgpu" }
  | { readonly kind: "gpu"; readonly index: number }
) & {
  /** Threads inside one operation that runs on the CPU; absent: one per core. */
  readonly threads?: number;
};

export const CPU: Device = { kind: "cpu" };
