/** Settings of pictures and samples. */
import { choice, type Settings, text, toggle, whole } from "../utils/flags.ts";

/** The pixel budget of the original per-user pipeline (28 x 28 pixels a token there); a checkpoint may ask for less. */
export const PIXEL_CAP = 1280 * 28 * 28;

export const DATA = {
  format: choice({
    group: "Data",
    of: ["messages", "conversations", "csv", "parquet", "pickle"],
    default: null,
    defaultText: "by the file's content",
    why: "how --data is written (docs/data.md shows each)",
  }),
  imageRoot: text({
    group: "Data",
    shown: "DIR",
    default: null,
    defaultText: "the folder of the data file",
    why: "where picture paths start; none may lead out of it",
  }),
  allowRemoteImages: toggle({
    group: "Data",
    default: false,
    why: "download pictures that the data name by http(s)",
  }),
  maxPixels: whole({
    group: "Data",
    min: 1,
    default: null,
    defaultText: `the checkpoint's own, at most ${PIXEL_CAP}`,
    why: "larger pictures are scaled down to this many pixels",
  }),
  minPixels: whole({
    group: "Data",
    min: 1,
    default: null,
    defaultText: "the checkpoint's own",
    why: "smaller pictures are scaled up to this many pixels",
  }),
  maxImageTokens: whole({
    group: "Data",
    min: 1,
    default: null,
    why: "--max-pixels in tokens: larger pictures are scaled down to this many",
  }),
  maxVideoPixels: whole({
    group: "Data",
    min: 1,
    default: null,
    defaultText: "the checkpoint's own",
    why: "larger videos are scaled down to this many pixels, all frames together",
  }),
  limit: whole({ group: "Data", min: 1, default: null, defaultText: "all", why: "at most N samples of each user" }),
  labelMode: choice({
    group: "Data",
    of: ["official", "pigg"],
    default: "official",
    why: "what of an answer is trained: with its end-of-turn token and newline (official), or its text alone (pigg)",
  }),
} satisfies Settings;

/** Of training alone. */
export const TRAINED_SAMPLES = {
  trainOn: choice({
    group: "Data",
    of: ["all", "last"],
    default: "all",
    why: 'which assistant turns are trained; those marked "train": false in the data never are',
  }),
  maxLength: whole({ group: "Data", min: 1, default: null, why: "most tokens of a training or validation sample" }),
  overlong: choice({
    group: "Data",
    of: ["refuse", "drop", "shrink-images", "cut-left", "cut-right"],
    default: "refuse",
    why: "longer samples: end the run, leave them out, scale their pictures down, or cut off their beginning (all but the system turn) or end",
  }),
} satisfies Settings;
