/** The safetensors file format, reading (whole or by slice) and writing. Source: github.com/huggingface/safetensors, README "Format". */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { bf16ToFloat32, float16ToFloat32 } from "./bf16.ts";
import { InternalError, Interrupted, messageOf, UserError } from "./errors.ts";

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
    const headerBytes = Number(new DataView(readBytes(handle, 0, 8, file).buffer).getBigUint64(0, true));
    if (headerBytes > MAX_HEADER_BYTES || headerBytes + 8 > size) {
      throw new UserError(
        `${file}: cut off or not safetensors: it announces a header of ${headerBytes} bytes but has ${size} bytes in all; download it again`,
      );
    }
    return parseHeader(file, new TextDecoder().decode(readBytes(handle, 8, headerBytes, file)), 8 + headerBytes, size);
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

function readBytes(handle: number, position: number, length: number, file: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length); // not a Buffer: those may share memory and start at an odd place
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

function parseHeader(file: string, text: string, dataStart: number, fileSize: number): SafetensorsHeader {
  const raw = parsedObject(file, text);
  const tensors = new Map<string, TensorEntry>();
  for (const [name, value] of Object.entries(raw)) {
    if (name !== "__metadata__") tensors.set(name, checkedEntry({ file, name, value, dataStart, fileSize }));
  }
  const metadata = isObject(raw.__metadata__) ? raw.__metadata__ : {};
  return {
    file,
    tensors,
    metadata: Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, String(value)])),
  };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function parsedObject(file: string, text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch (cause) {
    throw new UserError(`${file}: not a safetensors file: its header is not JSON (${messageOf(cause)})`, { cause });
  }
  throw new UserError(`${file}: not a safetensors file: its header is no JSON object`);
}

const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
const isDtype = (value: unknown): value is TensorDtype => typeof value === "string" && Object.hasOwn(BYTES, value);

function checkedEntry(of: {
  file: string;
  name: string;
  value: unknown;
  dataStart: number;
  fileSize: number;
}): TensorEntry {
  const { file, name, dataStart, fileSize } = of;
  const { dtype, shape, data_offsets: offsets } = isObject(of.value) ? of.value : {};
  if (!isDtype(dtype)) {
    throw new UserError(
      `${file}: tensor "${name}" has dtype ${dtype}; expected one of ${Object.keys(BYTES).join(", ")}`,
    );
  }
  const [start, end] = Array.isArray(offsets) ? offsets : [];
  if (!Array.isArray(shape) || !shape.every(isCount) || !isCount(start) || !isCount(end)) {
    throw new UserError(
      `${file}: tensor "${name}" has shape ${JSON.stringify(shape)} and data_offsets ${JSON.stringify(offsets)}; expected whole numbers from 0 on`,
    );
  }
  const byteLength = elementCount(shape) * BYTES[dtype];
  if (end - start !== byteLength) {
    throw new UserError(
      `${file}: tensor "${name}" [${shape}] ${dtype} needs ${byteLength} bytes, the header gives it ${end - start}`,
    );
  }
  if (dataStart + end > fileSize) {
    throw new UserError(
      `${file}: cut off: tensor "${name}" ends at byte ${dataStart + end}, the file has ${fileSize}; download it again`,
    );
  }
  return { name, dtype, shape, file, offset: dataStart + start, byteLength };
}

/** The stored bytes of one tensor, in a buffer of their own (so that any element type may view them). */
export function readTensorBytes(entry: TensorEntry): Uint8Array<ArrayBuffer> {
  const handle = openFile(entry.file);
  try {
    return readBytes(handle, entry.offset, entry.byteLength, entry.file);
  } finally {
    closeSync(handle);
  }
}

/** One tensor as float32, converted exactly from F32, BF16 or F16. @throws UserError for other types */
export function readFloat32(entry: TensorEntry): Float32Array {
  return asFloat32(entry, readTensorBytes(entry));
}

