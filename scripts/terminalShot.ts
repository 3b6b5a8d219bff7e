/**
 * A picture of a terminal, from what a program wrote to it:
 *
 *   script -qfc "npx tsx src/finetuneGlobal.ts cpu --lora --no-eval" out/capture
 *   npx tsx scripts/terminalShot.ts out/capture docs/images/training.png [--at 0.6] [--rows 14]
 *
 * `--at` is the share of the capture after which the picture is taken. Needs Debian's chromium, or one that CHROMIUM names.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { escaped } from "../src/app/page/frame.ts";

const { values, positionals } = parseArgs({
  options: { at: { type: "string", default: "1" }, rows: { type: "string", default: "14" } },
  allowPositionals: true,
});
const [capture, picture] = positionals;
if (capture === undefined || picture === undefined) throw new Error("usage: terminalShot CAPTURE PNG");

interface Cell {
  readonly char: string;
  readonly look: string;
}

const ESC = String.fromCharCode(27);
const SEQUENCE = new RegExp(`${ESC}\\[(\\??[\\d;]*)([A-Za-z])|([^${ESC}])`, "gu");
const LOOKS: Readonly<Record<string, string>> = { "1": "bold", "2": "dim", "32": "green" };

/** What the screen holds after these bytes: it knows what displays of this project use. */
function screenAfter(written: string): Cell[][] {
  const lines: Cell[][] = [[]];
  const at = { row: 0, column: 0, look: "" };
  for (const [, words = "", command, char] of written.matchAll(SEQUENCE)) {
    if (char !== undefined) put(lines, at, char);
    else if (command === "A") at.row -= Number(words || 1);
    else if (command === "J") lines.splice(at.row, lines.length, (lines[at.row] ?? []).slice(0, at.column));
    else if (command === "m") at.look = LOOKS[words] ?? "";
    while (lines.length <= at.row) lines.push([]);
  }
  return lines;
}

function put(lines: Cell[][], at: { row: number; column: number; look: string }, char: string): void {
  if (char === "\r") at.column = 0;
  else if (char === "\n") at.row++;
  else {
    const line = lines[at.row] ?? [];
    line[at.column++] = { char, look: at.look };
    lines[at.row] = line;
  }
}

const htmlOf = (line: readonly Cell[]): string =>
  Array.from(line, (cell) => cell ?? { char: " ", look: "" })
    .map(({ char, look }) => (look === "" ? escaped(char) : `<span class="${look}">${escaped(char)}</span>`))
    .join("");

const STYLE = `body{margin:0;background:#1b1e24}pre{margin:0;padding:14px 18px;display:inline-block;color:#e6e6e6;font:14px/1.3 "DejaVu Sans Mono",monospace}
.bold{font-weight:bold}.dim{color:#9aa0ab}.green{color:#5fd38d}`;

const bytes = readFileSync(capture, "utf8").replace(/^Script started[^\n]*\n/, "");
const share = Math.floor(Number(values.at) * bytes.length);
const drawn = bytes.lastIndexOf(`${ESC}[?25l`, share); // a drawing begins by hiding the cursor: none is cut in two
const lines = screenAfter(bytes.slice(0, share < bytes.length && drawn > 0 ? drawn : bytes.length));
const html = `<!doctype html><style>${STYLE}</style><pre>${lines.slice(-Number(values.rows)).map(htmlOf).join("\n")}</pre>`;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 800 } });
  await page.setContent(html);
  mkdirSync(dirname(resolve(picture)), { recursive: true });
  await page.locator("pre").screenshot({ path: picture });
} finally {
  await browser.close();
}
