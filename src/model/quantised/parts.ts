/** The parts of a model that are kept in few bits, each in a file of its own, and which of them a run needs. */
import { required } from "../../utils/errors.ts";
import type { TensorEntry } from "../../utils/safetensors.ts";
import type { Architecture } from "../architecture.ts";
import { headWeight, isVision, linearModules } from "../parameters.ts";
import { formOf, type QuantKind } from "./matrix.ts";

/**
 * The layers of the text and the vision tower; what gradients need of matrices in blocks, their transpose; what makes
 * gradients of matrices by rows faster, the same values turned; and the head for answers. In training the head stays as it is
 * stored: it runs on few rows, and what it rounds would be in every gradient.
 */
export const PARTS = ["text", "text.transposed", "text.turned", "vision", "vision.transposed", "head"] as const;
export type QuantPart = (typeof PARTS)[number];

/** Whether a part is for gradients, beside another copy of the same matrices. */
export const isForGradients = (part: QuantPart): boolean => part.includes(".");

interface StoredModel {
  readonly architecture: Architecture;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/** Names of the weight matrices that are kept in few bits, by part. */
export function quantisedNames(model: StoredModel, kind: QuantKind, part: QuantPart): readonly string[] {
  if (part === "head") return [headWeight(model.architecture)];
  const isOfVision = part.startsWith("vision");
  const names = linearModules(model.architecture).flatMap(({ name }) =>
    name !== "lm_head" && isVision(name) === isOfVision ? [`${name}.weight`] : [],
  );
  if (!isForGradients(part)) return names;
  const wanted = part.endsWith(".turned") ? "rows" : "blocks";
  return names.filter((name) => {
    const [, columns = 0] = required(model.tensors.get(name), name).shape;
    return formOf(kind, columns).kind === wanted;
  });
}

/** What a run does with its weights. */
export interface WeightUse {
  /** Whether gradients pass through the language layers, and through the tower. */
  readonly trains: "nothing" | "text" | "tower";
  readonly answers: boolean;
  /** As --gradient-checkpointing says. */
  readonly savesMemory: boolean;
}

/** Numbers in the layers of the text up to which their values are kept turned too: it saves a tenth of a step. */
const TURNED_NUMBERS = 2 ** 31;

export function partsFor({ text }: Architecture, { trains, answers, savesMemory }: WeightUse): readonly QuantPart[] {
  const { layers, hiddenSize, intermediateSize, heads, kvHeads, headDim } = text;
  const numbers = layers * hiddenSize * (2 * (heads + kvHeads) * headDim + 3 * intermediateSize);
  const isTurned = !savesMemory && numbers <= TURNED_NUMBERS;
  return [
    ...(["text", "vision"] as const),
    ...(trains === "nothing" ? [] : (["text.transposed"] as const)),
    ...(trains !== "nothing" && isTurned ? (["text.turned"] as const) : []),
    ...(trains === "tower" ? (["vision.transposed"] as const) : []),
    ...(answers ? (["head"] as const) : []),
  ];
}
