/** Tells from an output folder alone how much training helped: `npx tsx src/report.ts`. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { runEntry } from "./app/entry.ts";
import { readCurves } from "./app/report/curves.ts";
import { galleryOf } from "./app/report/gallery.ts";
import { pageOf } from "./app/report/page.ts";
import { readStages, STAGE_SOURCES } from "./app/report/stages.ts";
import { summaryJson, summaryOf } from "./app/report/summary.ts";
import { reportText } from "./app/report/table.ts";
import { parseReportConfig } from "./config.ts";
import { UserError } from "./utils/errors.ts";
import { writeJson, writeWhole } from "./utils/files.ts";
import { createLog } from "./utils/log.ts";

export async function main(argv: readonly string[]): Promise<void> {
  const config = parseReportConfig(argv);
  const { out } = config;
  const log = createLog(config);
  if (!existsSync(out)) throw new UserError(`${out}: not found; name the folder that evaluations wrote with --out`);

  const found = await readStages(out);
  const curves = readCurves(out);
  if (found.stages.length === 0 && curves.global === null) refuseNothing(out);
  const summary = summaryOf(found, config.seed);
  console.log(reportText(summary));
  await writeJson(join(out, "summary.json"), summaryJson(summary));

  const gallery = galleryOf(found.stages, config.gallery);
  const page = join(out, "report.html");
  await writeWhole(page, await pageOf({ out, summary, stages: found.stages, curves, gallery }));
  log.line(`page in ${page}, numbers in ${join(out, "summary.json")}`);
}

function refuseNothing(out: string): never {
  const places = Object.values(STAGE_SOURCES).map(({ dir, command }) => `  ${join(out, dir)}: \`${command}\``);
  throw new UserError(`${out}: no finished evaluation and no training curve; these make them:\n${places.join("\n")}`);
}

if (import.meta.filename === process.argv[1]) await runEntry(main, process.argv.slice(2));