/** Rows [start, end) of a tensor along its first axis, as `readFloat32`. */
export function readFloat32Rows(entry: TensorEntry, start: number, end: number): Float32Array {
  const rowBytes = entry.byteLength / (entry.shape[0] ?? 1);
  return readFloat32({
    ...entry,
    shape: [end - start, ...entry.shape.slice(1)],
    offset: entry.offset + start * rowBytes,
    byteLength: (end - start) * rowBytes,
  });
}

function asFloat32(entry: TensorEntry, { buffer }: Uint8Array<ArrayBuffer>): Float32Array {
  if (entry.dtype === "F32") return new Float32Array(buffer);
  if (entry.dtype === "BF16") return bf16ToFloat32(new Uint16Array(buffer));
  if (entry.dtype === "F16") return float16ToFloat32(new Uint16Array(buffer));
  throw new UserError(`${entry.file}: tensor "${entry.name}" has dtype ${entry.dtype}; expected F32, BF16 or F16`);
}

/** A tensor to be written; `values` is a view of any element type of the right size, or makes one when its turn comes. */
export interface WritableTensor {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly values: ArrayBufferView | (() => ArrayBufferView);
}

/**
 * Writes one file, whole or not at all: to a temporary name beside it, flushed, then renamed.
 * Tensors are laid down in the order given; `metadata` is `{format: "pt"}` for files that transformers and PEFT read.
 * @throws UserError naming the file when the disk is full or the folder cannot be written
 */
export async function writeSafetensors(
  file: string,
  tensors: Iterable<WritableTensor>,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Promise<void> {
  const list = [...tensors];
  const header = headerOf(list, metadata);
  const temporary = `${file}.tmp-${process.pid}`;
  try {
    const handle = await open(temporary, "w");
    try {
      await writeAll(handle, header);
      for (const tensor of list) await writeAll(handle, bytesOf(tensor));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (cause) {
    await rm(temporary, { force: true });
    if ([UserError, InternalError, Interrupted].some((kind) => cause instanceof kind)) throw cause; // from making a tensor
    throw new UserError(`${file}: cannot be written: ${messageOf(cause)}`, { cause });
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, Math.min(READ_CHUNK, bytes.length - done))).bytesWritten;
  }
}

function bytesOf(tensor: WritableTensor): Uint8Array {
  const { name, dtype, shape } = tensor;
  const values = typeof tensor.values === "function" ? tensor.values() : tensor.values;
  if (values.byteLength !== byteLengthOf(tensor))
    throw new InternalError(`tensor "${name}" [${shape}] ${dtype} was given ${values.byteLength} bytes`);
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

type TensorPlan = Omit<WritableTensor, "values">;

export const byteLengthOf = ({ dtype, shape }: TensorPlan): number => elementCount(shape) * BYTES[dtype];

/** The header of a file of these tensors, for writers that put them down in an order of their own: each at its offset. */
export function headerBytes(tensors: readonly TensorPlan[], metadata: Readonly<Record<string, string>>) {
  const header = headerOf(tensors, metadata);
  let size = header.length;
  const offsets = tensors.map((tensor) => {
    size += byteLengthOf(tensor);
    return size - byteLengthOf(tensor);
  });
  return { header, offsets, size };
}

function headerOf(tensors: readonly TensorPlan[], metadata: Readonly<Record<string, string>>): Buffer {
  const entries: Record<string, unknown> = { __metadata__: metadata };
  let end = 0;
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    if (Object.hasOwn(entries, name)) throw new InternalError(`tensor "${name}" is written twice`);
    entries[name] = { dtype, shape, data_offsets: [end, end + byteLengthOf(tensor)] };
    end += byteLengthOf(tensor);
  }
  const json = Buffer.from(JSON.stringify(entries), "utf8");
  const padded = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, " "); // tensors start on a multiple of 8
  padded.writeBigUInt64LE(BigInt(padded.length - 8), 0);
  json.copy(padded, 8);
  return padded;
}
