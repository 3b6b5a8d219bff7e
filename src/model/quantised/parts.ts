/** The parts of a model that are kept in few bits, each in a file of its own, and which of them a run needs. */
import type { Architecture } from "../architecture.ts";
import { headWeight, isVision, type LinearModule, linearModules } from "../parameters.ts";
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

/** The head apart. */
const modulesOf = (architecture: Architecture, areOfVision: boolean): readonly LinearModule[] =>
  linearModules(architecture).filter(({ name }) => name !== "lm_head" && isVision(name) === areOfVision);

/** Names of the weight matrices that are kept in few bits, by part. */
export function quantisedNames(architecture: Architecture, kind: QuantKind, part: QuantPart): readonly string[] {
  if (part === "head") return [headWeight(architecture)];
  const modules = modulesOf(architecture, part.startsWith("vision"));
  const wanted = part.endsWith(".turned") ? "rows" : "blocks";
  const kept = isForGradients(part)
    ? modules.filter(({ inFeatures }) => formOf(kind, inFeatures).kind === wanted)
    : modules;
  return kept.map(({ name }) => `${name}.weight`);
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

export function partsFor(
  architecture: Architecture,
  { trains, answers, savesMemory }: WeightUse,
): readonly QuantPart[] {
  const numbers = modulesOf(architecture, false).reduce((sum, of) => sum + of.inFeatures * of.outFeatures, 0);
  const isTurned = !savesMemory && numbers <= TURNED_NUMBERS;
  return [
    ...(["text", "vision"] as const),
    ...(trains === "nothing" ? [] : (["text.transposed"] as const)),
    ...(trains !== "nothing" && isTurned ? (["text.turned"] as const) : []),
    ...(trains === "tower" ? (["vision.transposed"] as const) : []),
    ...(answers ? (["head"] as const) : []),
  ];
}
