/** The word before the flags: where to compute. */
import { UserError } from "../utils/errors.ts";

/** Where to compute. A GPU's index is the driver's. */
export type Device = { readonly kind: "gpu"; readonly index: number } | { readonly kind: "cpu" | "webgpu" };

export const deviceName = (device: Device): string => (device.kind === "gpu" ? String(device.index) : device.kind);

/** `0` · `0,1` · `cpu` · `cpu,cpu` · `webgpu`. @throws UserError for other words, mixed kinds, a card named twice */
export function readDevices(word: string): Device[] {
  const devices = word.split(",").map(readDevice);
  const kinds = new Set(devices.map(({ kind }) => kind));
  if (kinds.size > 1)
    throw new UserError(`"${word}" mixes kinds of device; the slowest would set the pace: use one kind`);
  if (new Set(devices.map(deviceName)).size < devices.length && !kinds.has("cpu")) {
    throw new UserError(`"${word}" names a device twice; only cpu may stand more than once`);
  }
  return devices;
}

function readDevice(name: string): Device {
  if (name === "cpu" || name === "webgpu") return { kind: name };
  if (/^\d{1,4}$/.test(name)) return { kind: "gpu", index: Number(name) };
  throw new UserError(`expected a GPU's number, cpu or webgpu, or several joined by commas, got "${name}"`);
}
