/** Decodes a user's pictures before a run begins, so that a damaged one is found at once and not hours later. */
import { type Example, imagesOf } from "../data/example.ts";
import { mapAhead } from "../utils/ahead.ts";
import { Interrupted, messageOf, UserError } from "../utils/errors.ts";
import type { Log } from "../utils/log.ts";
import { startProgress } from "../utils/progress.ts";
import { decodeImage } from "../vision/decode.ts";
import type { ImageSource } from "../vision/image.ts";

const DECODING_AT_ONCE = 4; // sharp decodes in threads of its own; more only takes memory
const WORTH_A_BAR = 200;

/**
 * Decodes every picture once and keeps none. A header alone does not tell whether the rest of a file is there.
 * @throws UserError naming the first example whose picture cannot be decoded, or Interrupted
 */
export async function checkPictures(
  examples: readonly Example[],
  { log, signal }: { readonly log: Log; readonly signal: AbortSignal },
): Promise<void> {
  const pictures = distinctPictures(examples);
  const progress =
    pictures.length >= WORTH_A_BAR ? startProgress({ log, title: "checking pictures", total: pictures.length }) : null;
  let done = 0;
  try {
    for await (const _ of mapAhead(pictures, DECODING_AT_ONCE - 1, check)) {
      if (signal.aborted) throw new Interrupted("stopped while checking pictures: nothing to save");
      progress?.update(++done);
    }
  } finally {
    progress?.stop();
  }
}

interface Placed {
  readonly id: string;
  readonly source: ImageSource;
}

/** Each file once, with the first example that shows it. */
function distinctPictures(examples: readonly Example[]): readonly Placed[] {
  const found = new Map<string | Uint8Array, Placed>();
  for (const { id, messages } of examples) {
    for (const source of imagesOf(messages)) {
      const key = source.kind === "file" ? source.path : source.bytes;
      if (!found.has(key)) found.set(key, { id, source });
    }
  }
  return [...found.values()];
}

async function check({ id, source }: Placed): Promise<void> {
  await decodeImage(source).catch((cause: unknown) => {
    throw cause instanceof UserError ? new UserError(`example ${id}: ${messageOf(cause)}`, { cause }) : cause;
  });
}
