/** Encodes a whole data set before the first step, so that a bad sample is found at once and not in the middle of a run. */
import { type Encoded, type EncodeOptions, type Fitted, fitExample, type LengthLimit } from "../collator.ts";
import type { Example } from "../data/example.ts";
import type { Processor } from "../processor.ts";
import { mapAhead } from "../utils/ahead.ts";
import { Interrupted, UserError } from "../utils/errors.ts";
import type { Log } from "../utils/log.ts";
import { startProgress } from "../utils/progress.ts";
import { formatTable } from "../utils/table.ts";

const ENCODING_AT_ONCE = 16; // picture headers are read from disk
const WORTH_A_BAR = 500;

export interface EncodeAllOptions extends EncodeOptions, LengthLimit {
  /** What the samples are for, as the table of lengths calls it. */
  readonly split: string;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/**
 * Tokens, labels and picture sizes of each example that keeps the length limit, in order; no pixels.
 * @throws UserError naming the first bad example, or the first that is too long where none may be; Interrupted
 */
export async function encodeAll(
  examples: readonly Example[],
  processor: Processor,
  options: EncodeAllOptions,
): Promise<Encoded[]> {
  const { log, signal } = options;
  const progress =
    examples.length >= WORTH_A_BAR ? startProgress({ log, title: "reading samples", total: examples.length }) : null;
  const fitted: Fitted[] = [];
  try {
    for await (const one of mapAhead(examples, ENCODING_AT_ONCE, (example) =>
      fitExample(example, processor, options),
    )) {
      if (signal.aborted) throw new Interrupted("stopped while reading samples: nothing to save");
      fitted.push(one);
      progress?.update(fitted.length);
    }
  } finally {
    progress?.stop();
  }
  refuseOverlong(examples, fitted, options);
  if (options.maxLength !== null && fitted.length > 0) log.line(fitTable(fitted, options));
  return fitted.flatMap(({ encoded }) => (encoded === null ? [] : [encoded]));
}

const WAYS_OUT =
  "raise --max-length, make pictures smaller (--max-image-tokens), or say with --overlong what happens to such samples";

function refuseOverlong(
  examples: readonly Example[],
  fitted: readonly Fitted[],
  { split, maxLength, overlong }: EncodeAllOptions,
): void {
  const first = fitted.findIndex(({ outcome }) => outcome === "refused");
  if (first >= 0) {
    const refused = fitted.filter(({ outcome }) => outcome === "refused").length;
    const why = overlong === "shrink-images" ? " with the smallest pictures still" : "";
    throw new UserError(
      `--max-length ${maxLength}: ${refused} of ${fitted.length} ${split} samples are${why} longer; the first is example ` +
        `${examples[first]?.id} with ${fitted[first]?.length} tokens, the longest has ${longestOf(fitted)}: ${WAYS_OUT}`,
    );
  }
  if (fitted.length > 0 && fitted.every(({ encoded }) => encoded === null))
    throw new UserError(`--max-length ${maxLength}: none of ${fitted.length} ${split} samples is left; ${WAYS_OUT}`);
}

const OUTCOMES: readonly (readonly [Fitted["outcome"], string])[] = [
  ["whole", "as they are"],
  ["shrunk", "with smaller pictures"],
  ["cut", "cut"],
  ["dropped", "left out: too long"],
  ["emptied", "left out: nothing to learn after the cut"],
];

const longestOf = (fitted: readonly Fitted[]): number =>
  fitted.reduce((longest, { length }) => Math.max(longest, length), 0);

/** How many samples each outcome met, of those that it met. */
function fitTable(fitted: readonly Fitted[], { split, maxLength, overlong }: EncodeAllOptions): string {
  const rows = OUTCOMES.flatMap(([outcome, name]) => {
    const met = fitted.filter((one) => one.outcome === outcome);
    if (met.length === 0) return [];
    const share = `${((100 * met.length) / fitted.length).toFixed(1)} %`;
    return [[name, String(met.length), share, String(longestOf(met))]];
  });
  const columns = [
    { name: `${split} samples`, align: "left" },
    { name: "number", align: "right" },
    { name: "share", align: "right" },
    { name: "longest, in tokens", align: "right" },
  ] as const;
  return `lengths under --max-length ${maxLength} --overlong ${overlong}\n${formatTable(columns, rows)}`;
}
