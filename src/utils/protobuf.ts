/** Writing protobuf wire format: enough of it for ONNX models and TensorBoard events. Source: protobuf.dev, "Encoding". */

const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

/** One message under construction: fields are appended in any order, repeated fields by appending again. */
export class Message {
  readonly #parts: Uint8Array[] = [];

  int(field: number, value: number | bigint): this {
    return this.#raw(tag(field, VARINT)).#raw(varint(value));
  }

  float(field: number, value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    return this.#raw(tag(field, FIXED32)).#raw(bytes);
  }

  double(field: number, value: number): this {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleLE(value);
    return this.#raw(tag(field, FIXED64)).#raw(bytes);
  }

  bytes(field: number, value: Uint8Array): this {
    return this.#raw(tag(field, LENGTH_DELIMITED)).#raw(varint(value.length)).#raw(value);
  }

  string(field: number, value: string): this {
    return this.bytes(field, Buffer.from(value, "utf8"));
  }

  message(field: number, value: Message): this {
    return this.bytes(field, value.encode());
  }

  encode(): Uint8Array {
    return Buffer.concat(this.#parts);
  }

  #raw(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    return this;
  }
}

const tag = (field: number, wireType: number): Uint8Array => varint(field * 8 + wireType);

/** Base-128, least significant group first; negative numbers as 64-bit two's complement. */
function varint(value: number | bigint): Uint8Array {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest ? low | 0x80 : low);
  } while (rest);
  return Uint8Array.from(bytes);
}
