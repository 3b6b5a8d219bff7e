/** Encoded examples to micro-batches that the engine takes: collated, their pictures decoded or looked up. */
import { type CollateOptions, collateRows, type Encoded } from "../collator.ts";
import type { PictureStore } from "../engine/pictures.ts";
import { required } from "../utils/errors.ts";
import type { BatchSource, ReadyBatch } from "./trainer.ts";

export interface BatchSourceOptions extends CollateOptions {
  readonly pictures: PictureStore;
  /** Whether the tower trains and so needs the pixels, or is frozen and its features serve. */
  readonly trainsVision: boolean;
}

/** Each example in a row of its own. */
export const oneARow = (encoded: readonly Encoded[]): readonly (readonly Encoded[])[] => encoded.map((one) => [one]);

/**
 * @param rows examples of each row: one, or several packed together
 * @returns a function of the indices of the rows that make one micro-batch
 */
export function batchSource(rows: readonly (readonly Encoded[])[], options: BatchSourceOptions): BatchSource {
  return async (indices): Promise<ReadyBatch> => {
    const batch = collateRows(
      indices.map((index) => required(rows[index], `row ${index}`)),
      options,
    );
    const { ids, batchSize, length, inputIds, labels, positionIds, segmentIds, imageRows } = batch;
    const pictures = await (options.trainsVision
      ? options.pictures.pixels(batch.images)
      : options.pictures.features(batch.images));
    return { ids, batchSize, length, inputIds, labels, positionIds, segmentIds, imageRows, pictures };
  };
}
