/** Settings of the report, which needs no device, no model and no data: an output folder is all. */
import { type FlagCommand, parseFlagCommand } from "../utils/flagCommand.ts";
import { type Settings, type Values, whole } from "../utils/flags.ts";
import { MODEL_AND_FILES, RUN } from "./files.ts";

const REPORT = {
  out: { ...MODEL_AND_FILES.out, group: "Report", why: "folder that the evaluations wrote; the report goes there too" },
  gallery: whole({
    group: "Report",
    min: 0,
    default: 24,
    why: "screens on the page, worst first; a third as many gains follow",
  }),
  seed: { ...RUN.seed, group: "Report", why: "the draws behind the confidence intervals follow from it" },
  quiet: { ...RUN.quiet, group: "Report" },
} satisfies Settings;

export type ReportConfig = Values<typeof REPORT>;

const COMMAND: FlagCommand<typeof REPORT> = {
  name: "report",
  about:
    "Compares the evaluations in an output folder: a table, summary.json and report.html, a page that needs nothing beside it.",
  examples: ["npx tsx src/report.ts", "npx tsx src/report.ts --out results --gallery 60"],
  settings: REPORT,
  noWords: "--out names the folder",
};

/** @throws UserError naming all faults, or HelpRequested */
export const parseReportConfig = (argv: readonly string[]): ReportConfig => parseFlagCommand(COMMAND, argv);
