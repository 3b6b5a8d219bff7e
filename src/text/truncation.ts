/** Shortens rows of tokens that are too long: with smaller pictures, or from one side, never inside a picture or video. */
import { leastWhere } from "../utils/search.ts";
import type { PlacedImage } from "../vision/placement.ts";
import type { VisualBlock } from "./visuals.ts";

/** A row with its pictures and videos written out. */
export interface TokenRow {
  /** [T] */
  readonly inputIds: Int32Array;
  /** [T] */
  readonly labels: Int32Array;
  /** in the order of their tokens */
  readonly images: readonly PlacedImage[];
  /** in order, apart from each other */
  readonly blocks: readonly VisualBlock[];
}

/** Keeps the beginning. A picture or video that would be cut goes as a whole, with its marks. */
export function cutRight(row: TokenRow, maxLength: number): TokenRow {
  if (row.inputIds.length <= maxLength) return row;
  const cut = row.blocks.find(({ start, end }) => start < maxLength && end > maxLength);
  return partOf(row, 0, cut?.start ?? maxLength);
}

export interface CutLeftOptions {
  readonly maxLength: number;
  /** Tokens at the beginning that stay: the system turn and the tools. */
  readonly head: number;
  /** The label of a token that is not learnt. */
  readonly ignore: number;
}

/**
 * Keeps the head and the end. A picture or video that would be cut goes as a whole, with its marks; the first token
 * behind the cut is no target, since what stood before it is gone.
 */
export function cutLeft(row: TokenRow, { maxLength, head, ignore }: CutLeftOptions): TokenRow {
  const length = row.inputIds.length;
  if (length <= maxLength) return row;
  if (head >= maxLength) return cutRight(row, maxLength);
  const from = length - (maxLength - head);
  const cut = row.blocks.find(({ start, end }) => start < from && end > from);
  const tail = partOf(row, cut?.end ?? from, length);
  tail.labels.fill(ignore, 0, 1);
  return joined(partOf(row, 0, head), tail);
}

/** The tokens [start, end), which cut through no block, as arrays of their own. */
function partOf({ inputIds, labels, images, blocks }: TokenRow, start: number, end: number): TokenRow {
  const kept: VisualBlock[] = [];
  const keptImages: PlacedImage[] = [];
  let image = 0;
  for (const block of blocks) {
    if (block.start >= start && block.end <= end) {
      kept.push({ ...block, start: block.start - start, end: block.end - start });
      keptImages.push(...images.slice(image, image + block.images));
    }
    image += block.images;
  }
  return { inputIds: inputIds.slice(start, end), labels: labels.slice(start, end), images: keptImages, blocks: kept };
}

function joined(head: TokenRow, tail: TokenRow): TokenRow {
  const shift = head.inputIds.length;
  const moved = tail.blocks.map((block) => ({ ...block, start: block.start + shift, end: block.end + shift }));
  return {
    inputIds: concatenated(head.inputIds, tail.inputIds),
    labels: concatenated(head.labels, tail.labels),
    images: [...head.images, ...tail.images],
    blocks: [...head.blocks, ...moved],
  };
}

function concatenated(first: Int32Array, second: Int32Array): Int32Array {
  const both = new Int32Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

const SHARES = 2 ** 20; // steps between the smallest and the largest budget: finer than one token for any checkpoint

/**
 * The largest share of a budget, from 0 to 1, at which a row fits.
 * @param lengthAt tokens of the row; never falls as the share grows
 * @returns null where even a share of 0 is too long
 */
export function largestFittingShare(maxLength: number, lengthAt: (share: number) => number): number | null {
  const tooLong = leastWhere(0, SHARES, (step) => lengthAt(step / SHARES) > maxLength);
  return tooLong === 0 ? null : (tooLong - 1) / SHARES;
}
