/** What every layer of the model is built from: parameters (frozen in their file, or fed because they train), linear layers, norms, attention. */
import { relative } from "node:path";
import { type Builder, builderOf } from "../graph/builder.ts";
import { HIDDEN } from "../graph/cachedAttention.ts";
import type { Dim, Shape } from "../graph/dim.ts";
import type { DType, Graph, Value } from "../graph/graph.ts";
import type { QuantForm, QuantMatrix } from "../graph/ops.ts";
import { bf16ToFloat32, float32ToBf16 } from "../utils/bf16.ts";
import { InternalError, required } from "../utils/errors.ts";
import type { TensorDtype, TensorEntry } from "../utils/safetensors.ts";
import type { Architecture, RotaryDtype } from "./architecture.ts";
import { type Checkpoint, weightsDir } from "./checkpoint.ts";
import { type LoraModule, type LoraSettings, loraScale } from "./lora.ts";
import { addLora, dora, earlyScale } from "./lowRank.ts";
import { type MemorySettings, NOTHING_SAVED } from "./memory.ts";
import { headWeight, isVision, type LinearModule, linearModules } from "./parameters.ts";
import { formForGradients, formOf } from "./quantised/matrix.ts";
import type { QuantisedEntry } from "./quantised/store.ts";
import { rowSquares } from "./rowSquares.ts";

/** What changes in training; all else stays in the checkpoint's files. */
export interface Trainables {
  /** Parameters trained themselves, by Hugging Face name. */
  readonly full: ReadonlySet<string>;
  readonly lora: { readonly settings: LoraSettings; readonly modules: readonly LoraModule[] } | null;
}

export const NOTHING_TRAINABLE: Trainables = { full: new Set(), lora: null };

/** Whether gradients must pass through the vision tower, so that its outputs cannot be computed once and kept. */
export const trainsVision = ({ full, lora }: Trainables): boolean =>
  [...full].some(isVision) || (lora?.modules ?? []).some(({ name }) => isVision(name));

/** Name and shape of every trainable parameter, in the order of the checkpoint's table, LoRA's A before B and DoRA's magnitude. */
export function trainableShapes(
  { tensors }: Checkpoint,
  { full, lora }: Trainables,
): ReadonlyMap<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>();
  for (const [name, { shape }] of tensors) if (full.has(name)) shapes.set(name, shape);
  for (const { keyA, keyB, keyMagnitude, inFeatures, outFeatures } of lora?.modules ?? []) {
    const { r, useDora } = required(lora, "lora").settings;
    shapes.set(keyA, [r, inFeatures]);
    shapes.set(keyB, [outFeatures, r]);
    if (useDora) shapes.set(keyMagnitude, [outFeatures]);
  }
  return shapes;
}

const DTYPES: Partial<Record<TensorDtype, DType>> = {
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  I8: "int8",
  U8: "uint8",
};

/** Parameters of a product. */
interface ProductNames {
  readonly weight: string;
  readonly bias: string | null;
}

/** Builds the layers of one graph. Parameters appear in the graph when a layer first asks for them. */
export class LayerBuilder {
  readonly ops: Builder;
  readonly architecture: Architecture;
  /** Trainable parameters that this graph takes as inputs, in the order of first use. */
  readonly trainable = new Map<string, Value>();
  readonly #checkpoint: Checkpoint;
  readonly #trainables: Trainables;
  readonly #linears: ReadonlyMap<string, LinearModule>;
  readonly #adapters: ReadonlyMap<string, LoraModule>;
  readonly #frozen = new Map<string, Value>();
  readonly #weightsDir: string;
  #adapterShare: Value | null = null;
  #dropoutSeed: Value | null = null;
  #dropoutSites = 0;

  constructor(
    readonly graph: Graph,
    checkpoint: Checkpoint,
    trainables: Trainables,
    /** Dropout is part of training graphs only; a head in few bits of those that answer. */
    readonly mode: "train" | "infer" | "answer",
    readonly memory: MemorySettings = NOTHING_SAVED,
  ) {
    this.ops = builderOf(graph);
    this.architecture = checkpoint.architecture;
    this.#checkpoint = checkpoint;
    this.#weightsDir = weightsDir(checkpoint);
    this.#trainables = trainables;
    this.#linears = new Map(linearModules(checkpoint.architecture).map((module) => [module.name, module]));
    this.#adapters = new Map(trainables.lora?.modules.map((module) => [module.name, module]));
  }

