/** The safetensors file format, reading (whole or by slice) and writing. Source: github.com/huggingface/safetensors, README "Format". */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { bf16ToFloat32, float16ToFloat32 } from "./bf16.ts";
import { InternalError, messageOf, UserError } from "./errors.ts";

export type TensorDtype = "F64" | "F32" | "F16" | "BF16" | "I64" | "I32" | "I16" | "I8" | "U8" | "BOOL";

const BYTES: Record<TensorDtype, number> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};

/** Where one tensor lies. `offset` counts bytes from the start of the file, as ONNX external data does. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly file: string;
  readonly offset: number;
  readonly byteLength: number;
}

export interface SafetensorsHeader {
  readonly file: string;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

const MAX_HEADER_BYTES = 100_000_000; // the limit of the reference implementation
const READ_CHUNK = 1 << 30; // fs.readSync takes less than 2 GiB a call

export const elementCount = (shape: readonly number[]): number => shape.reduce((product, dim) => product * dim, 1);

/**
 * Reads and checks the header: the file must be as long as its tensors say.
 * @throws UserError naming the file when it is missing, cut off or not a safetensors file
 */
export function readHeader(file: string): SafetensorsHeader {
  const handle = openFile(file);
  try {
    const size = fstatSync(handle).size;
    if (size < 8)
      throw new UserError(`${file}: not a safetensors file: ${size} bytes, its header length alone takes 8`);
    const headerBytes = Number(readBytes(handle, 0, 8, file).readBigUInt64LE(0));
    if (headerBytes > MAX_HEADER_BYTES || headerBytes + 8 > size) {
      throw new UserError(
        `${file}: cut off or not safetensors: it announces a header of ${headerBytes} bytes but has ${size} bytes in all; download it again`,
      );
    }
    return parseHeader(file, readBytes(handle, 8, headerBytes, file).toString("utf8"), 8 + headerBytes, size);
  } finally {
    closeSync(handle);
  }
}

function openFile(file: string): number {
  try {
    return openSync(file, constants.O_RDONLY);
  } catch (cause) {
    throw new UserError(`${file}: cannot be opened: ${messageOf(cause)}`, { cause });
  }
}

function readBytes(handle: number, position: number, length: number, file: string): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let done = 0; done < length; ) {
    const count = readSync(handle, bytes, done, Math.min(READ_CHUNK, length - done), position + done);
    if (count === 0)
      throw new UserError(
        `${file}: cut off: expected ${length} bytes at offset ${position}, found ${done}; download it again`,
      );
    done += count;
  }
  return bytes;
}

interface RawEntry {
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

function parseHeader(file: string, text: string, dataStart: number, fileSize: number): SafetensorsHeader {
  let raw: Record<string, RawEntry | Record<string, string>>;
  try {
    raw = JSON.parse(text) as Record<string, RawEntry | Record<string, string>>;
  } catch (cause) {
    throw new UserError(`${file}: not a safetensors file: its header is not JSON (${messageOf(cause)})`, { cause });
  }
  const tensors = new Map<string, TensorEntry>();
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(raw)) {
    if (name === "__metadata__") metadata = value as Record<string, string>;
    else tensors.set(name, checkedEntry({ file, name, raw: value as RawEntry, dataStart, fileSize }));
  }
  return { file, tensors, metadata };
}

function checkedEntry(of: {
  file: string;
  name: string;
  raw: RawEntry;
  dataStart: number;
  fileSize: number;
}): TensorEntry {
  const { file, name, raw, dataStart, fileSize } = of;
  const bytes = BYTES[raw.dtype];
  if (bytes === undefined)
    throw new UserError(
      `${file}: tensor "${name}" has dtype ${raw.dtype}; expected one of ${Object.keys(BYTES).join(", ")}`,
    );
  const [start, end] = raw.data_offsets ?? [0, -1];
  const byteLength = elementCount(raw.shape) * bytes;
  if (end - start !== byteLength) {
    throw new UserError(
      `${file}: tensor "${name}" [${raw.shape}] ${raw.dtype} needs ${byteLength} bytes, the header gives it ${end - start}`,
    );
  }
  if (dataStart + end > fileSize) {
    throw new UserError(
      `${file}: cut off: tensor "${name}" ends at byte ${dataStart + end}, the file has ${fileSize}; download it again`,
    );
  }
  return { name, dtype: raw.dtype, shape: raw.shape, file, offset: dataStart + start, byteLength };
}

/** The stored bytes of one tensor, in a buffer of their own (so that any element type may view them). */
export function readTensorBytes(entry: TensorEntry): Uint8Array<ArrayBuffer> {
  const handle = openFile(entry.file);
  try {
    const bytes = readBytes(handle, entry.offset, entry.byteLength, entry.file);
    const aligned = new Uint8Array(entry.byteLength);
    aligned.set(bytes);
    return aligned;
  } finally {
    closeSync(handle);
  }
}

/** One tensor as float32, converted exactly from F32, BF16 or F16. @throws UserError for other types */
export function readFloat32(entry: TensorEntry): Float32Array {
  const { buffer } = readTensorBytes(entry);
  if (entry.dtype === "F32") return new Float32Array(buffer);
  if (entry.dtype === "BF16") return bf16ToFloat32(new Uint16Array(buffer));
  if (entry.dtype === "F16") return float16ToFloat32(new Uint16Array(buffer));
  throw new UserError(`${entry.file}: tensor "${entry.name}" has dtype ${entry.dtype}; expected F32, BF16 or F16`);
}

/** A tensor to be written; `values` is a view of any element type of the right size. */
export interface WritableTensor {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly values: ArrayBufferView;
}

/**
 * Writes one file, whole or not at all: to a temporary name beside it, flushed, then renamed.
 * Tensors are laid down in the order given; `metadata` is `{format: "pt"}` for files that transformers and PEFT read.
 */
export async function writeSafetensors(
  file: string,
  tensors: Iterable<WritableTensor>,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Promise<void> {
  const list = [...tensors];
  const header = headerOf(list, metadata);
  const temporary = `${file}.tmp-${process.pid}`;
  const handle = await open(temporary, "w");
  try {
    await handle.write(header);
    for (const { values } of list) {
      const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      for (let done = 0; done < bytes.length; )
        done += (await handle.write(bytes.subarray(done, done + READ_CHUNK))).bytesWritten;
    }
    await handle.sync();
    await handle.close();
    await rename(temporary, file);
  } catch (cause) {
    await handle.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw cause;
  }
}

function headerOf(tensors: readonly WritableTensor[], metadata: Readonly<Record<string, string>>): Buffer {
  const entries: Record<string, unknown> = { __metadata__: metadata };
  let end = 0;
  for (const { name, dtype, shape, values } of tensors) {
    if (values.byteLength !== elementCount(shape) * BYTES[dtype]) {
      throw new InternalError(`tensor "${name}" [${shape}] ${dtype} was given ${values.byteLength} bytes`);
    }
    entries[name] = { dtype, shape, data_offsets: [end, end + values.byteLength] };
    end += values.byteLength;
  }
  const json = Buffer.from(JSON.stringify(entries), "utf8");
  const padded = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, " "); // tensors start on a multiple of 8
  padded.writeBigUInt64LE(BigInt(padded.length - 8), 0);
  json.copy(padded, 8);
  return padded;
}
