/** Settings of the report, which needs no device, no model and no data: an output folder is all. */
import { UserError } from "../utils/errors.ts";
import { HelpRequested, helpOf, readFlags, type Settings, type Values, whole } from "../utils/flags.ts";
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

/** @throws UserError naming all faults, or HelpRequested */
export function parseReportConfig(argv: readonly string[]): ReportConfig {
  if (argv.includes("--help") || argv.includes("-h")) throw new HelpRequested(help());
  const { given, positionals, faults } = readFlags(REPORT, argv);
  const words = positionals.map((word) => `"${word}": belongs to no flag; --out names the folder`);
  const all = [...faults, ...words].map((fault) => `report: ${fault}`);
  if (all.length > 0) throw new UserError(all.join("\n"));
  const defaults = Object.fromEntries(Object.entries(REPORT).map(([name, setting]) => [name, setting.default]));
  return Object.freeze({ ...defaults, ...given } as ReportConfig);
}

const help = (): string =>
  [
    "Usage: npx tsx src/report.ts [flags]",
    "Compares the evaluations in an output folder: a table, summary.json and report.html, a page that needs nothing beside it.",
    helpOf(REPORT),
    "Examples\n  npx tsx src/report.ts\n  npx tsx src/report.ts --out results --gallery 60",
  ].join("\n\n");
