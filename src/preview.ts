/** Shows what a training command would train on, and what that takes, without weights: `npx tsx src/preview.ts cpu --lora`. */
import { dirname } from "node:path";
import { type EntryContext, runEntry } from "./app/entry.ts";
import { planModel } from "./app/model.ts";
import { planRun } from "./app/preview/plan.ts";
import { reportText } from "./app/preview/report.ts";
import { checkShown, printJson, printSamples, takeSurvey, writePage } from "./app/preview/samples.ts";
import { readSplits } from "./app/splits.ts";
import { PIXEL_CAP, parsePreviewConfig } from "./config.ts";
import { counted } from "./utils/count.ts";
import { UserError } from "./utils/errors.ts";
import { createLog } from "./utils/log.ts";

export async function main(argv: readonly string[], { signal }: Pick<EntryContext, "signal">): Promise<void> {
  const config = parsePreviewConfig(argv);
  const log = createLog(config);
  const model = await planModel({ ...config, pixelCap: PIXEL_CAP, log });
  const splits = await readSplits({ ...config, log }, "all");
  const survey = { ...config, processor: model.processor, log, signal };
  if (config.json) return refuseFaults(await printJson(splits, survey));

  checkShown(splits, config.show);
  const { facts, faults } = await takeSurvey(splits, survey);
  const report = await planRun({ model, splits, facts, faults }, config);
  console.log(reportText(report));
  await printSamples(splits, survey);
  if (config.html !== null) {
    const title = `${config.data ?? "embedded users"} · ${config.model ?? "embedded model"}`;
    await writePage(config.html, { splits, facts, report, title }, survey);
    log.line(`page in ${config.html} (${dirname(config.html) === "." ? "this folder" : dirname(config.html)})`);
  }
  refuseFaults(faults);
}

/** All was shown that could be; what could not makes a run impossible. */
function refuseFaults(faults: readonly string[]): void {
  const [first, ...more] = faults;
  if (first !== undefined)
    throw new UserError(
      more.length === 0 ? first : `${first}\nand ${counted(more.length, "more sample")} cannot be used`,
    );
}

if (import.meta.filename === process.argv[1]) await runEntry(main, process.argv.slice(2));
