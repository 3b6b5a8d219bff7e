/** Encoded prompts to what the decoder takes. */
import type { EncodedPrompt } from "../collator.ts";
import type { PictureStore } from "../engine/pictures.ts";
import { mropePositions } from "../text/mrope.ts";
import type { DecoderPrompt } from "./generator.ts";

export interface PromptOptions {
  readonly imageTokenId: number;
  readonly mergeSize: number;
  readonly pictures: PictureStore;
}

export async function decoderPrompt(
  { inputIds, images }: EncodedPrompt,
  { imageTokenId, mergeSize, pictures }: PromptOptions,
): Promise<DecoderPrompt> {
  const imageRows: number[] = [];
  inputIds.forEach((id, row) => {
    if (id === imageTokenId) imageRows.push(row);
  });
  return {
    inputIds,
    positionIds: mropePositions({ inputIds, grids: images.map(({ grid }) => grid), imageTokenId, mergeSize }),
    imageRows: Int32Array.from(imageRows),
    pictures: await pictures.features(images),
  };
}
