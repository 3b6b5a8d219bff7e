/**
 * Quantised weights on disk. They are made once for a checkpoint's contents and kept as safetensors files, one for each part
 * of the model that graphs ask for, which the runtime maps: beside the checkpoint, or where that cannot be written in the
 * user's cache.
 */
import type { InputBits } from "../../graph/ops.ts";
import { required, UserError } from "../../utils/errors.ts";
import { readHeader, type TensorEntry } from "../../utils/safetensors.ts";
import type { Architecture } from "../architecture.ts";
import { contentKey } from "./contentKey.ts";
import { exactInputBits } from "./inputBits.ts";
import { cacheRoots, findWhole, makeOnce } from "./keptFile.ts";
import { formOf, type QuantKind, storedShapes } from "./matrix.ts";
import { isForGradients, PARTS, type QuantPart, quantisedNames } from "./parts.ts";
import { writeInParallel } from "./writeFile.ts";

/** What of a checkpoint is quantised. */
export interface Weights {
  readonly dir: string;
  readonly architecture: Architecture;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/** Raised whenever the same weights would give other bytes. */
const VERSION = 5;

/** Plain data: it crosses threads. */
export interface QuantisedFiles {
  readonly kind: QuantKind;
  /** What this machine multiplies exactly. */
  readonly inputBits: InputBits;
  readonly files: { readonly [part in QuantPart]?: string };
}

export interface QuantiseOptions {
  readonly kind: QuantKind;
  readonly parts: readonly QuantPart[];
  /** Where files are looked for, and made in the first that can be written; see `cacheRoots` for the default. */
  readonly roots?: readonly string[];
  /** Told when a file has to be made, and how far it is: numbers of the weights, done and in all. */
  readonly onProgress?: (progress: { readonly part: QuantPart; readonly done: number; readonly total: number }) => void;
  /** Told of a file that is damaged and made again, and of another process that is waited for. */
  readonly onNote?: (message: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * Finds the files of these parts whole, or makes them.
 * @throws UserError when they are not there and cannot be written, or Interrupted
 */
export async function quantisedFiles(weights: Weights, options: QuantiseOptions): Promise<QuantisedFiles> {
  const { kind, parts, onProgress, onNote, signal, roots = cacheRoots(weights.dir) } = options;
  const key = await contentKey(weights.tensors, roots);
  const files: Partial<Record<QuantPart, string>> = {};
  for (const part of parts) {
    if (quantisedNames(weights.architecture, kind, part).length === 0) continue;
    const name = `${key}/${kind}-v${VERSION}.${part}.safetensors`;
    files[part] =
      (await findWhole(roots, name, onNote)) ??
      (await makeOnce(roots, name, {
        onNote,
        write: (temporary) =>
          writeInParallel(temporary, matricesOf(weights, kind, part), {
            onProgress: (done, total) => onProgress?.({ part, done, total }),
            signal,
          }),
      }));
  }
  return { kind, inputBits: await exactInputBits(), files };
}

/** Matrices to be kept, with the shapes of what is written for them. */
function matricesOf(weights: Weights, kind: QuantKind, part: QuantPart) {
  return quantisedNames(weights.architecture, kind, part).map((name) => {
    const entry = required(weights.tensors.get(name), name);
    return { entry, kind, isForGradients: isForGradients(part), stored: storedOf(entry, kind, part) };
  });
}

/** Shapes of what is stored of a weight [out, in] in a part. */
export const storedOf = ({ shape: [rows = 0, columns = 0] }: TensorEntry, kind: QuantKind, part: QuantPart) =>
  storedShapes(formOf(kind, columns), [rows, columns], isForGradients(part));

/** A matrix in few bits, where it lies. */
export interface QuantisedEntry {
  readonly values: TensorEntry;
  readonly scales: TensorEntry;
  readonly zeroPoints: TensorEntry | null;
}

/** The matrices of these files by the name of their weight. @throws UserError where a file is damaged */
export function openQuantised(
  { files }: Pick<QuantisedFiles, "files">,
  areForGradients: boolean,
): ReadonlyMap<string, QuantisedEntry> {
  const entries = new Map<string, QuantisedEntry>();
  for (const part of PARTS) {
    const file = isForGradients(part) === areForGradients ? files[part] : undefined;
    if (file === undefined) continue;
    const { tensors } = readHeader(file);
    for (const [name, values] of tensors) {
      if (!name.endsWith(".values")) continue;
      const weight = name.slice(0, -".values".length);
      const scales = tensors.get(`${weight}.scales`);
      if (!scales)
        throw new UserError(`${file}: damaged: "${weight}" has no scales; delete the file and it is made again`);
      entries.set(weight, { values, scales, zeroPoints: tensors.get(`${weight}.zeroPoints`) ?? null });
    }
  }
  return entries;
}
