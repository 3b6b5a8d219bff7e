/** The weights of a model with an adapter worked into them. Source: PEFT 0.21, LoraLayer.merge and DoraLinearVariant.merge_safe. */
import { required } from "../utils/errors.ts";
import { readFloat32 } from "../utils/safetensors.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { type LoraModule, type LoraSettings, loraModules, loraScale } from "./lora.ts";
import { EMBED, HEAD } from "./parameters.ts";
import { trainablesOf } from "./trainables.ts";

/** By Hugging Face name, made in float32 when their turn comes; what is not named stays as the checkpoint has it. */
export type MergedWeights = ReadonlyMap<string, () => Float32Array>;

/**
 * W + s B A for every adapted layer, with DoRA each row brought to its magnitude's length; parameters that trained whole as
 * they are. A tied head with an adapter of its own is no longer the embedding: it stands in the result as `lm_head.weight`.
 * @param values of the adapter, by PEFT key, and of parameters trained whole, by Hugging Face name
 */
export function mergedWeights(
  checkpoint: Checkpoint,
  settings: LoraSettings,
  values: ReadonlyMap<string, Float32Array>,
): MergedWeights {
  const own = (name: string): Float32Array => required(values.get(name), `value of ${name}`);
  const { full } = trainablesOf(checkpoint, { kind: "lora", settings });
  const whole = [...full].map((name) => [name, () => own(name)] as const);
  const scale = loraScale(settings);
  const adapted = loraModules(checkpoint.architecture, settings).map((module) => {
    const { a, b } = { a: own(module.keyA), b: own(module.keyB) };
    const magnitude = settings.useDora ? own(module.keyMagnitude) : null;
    const weight = (): Float32Array => readFloat32(baseWeight(checkpoint, module));
    return [`${module.name}.weight`, () => merged(weight(), { a, b, scale, magnitude, r: settings.r })] as const;
  });
  return new Map([...whole, ...adapted]);
}

function baseWeight({ tensors, architecture }: Checkpoint, { name }: LoraModule) {
  const weight = `${name}.weight` === HEAD && architecture.isHeadTied ? EMBED : `${name}.weight`;
  return required(tensors.get(weight), weight);
}

interface Factors {
  readonly a: Float32Array; // [R, in]
  readonly b: Float32Array; // [out, R]
  readonly r: number;
  readonly scale: number;
  readonly magnitude: Float32Array | null; // [out]
}

/** In double, rounded once. @param weight [out, in], changed in place and returned */
function merged(weight: Float32Array, factors: Factors): Float32Array {
  const { b, r, magnitude } = factors;
  const rows = b.length / r;
  const columns = weight.length / rows;
  const row = new Float64Array(columns);
  for (let o = 0; o < rows; o++) {
    const stored = weight.subarray(o * columns, (o + 1) * columns);
    row.set(stored);
    addLowRank(row, o, factors);
    stored.set(magnitude === null ? row : stretched(row, magnitude[o] as number));
  }
  return weight;
}

/** row += s B[o] A */
function addLowRank(row: Float64Array, o: number, { a, b, r, scale }: Factors): void {
  for (let k = 0; k < r; k++) {
    const factor = scale * (b[o * r + k] as number);
    const start = k * row.length;
    for (let i = 0; i < row.length; i++) row[i] = (row[i] as number) + factor * (a[start + i] as number);
  }
}

/** The row at another length. */
function stretched(row: Float64Array, length: number): Float64Array {
  let squares = 0;
  for (let i = 0; i < row.length; i++) squares += (row[i] as number) ** 2;
  const factor = length / Math.sqrt(squares);
  return row.map((value) => factor * value);
}
