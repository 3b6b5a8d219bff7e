/** Settings of what a preview shows. */
import { number, type Setting, type Settings, text, toggle, whole } from "../utils/flags.ts";
import { readShow } from "./words.ts";

const PREVIEW_GROUP = "Preview";
export const SHOWN = {
  show: {
    group: PREVIEW_GROUP,
    shown: "N|ID ...",
    takes: "many",
    default: null,
    why: "print N samples, evenly spread, or those of these ids, trained tokens in colour (in [[ ]] where there is none)",
    read: readShow,
  } satisfies Setting<number | readonly string[] | null>,
  json: toggle({
    group: PREVIEW_GROUP,
    default: false,
    why: "print one object a sample and nothing else: id, user, input_ids, labels, image_grid_thw, length",
  }),
  html: text({
    group: PREVIEW_GROUP,
    shown: "FILE",
    default: null,
    why: "write a page with pictures and coloured text",
  }),
  htmlSamples: whole({ group: PREVIEW_GROUP, min: 1, default: 200, why: "samples on that page, the longest first" }),
  gflops: number({
    group: PREVIEW_GROUP,
    above: 0,
    default: null,
    defaultText: "measured, for about a second",
    why: "forecast time for a machine of so many GFLOP/s in float32 matrix products",
  }),
} satisfies Settings;
