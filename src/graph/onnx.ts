/** A Graph becomes the bytes of an ONNX model, its weights staying in their files. Source: onnx.proto (ONNX 1.17). */
import { InternalError, required } from "../utils/errors.ts";
import { Message } from "../utils/protobuf.ts";
import { factorOf, type Shape, symbolsOf } from "./dim.ts";
import { type DType, type Graph, usedNodes, type Value } from "./graph.ts";
import { lower } from "./lowering.ts";
import { type Attribute, type Branch, fromZero, int64s, ONNX_DTYPES, type Target, type Writer } from "./writer.ts";

const IR_VERSION = 10;
const ONNX_OPSET = 21; // Gelu needs 20, and every runtime since 1.20 reads 21
const MICROSOFT_OPSET = 1;

// AttributeProto.AttributeType
const FLOAT = 1;
const GRAPH = 5;
const INT = 2;
const STRING = 3;
const INTS = 7;

function attributeProto(name: string, value: Attribute): Message {
  const proto = new Message().string(1, name);
  if (typeof value === "number") return proto.int(3, value).int(20, INT);
  if (typeof value === "string") return proto.string(4, value).int(20, STRING);
  if ("float" in value) return proto.float(2, value.float).int(20, FLOAT);
  if ("branch" in value) return proto.bytes(6, value.branch).int(20, GRAPH);
  for (const item of value) proto.int(8, item);
  return proto.int(20, INTS);
}

