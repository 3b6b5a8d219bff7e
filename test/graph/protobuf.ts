// Reads protobuf wire format, for tests alone: enough to see what was written.

/** Fields of one message by number; numbers as they are, all else as bytes. */
export type Fields = ReadonlyMap<number, readonly (bigint | Uint8Array)[]>;

export function decode(bytes: Uint8Array): Fields {
  const fields = new Map<number, (bigint | Uint8Array)[]>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = BigInt(bytes[at++] ?? 0);
      value |= (byte & 0x7fn) << shift;
      if (byte < 0x80n) return value;
    }
  };
  const take = (length: number): Uint8Array => {
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const wire = tag & 7;
    const value = wire === 0 ? varint() : take(wire === 2 ? Number(varint()) : wire === 1 ? 8 : 4);
    const known = fields.get(tag >> 3);
    if (known) known.push(value);
    else fields.set(tag >> 3, [value]);
  }
  return fields;
}

export const messages = (fields: Fields, field: number): Fields[] =>
  (fields.get(field) ?? []).map((bytes) => decode(bytes as Uint8Array));
export const texts = (fields: Fields, field: number): string[] =>
  (fields.get(field) ?? []).map((bytes) => Buffer.from(bytes as Uint8Array).toString("utf8"));
export const wholes = (fields: Fields, field: number): number[] => (fields.get(field) ?? []).map(Number);

/** The types that an ONNX model casts to: names of the values, and the type's number. */
export function readCasts(
  bytes: Uint8Array,
): { readonly input: string; readonly output: string; readonly to: number }[] {
  const [graph = new Map()] = messages(decode(bytes), 7);
  return messages(graph, 1)
    .filter((node) => texts(node, 4)[0] === "Cast")
    .map((node) => {
      const to = messages(node, 5).find((attribute) => texts(attribute, 1)[0] === "to") ?? new Map();
      return { input: texts(node, 1)[0] ?? "", output: texts(node, 2)[0] ?? "", to: wholes(to, 3)[0] ?? 0 };
    });
}

/** What an ONNX model holds. Field numbers: onnx.proto. */
export function readModel(bytes: Uint8Array) {
  const model = decode(bytes);
  const [graph = new Map()] = messages(model, 7);
  return {
    opsets: messages(model, 8).map((opset) => [texts(opset, 1)[0] ?? "", wholes(opset, 2)[0]] as const),
    nodes: messages(graph, 1).map((node) => ({
      op: texts(node, 4)[0] ?? "",
      inputs: texts(node, 1),
      outputs: texts(node, 2),
      attributes: messages(node, 5).flatMap((attribute) => texts(attribute, 1)),
    })),
    initializers: messages(graph, 5).map((tensor) => ({
      name: texts(tensor, 8)[0] ?? "",
      dims: wholes(tensor, 1),
      dtype: wholes(tensor, 2)[0],
      external: Object.fromEntries(messages(tensor, 13).map((entry) => [texts(entry, 1)[0], texts(entry, 2)[0]])),
    })),
    inputs: messages(graph, 11).flatMap((input) => texts(input, 1)),
    outputs: messages(graph, 12).flatMap((output) => texts(output, 1)),
  };
}
