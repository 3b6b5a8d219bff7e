/** Rows filled up with tokens that no other sees: attention in blocks wants blocks of one length. */
import { IGNORE } from "../collator.ts";
import type { Lengths } from "../graph/cost.ts";
import type { TokenArrays } from "../model/feeds.ts";

/** @returns the same rows, their length a multiple of `multiple` */
export function filledUp<B extends TokenArrays & { readonly labels: Int32Array }>(batch: B, multiple: number): B {
  const { length } = batch;
  const filled = Math.ceil(length / multiple) * multiple;
  if (filled === length) return batch;
  const rows = (array: Int32Array, fill: number): Int32Array => {
    const whole = new Int32Array((array.length / length) * filled).fill(fill);
    for (let row = 0; row * length < array.length; row++)
      whole.set(array.subarray(row * length, (row + 1) * length), row * filled);
    return whole;
  };
  return {
    ...batch,
    length: filled,
    inputIds: rows(batch.inputIds, 0),
    labels: rows(batch.labels, IGNORE),
    positionIds: rows(batch.positionIds, 0),
    segmentIds: rows(batch.segmentIds, -1),
    imageRows: batch.imageRows.map((at) => Math.floor(at / length) * filled + (at % length)),
  };
}

/** What a graph for `blocks` blocks then sees: T tokens of blocks of Q. */
export function filledLengths(lengths: Lengths, blocks: number): Lengths {
  const Q = Math.ceil((lengths.T ?? 0) / blocks);
  return { ...lengths, T: Q * blocks, Q };
}
