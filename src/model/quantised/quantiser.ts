/** Quantises one matrix after another into a file that is there already. It lives in a thread (worker.ts). */
import { closeSync, openSync, writeSync } from "node:fs";
import { readFloat32Rows, type TensorEntry } from "../../utils/safetensors.ts";
import { type QuantKind, quantise } from "./matrix.ts";

/** Plain data: it crosses threads. */
export interface QuantiseTask {
  readonly entry: TensorEntry;
  readonly kind: QuantKind;
  readonly isForGradients: boolean;
  /** Bytes from the start of the file. */
  readonly valuesAt: number;
  readonly scalesAt: number;
  /** null where the form has no zero points. */
  readonly zeroPointsAt: number | null;
}

export class Quantiser {
  write(file: string, { entry, kind, isForGradients, valuesAt, scalesAt, zeroPointsAt }: QuantiseTask): void {
    const [rows = 0, columns = 0] = entry.shape;
    const source = { rows, columns, read: (start: number, end: number) => readFloat32Rows(entry, start, end) };
    const { values, scales, zeroPoints } = quantise(source, kind, isForGradients);
    const handle = openSync(file, "r+");
    try {
      writeAt(handle, values, valuesAt);
      writeAt(handle, scales, scalesAt);
      if (zeroPoints && zeroPointsAt !== null) writeAt(handle, zeroPoints, zeroPointsAt);
    } finally {
      closeSync(handle);
    }
  }
}

const WRITE_CHUNK = 1 << 30; // fs.writeSync takes less than 2 GiB a call

function writeAt(handle: number, { buffer, byteOffset, byteLength }: ArrayBufferView, position: number): void {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  for (let done = 0; done < bytes.length; )
    done += writeSync(handle, bytes, done, Math.min(WRITE_CHUNK, bytes.length - done), position + done);
}
