/** Encodes a whole data set before the first step, so that a bad sample is found at once and not in the middle of a run. */
import { type Encoded, type EncodeOptions, encodeExample } from "../collator.ts";
import type { Example } from "../data/example.ts";
import type { Processor } from "../processor.ts";
import { mapAhead } from "../utils/ahead.ts";
import { Interrupted } from "../utils/errors.ts";
import type { Log } from "../utils/log.ts";
import { startProgress } from "../utils/progress.ts";

const ENCODING_AT_ONCE = 16; // picture headers are read from disk
const WORTH_A_BAR = 500;

/** Tokens, labels and picture sizes of each example, in order; no pixels. @throws UserError naming the first bad example, or Interrupted */
export async function encodeAll(
  examples: readonly Example[],
  processor: Processor,
  { labelMode, log, signal }: EncodeOptions & { readonly log: Log; readonly signal: AbortSignal },
): Promise<Encoded[]> {
  const progress =
    examples.length >= WORTH_A_BAR ? startProgress({ log, title: "reading samples", total: examples.length }) : null;
  const encoded: Encoded[] = [];
  try {
    for await (const one of mapAhead(examples, ENCODING_AT_ONCE, (example) =>
      encodeExample(example, processor, { labelMode }),
    )) {
      if (signal.aborted) throw new Interrupted("stopped while reading samples: nothing to save");
      encoded.push(one);
      progress?.update(encoded.length);
    }
  } finally {
    progress?.stop();
  }
  return encoded;
}
