/** Works an adapter into its base model: `npx tsx src/merge.ts --adapter checkpoints/global_agent_lora --out merged`. */
import { type EntryContext, runEntry } from "./app/entry.ts";
import { mergeInto, refuseOccupied, refuseWhole } from "./app/merge.ts";
import { openTarget } from "./app/target.ts";
import { PIXEL_CAP, parseMergeConfig } from "./config.ts";
import { createLog } from "./utils/log.ts";

export async function main(argv: readonly string[], { signal }: Pick<EntryContext, "signal">): Promise<void> {
  const config = parseMergeConfig(argv);
  const log = createLog(config);
  refuseOccupied(config.out, config.overwrite);
  refuseWhole(config.adapter);
  const target = await openTarget(config.adapter, { ...config, ...AS_SAVED, pixelCap: PIXEL_CAP, log });
  log.line(await mergeInto(target, { ...config, log, signal }));
}

/** Pictures are scaled as the adapter's folder says. */
const AS_SAVED = { minPixels: null, maxPixels: null, maxImageTokens: null, maxVideoPixels: null };

if (import.meta.filename === process.argv[1]) await runEntry(main, process.argv.slice(2));
