/** Encoded examples to micro-batches that the engine takes: collated, their pictures decoded or looked up. */
import { type CollateOptions, collate, type Encoded } from "../collator.ts";
import type { PictureStore } from "../engine/pictures.ts";
import { required } from "../utils/errors.ts";
import type { BatchSource, ReadyBatch } from "./trainer.ts";

export interface BatchSourceOptions extends CollateOptions {
  readonly pictures: PictureStore;
  /** Whether the tower trains and so needs the pixels, or is frozen and its features serve. */
  readonly trainsVision: boolean;
}

/** @returns a function of the indices of the examples that make one micro-batch */
export function batchSource(encoded: readonly Encoded[], options: BatchSourceOptions): BatchSource {
  return async (indices): Promise<ReadyBatch> => {
    const batch = collate(
      indices.map((index) => required(encoded[index], `example ${index}`)),
      options,
    );
    const { ids, batchSize, length, inputIds, labels, positionIds, segmentIds, imageRows } = batch;
    const pictures = await (options.trainsVision
      ? options.pictures.pixels(batch.images)
      : options.pictures.features(batch.images));
    return { ids, batchSize, length, inputIds, labels, positionIds, segmentIds, imageRows, pictures };
  };
}