  /** A parameter in float32. `shape` lets a kernel that is a matrix be read as one. */
  parameter(name: string, shape?: readonly number[]): Value {
    const entry = required(this.#checkpoint.tensors.get(name), `parameter ${name}`);
    if (this.#trainables.full.has(name)) return this.ops.reshape(this.#fed(name, entry.shape), shape ?? entry.shape);
    return this.ops.cast(this.#stored(entry, shape ?? entry.shape), "float32");
  }

  /** Rows of a parameter, read as they are stored: a large frozen table is never turned to float32 as a whole. */
  rowsOf(name: string, rows: Value): Value {
    const entry = required(this.#checkpoint.tensors.get(name), `parameter ${name}`);
    if (this.#trainables.full.has(name)) return this.ops.gather(this.parameter(name), rows);
    return this.ops.cast(this.ops.gather(this.#stored(entry, entry.shape), rows), "float32");
  }

  /** y = x W^T + b + s dropout(x) A^T B^T for x [rows, in], s = alpha / r; DoRA: see `dora` */
  linear(name: string, x: Value): Value {
    const { hasBias } = required(this.#linears.get(name), `linear layer ${name}`);
    return this.#adapted(name, x, { weight: `${name}.weight`, bias: hasBias ? `${name}.bias` : null });
  }

  /** The head's weight is the embedding's where the two are tied; its adapter, if any, is its own. */
  head(x: Value, tiedTo: string | null): Value {
    return tiedTo === null ? this.linear("lm_head", x) : this.#adapted("lm_head", x, { weight: tiedTo, bias: null });
  }

  layerNorm(name: string, x: Value): Value {
    const [weight, bias] = [this.parameter(`${name}.weight`), this.parameter(`${name}.bias`)];
    return this.light(() => this.ops.layerNorm(x, weight, bias, 1e-6));
  }

  rmsNorm(name: string, x: Value): Value {
    const weight = this.parameter(`${name}.weight`);
    return this.light(() => this.ops.rmsNorm(x, weight, this.architecture.text.rmsNormEps));
  }

  /** x W^T + b, W read as a matrix of this shape. Frozen weights stay as they are stored. */
  matrixProduct(x: Value, { weight, bias }: ProductNames, shape?: readonly number[]): Value {
    const { ops } = this;
    const added = bias === null ? null : this.parameter(bias);
    const entry = required(this.#checkpoint.tensors.get(weight), `parameter ${weight}`);
    const isFrozen = !this.#trainables.full.has(weight);
    const quantised = isFrozen ? this.#quantised(weight) : null;
    if (quantised) {
      const product = ops.quantMatMul(x, quantised.matrix, quantised.out, quantised);
      return added ? ops.add(product, added) : product;
    }
    if (isFrozen) return ops.storedMatMul(x, this.#stored(entry, shape ?? entry.shape), { bias: added });
    const fed = this.parameter(weight, shape);
    return added ? ops.gemm(x, fed, added, { transB: true }) : ops.matMul(x, fed, { transB: true });
  }

  /** A layer of the model, named as by `graph.within`, of which the backward pass knows nothing but what leaves it, where memory is saved so. */
  within(scope: string, build: () => Value): Value {
    const { graph } = this;
    const named = (): Value => graph.within(scope, build);
    return this.#recomputes("layers") ? graph.keep(graph.forgetting(named)) : named();
  }

  /** What takes a pass over memory or two: it is computed again where memory counts. */
  light<T>(build: () => T): T {
    return this.#recomputes("passes") ? this.graph.forgetting(build) : build();
  }

  /** What attention makes, and layers that are computed again may keep. */
  mixture(value: Value): Value {
    return this.memory.keepsMixtures ? this.graph.keep(value) : value;
  }

  #recomputes(what: MemorySettings["recomputes"]): boolean {
    return this.mode === "train" && this.memory.recomputes === what;
  }

  /**
   * From here on adapters of several users lie side by side, R ranks in all (eval/adapterStack.ts).
   * @param share 1 for the columns of a row's own adapter, else 0: [rows, R]
   */
  stackAdapters(share: Value): void {
    this.#adapterShare = share;
  }

  /** From here on only these rows are computed. */
  chooseRows(rows: Value): void {
    if (this.#adapterShare) this.#adapterShare = this.ops.gather(this.#adapterShare, rows);
  }

  #adapted(name: string, x: Value, names: ProductNames): Value {
    const module = this.#adapters.get(name);
    if (!module) return this.matrixProduct(x, names);
    const { settings } = required(this.#trainables.lora, "lora");
    const { r, dropout, useDora } = settings;
    const ranks = this.#adapterShare?.shape[1] ?? r;
    const { ops } = this;
    const seen = this.mode === "train" && dropout > 0 ? ops.mul(x, this.#dropout(x, dropout)) : x;
    const adapter = {
      a: this.#fed(module.keyA, [ranks, module.inFeatures]),
      b: this.#fed(module.keyB, [module.outFeatures, ranks]),
      scale: loraScale(settings),
      share: this.#adapterShare,
      ...(this.mode === "answer" && this.#checkpoint.quantised ? { early: earlyScale(loraScale(settings)) } : {}),
    };
    if (!useDora) return addLora(ops, seen, this.matrixProduct(x, names), adapter);
    const base = {
      product: (factor: Value) => this.matrixProduct(factor, { weight: names.weight, bias: null }),
      squares: this.graph.constant([...rowSquares(this.#checkpoint, names.weight)], [module.outFeatures]),
    };
    const magnitude = this.#fed(module.keyMagnitude, [module.outFeatures]);
    const adapted = dora(ops, { x, seen }, base, { ...adapter, magnitude });
    return names.bias ? ops.add(adapted, this.parameter(names.bias)) : adapted;
  }

  #dropout(x: Value, rate: number): Value {
    this.#dropoutSeed ??= this.graph.input("dropout_seed", "int64", []);
    this.#dropoutSites += 1;
    const [rows, columns] = x.shape;
    if (rows === undefined || typeof columns !== "number")
      throw new InternalError(`dropout: ${x.name} is not [rows, columns]`);
    return this.ops.dropoutMask(this.#dropoutSeed, { shape: [rows, columns], rate, salt: this.#dropoutSites });
  }

  #fed(name: string, shape: Shape): Value {
    const known = this.trainable.get(name);
    if (known) return known;
    const value = this.graph.input(name, "float32", shape);
    this.trainable.set(name, value);
    return value;
  }

  /** The weight [out, in] in few bits, and in a graph that is differentiated what is kept for gradients; null where it is not kept so. */
  #quantised(name: string): { matrix: QuantMatrix; backward: QuantMatrix | null; out: number } | null {
    const { quantised, tensors } = this.#checkpoint;
    const entry = quantised?.weights.get(name);
    if (!quantised || !entry || (name === headWeight(this.architecture) && this.mode !== "answer")) return null;
    const [out = 0, columns = 0] = required(tensors.get(name), name).shape;
    const { kind, inputBits } = quantised;
    const second = this.mode === "train" ? quantised.forGradients.get(name) : undefined;
    const form = formOf(kind, columns, { inputBits, isPacked: this.#packs(name, second !== undefined) });
    const backward = second ? this.#fewBits(second, formForGradients(form), `${name}.forGradients`) : null;
    return { matrix: this.#fewBits(entry, form, name), backward, out };
  }

  /** Not what the backward pass reads too, nor where losses alone are computed beside it, from the same file. */
  #packs(name: string, hasSecond: boolean): boolean {
    if (this.mode === "infer") return isVision(name) && !trainsVision(this.#trainables);
    return this.mode === "answer" || hasSecond;
  }

  #fewBits({ values, scales, zeroPoints }: QuantisedEntry, form: QuantForm, name: string): QuantMatrix {
    const weight = (entry: TensorEntry, suffix: string): Value =>
      this.#stored({ ...entry, name: `${name}.${suffix}` }, entry.shape);
    return {
      values: weight(values, "values"),
      scales: weight(scales, "scales"),
      zeroPoints: zeroPoints && weight(zeroPoints, "zeroPoints"),
      form,
    };
  }

  #stored({ name, dtype, file, offset, byteLength }: TensorEntry, shape: readonly number[]): Value {
    const known = this.#frozen.get(name);
    if (known) return known;
    const value = this.graph.weight({
      name,
      dtype: required(DTYPES[dtype], `graph type of ${dtype}`),
      shape,
      location: relative(this.#weightsDir, file),
      offset,
      byteLength,
    });
    this.#frozen.set(name, value);
    return value;
  }
}

export interface AttentionInputs {
  readonly q: Value; // [.., Tq, Dh]
  readonly k: Value; // [.., Tk, Dh]
  readonly v: Value; // [.., Tk, Dh]
  readonly scale: number;
  /** Added to the scores after they are reshaped to `scoreShape`; null where every key may be seen. */
  readonly bias: { readonly value: Value; readonly scoreShape: readonly Dim[] } | null;
  /** Told the scores [.., Tq, Tk] as softmax takes them. */
  readonly onScores?: ((scores: Value) => void) | undefined;
}

/** softmax(scale q k^T + bias) v */
export function attention(ops: Builder, { q, k, v, scale, bias, onScores }: AttentionInputs): Value {
  const scores = ops.matMul(q, k, { transB: true, alpha: scale }); // [.., Tq, Tk]
  const masked = bias ? ops.reshape(ops.add(ops.reshape(scores, bias.scoreShape), bias.value), scores.shape) : scores;
  onScores?.(masked);
  return ops.matMul(ops.softmax(masked), v);
}

/** Inverse rotary frequencies 1 / theta^(2i / dim) for i < dim / 2, in float32 as PyTorch rounds them, or rounded further. */
export function inverseFrequencies(theta: number, dim: number, dtype: RotaryDtype): number[] {
  const exact = Float32Array.from({ length: dim / 2 }, (_, i) => 1 / Math.fround(theta ** Math.fround((2 * i) / dim)));
  return [...(dtype === "float32" ? exact : bf16ToFloat32(float32ToBf16(exact)))];
}

/** 0 where `isVisible`, else a number that softmax turns into zero. */
export const visibilityBias = (ops: Builder, isVisible: Value): Value =>
  ops.where(isVisible, ops.scalar(0), ops.scalar(HIDDEN));
