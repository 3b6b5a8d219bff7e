/** One small question with a picture, to see whether two forms of a model are the same. */
import { PictureStore } from "../engine/pictures.ts";
import type { RemoteEngine } from "../engine/start.ts";
import { promptOf } from "../eval/answers.ts";
import type { Processor } from "../processor.ts";

/** 16 x 16 pixels in squares of four, each of a colour of its own. */
const PICTURE =
  "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAM0lEQVR42mNkYNBggIFQhutIbE2s4kwMJALaa2BhCL2OxNVEYmMXH5x+IOxuhtF4oLUGAFvTCiPjIrm1AAAAAElFTkSuQmCC";

const QUESTION = {
  id: "probe",
  user: null,
  messages: [
    {
      role: "user",
      content: [
        { type: "image", image: { kind: "bytes", name: "probe", bytes: Buffer.from(PICTURE, "base64") } },
        { type: "text", text: "Which colour has the square at the top right?" },
      ],
    },
  ],
} as const;

/**
 * Logits of every token of the question, [T, V].
 * @param parameterSet as in `Engine.generate`
 */
export async function probeLogits(
  engine: Pick<RemoteEngine, "encodePictures" | "logits">,
  processor: Processor,
  parameterSet: string | null = null,
): Promise<Float32Array> {
  const vision = { ...processor.vision, minPixels: leastPixels(processor) };
  const pictures = new PictureStore(engine, vision, { parameterSet }); // an adapter may change the tower
  return engine.logits(await promptOf(QUESTION, { processor: { ...processor, vision }, pictures }), parameterSet);
}

/** The picture stays at two by two tokens, however large pictures are to be in training: logits of many tokens take gigabytes. */
const leastPixels = ({ vision: { minPixels, patchSize, mergeSize } }: Processor): number =>
  Math.min(minPixels, (2 * patchSize * mergeSize) ** 2);

/** The largest difference, as a share of the largest of `expected`; NaN where either holds one. */
export function logitsApart(got: Float32Array, expected: Float32Array): number {
  let [largest, difference] = [0, 0];
  expected.forEach((value, i) => {
    largest = Math.max(largest, Math.abs(value));
    difference = Math.max(difference, Math.abs((got[i] ?? Number.NaN) - value));
  });
  return difference / largest;
}

/** As `logitsApart` is told. */
export const percent = (share: number): string => `${(100 * share).toPrecision(2)} % of the largest`;