function rawData(data: readonly number[], dtype: DType): Uint8Array {
  const bytes = (view: ArrayBufferView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  switch (dtype) {
    case "float32":
      return bytes(Float32Array.from(data));
    case "int64":
      return bytes(BigInt64Array.from(data, BigInt));
    case "int32":
      return bytes(Int32Array.from(data));
    case "uint32":
      return bytes(Uint32Array.from(data));
    case "int8":
      return bytes(Int8Array.from(data));
    case "uint8":
    case "bool":
      return Uint8Array.from(data);
    default:
      throw new InternalError(`constants of type ${dtype} are not written`);
  }
}

function tensorProto(name: string, shape: readonly number[], dtype: DType): Message {
  const proto = new Message().int(2, ONNX_DTYPES[dtype]).string(8, name);
  for (const dim of shape) proto.int(1, dim);
  return proto;
}

/** The WebGPU kernels compute with int32 where ONNX has int64; ids and places are smaller than either. */
const dtypeFor = (target: Target, dtype: DType): DType => (target === "webgpu" && dtype === "int64" ? "int32" : dtype);

function externalTensor(name: string, value: Value, place: Readonly<Record<string, string>>): Message {
  const proto = tensorProto(name, value.shape as readonly number[], value.dtype).int(14, 1);
  for (const [key, text] of Object.entries(place)) proto.message(13, new Message().string(1, key).string(2, text));
  return proto;
}

function valueInfo(name: string, dtype: DType, shape: Shape | null): Message {
  const tensorType = new Message().int(1, ONNX_DTYPES[dtype]);
  if (shape) tensorType.message(2, dimensions(shape));
  return new Message().string(1, name).message(2, new Message().message(1, tensorType));
}

function dimensions(shape: Shape): Message {
  const dims = new Message();
  for (const dim of shape)
    dims.message(1, typeof dim === "number" ? new Message().int(1, dim) : new Message().string(2, dim));
  return dims;
}

/** An input axis whose length is `factor` times a symbol. */
interface Source {
  readonly input: string;
  readonly axis: number;
  readonly factor: number;
}

/** Collects the parts of a GraphProto while the nodes are lowered. */
class GraphWriter implements Writer {
  /** Of the graph, or of the branch that is being written. */
  proto = new Message();
  nodes: Message[] = [];
  readonly #sources: ReadonlyMap<string, Source>;
  readonly isOrdered: boolean;
  #made = new Map<string, string>();
  #count = 0;

  constructor(
    graph: Graph,
    readonly target: Target,
  ) {
    const sources = new Map<string, Source>();
    for (const { name, shape } of graph.inputs) {
      shape.forEach((dim, axis) => {
        const [symbol, ...more] = symbolsOf(dim);
        const factor = factorOf(dim);
        if (symbol === undefined || more.length > 0) return;
        const known = sources.get(symbol);
        if (!known || known.factor > factor) sources.set(symbol, { input: name, axis, factor });
      });
    }
    this.#sources = sources;
    this.isOrdered = graph.isOrdered;
  }

  node(
    opType: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>> = {},
    domain = "",
  ): void {
    const proto = new Message();
    for (const input of inputs) proto.string(1, input);
    for (const output of outputs) proto.string(2, output);
    proto.string(3, outputs[0] ?? "").string(4, opType);
    for (const [name, value] of Object.entries(attributes)) proto.message(5, attributeProto(name, value));
    if (domain) proto.string(7, domain);
    this.nodes.push(proto);
  }

  value(
    opType: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, Attribute>>,
    domain?: string,
  ): string {
    const name = this.freshName(opType);
    this.node(opType, inputs, [name], attributes, domain);
    return name;
  }

  constant(data: readonly number[], shape: readonly number[], dtype: DType): string {
    return this.once(`const ${dtype} [${shape}] ${data}`, () => {
      const name = this.freshName("const");
      this.proto.message(5, tensorProto(name, shape, dtype).bytes(9, rawData(data, dtype)));
      return name;
    });
  }

  symbol(symbol: string): string {
    const { input, axis, factor } = required(this.#sources.get(symbol), `an input with the dimension ${symbol}`);
    return this.once(`symbol ${symbol}`, () => {
      const length = this.value("Shape", [input], { start: axis, end: axis + 1 });
      return factor === 1 ? length : this.value("Div", [length, this.constant([factor], [1], "int64")]);
    });
  }

  get runsAsWritten(): boolean {
    return this.isOrdered && this.target === "cpu";
  }

  late(data: readonly number[]): string {
    const [symbol] = this.#sources.keys();
    if (symbol === undefined) return int64s(this, data);
    const zero = this.once("zero", () => this.value("Mul", [this.symbol(symbol), int64s(this, [0])]));
    return this.once(`late ${data}`, () => fromZero(this, data, zero));
  }

  once(key: string, make: () => string): string {
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const name = make();
    this.#made.set(key, name);
    return name;
  }

  freshName(base: string): string {
    return `lowered/${base}_${this.#count++}`;
  }

  branch({ dtype, shape }: Value, output: string, write: () => void): Branch {
    const around = { proto: this.proto, nodes: this.nodes, made: this.#made };
    this.proto = new Message().string(2, output).message(12, valueInfo(output, dtype, shape));
    this.#made = new Map(around.made); // what a branch makes is not seen outside
    this.nodes = [];
    write();
    for (const node of this.nodes) this.proto.message(1, node);
    const branch = this.proto.encode();
    [this.proto, this.nodes, this.#made] = [around.proto, around.nodes, around.made];
    return { branch };
  }
}

/** Outputs keep their own names: the value is renamed where a node makes it, else (an input, or a second name) copied. */
function outputNames(graph: Graph): Map<Value, string> {
  const made = new Set(graph.nodes.flatMap((node) => node.outputs));
  const names = new Map<Value, string>();
  for (const { name, value } of graph.outputs) if (made.has(value) && !names.has(value)) names.set(value, name);
  return names;
}

/**
 * Encodes the graph. One that saves memory by its order is written from its last node to its first, so that it runs in the order of our
 * nodes: the runtime goes back from the outputs, the last in the file first, and at each node first to the input that comes
 * last in the file. Written the usual way, it would compute the gradients of parameters at the very end and keep all that
 * they need until then. Nor does it tell lengths that only a run knows: with them the runtime would look for a buffer of the
 * same shape among all that are free, node by node, and take seconds more to open a session of ten thousand nodes, for
 * buffers that its memory pool reuses anyway. Weights become external data: `location` is relative to the folder named when the session opens.
 * @param target the device that will run it; `cpu` is the form that other programs know
 * @returns the bytes of a ModelProto
 */
export function encodeOnnx(graph: Graph, target: Target = "cpu"): Uint8Array {
  const writer = new GraphWriter(graph, target);
  const info = (name: string, dtype: DType, shape: Shape): Message => {
    const isTold = !writer.isOrdered || shape.every((dim) => typeof dim === "number");
    return valueInfo(name, dtypeFor(target, dtype), isTold ? shape : null);
  };
  const renamed = outputNames(graph);
  const nameOf = (value: Value): string => renamed.get(value) ?? value.name;
  const { proto } = writer;
  proto.string(2, graph.name);
  const nodes = usedNodes(graph);
  const used = new Set([...nodes.flatMap((node) => [...node.inputs]), ...graph.outputs.map((output) => output.value)]);
  for (const { name, dtype, shape } of graph.inputs) proto.message(11, info(name, dtype, shape));
  for (const { value, location, offset, byteLength } of graph.weights) {
    if (used.has(value))
      proto.message(
        5,
        externalTensor(value.name, value, { location, offset: String(offset), length: String(byteLength) }),
      );
  }
  for (const { value, data } of graph.constants) {
    const dtype = dtypeFor(target, value.dtype);
    if (used.has(value))
      proto.message(5, tensorProto(value.name, value.shape as readonly number[], dtype).bytes(9, rawData(data, dtype)));
  }
  for (const node of nodes) lower(writer, node, node.inputs.map(nameOf), node.outputs.map(nameOf));
  for (const { name, value } of graph.outputs) {
    if (nameOf(value) !== name) writer.node("Identity", [nameOf(value)], [name]);
    proto.message(12, info(name, value.dtype, value.shape));
  }
  for (const node of writer.isOrdered ? writer.nodes.toReversed() : writer.nodes) proto.message(1, node);
  const opset = (domain: string, version: number): Message => new Message().string(1, domain).int(2, version);
  return new Message()
    .int(1, IR_VERSION)
    .string(2, "qwen3-vl-finetune")
    .message(7, proto)
    .message(8, opset("", ONNX_OPSET))
    .message(8, opset("com.microsoft", MICROSOFT_OPSET))
    .encode();
}
