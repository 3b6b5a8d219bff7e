/** Where a model runs. */

export type Device =
  | { readonly kind: "cpu" }
  | { readonly kind: "webgpu" }
  | { readonly kind: "gpu"; readonly index: number };

export const CPU: Device = { kind: "cpu" };
