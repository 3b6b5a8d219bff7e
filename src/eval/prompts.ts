/** Encoded prompts to what the decoder takes. */
import type { EncodedPrompt } from "../collator.ts";
import type { PictureStore } from "../engine/pictures.ts";
import { isVisualToken, mropePositions } from "../text/mrope.ts";
import type { DecoderPrompt } from "./decoding.ts";

export interface PromptOptions {
  readonly imageTokenId: number;
  readonly videoTokenId?: number;
  readonly mergeSize: number;
  readonly pictures: PictureStore;
}

export async function decoderPrompt(
  { id, inputIds, images }: EncodedPrompt,
  { pictures, ...tokens }: PromptOptions,
): Promise<DecoderPrompt> {
  const imageRows: number[] = [];
  inputIds.forEach((id, row) => {
    if (isVisualToken(id, tokens)) imageRows.push(row);
  });
  return {
    id,
    inputIds,
    positionIds: mropePositions({ inputIds, grids: images.map(({ grid }) => grid), ...tokens }),
    imageRows: Int32Array.from(imageRows),
    pictures: await pictures.features(images),
  };
}
