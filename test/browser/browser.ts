/** Pages in headless Chromium, opened from disk: what they say, ask for and look like. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";

/** CHROMIUM names another browser; SHOTS names a folder for screenshots. */
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SHOTS = process.env.SHOTS;
const PHONE = { width: 360, height: 740 };
const SCREEN = { width: 1280, height: 900 };
const LOOKS = {
  light: { viewport: SCREEN, colorScheme: "light" },
  dark: { viewport: SCREEN, colorScheme: "dark" },
  phone: { viewport: PHONE, colorScheme: "light", hasTouch: true },
  "phone dark": { viewport: PHONE, colorScheme: "dark", hasTouch: true },
} as const;

export type Look = keyof typeof LOOKS;
export const EVERY_LOOK: readonly Look[] = ["light", "dark", "phone", "phone dark"];

/** A folder and a browser for the tests of a file; `prepare` fills the folder. */
export function browserFor(prepare: (dir: string) => Promise<void>) {
  const dir = mkdtempSync(join(tmpdir(), "pages-"));
  let browser: Browser | undefined;
  before(async () => {
    if (!existsSync(CHROMIUM))
      throw new Error(`no browser at ${CHROMIUM}: install Debian's chromium, or name another one in CHROMIUM`);
    await silently(() => prepare(dir));
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] }); // containers run as root
  });
  after(async () => {
    await browser?.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return {
    dir,
    open: async (file: string, look: Look): Promise<Opened> => {
      assert.ok(browser);
      return openPage(browser, join(dir, file), look);
    },
  };
}

/** What the entries print is no part of the test's own output. */
async function silently(run: () => Promise<void>): Promise<void> {
  const { log } = console;
  console.log = () => undefined;
  try {
    await run();
  } finally {
    console.log = log;
  }
}

export interface Opened {
  readonly page: Page;
  /** Fails for console messages, errors of scripts, and requests to anywhere but the file itself. */
  finish(): Promise<void>;
}

async function openPage(browser: Browser, file: string, look: Look): Promise<Opened> {
  const context = await browser.newContext(LOOKS[look]);
  const page = await context.newPage();
  const faults: string[] = [];
  const url = pathToFileURL(file).href;
  page.on("console", (message) => faults.push(`console ${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (request.url() !== url && !request.url().startsWith("data:")) faults.push(`request: ${request.url()}`);
  });
  await page.goto(url);
  return {
    page,
    finish: async () => {
      await context.close();
      assert.deepEqual(faults, []);
    },
  };
}

export async function shoot(page: Page, name: string): Promise<void> {
  if (SHOTS === undefined) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name.replaceAll(" ", "-")}.png`), fullPage: true });
}

interface ShownText {
  readonly text: string;
  readonly color: string;
  /** Of the elements around it, from the inside. */
  readonly grounds: readonly string[];
}

const IN_PAGE = readFileSync(join(import.meta.dirname, "inPage.js"), "utf8"); // not typed: Node's types know no DOM

/** Nothing wider than the window, and every text readable. */
export async function assertLooks(page: Page): Promise<void> {
  const { wide, texts }: { wide: string[]; texts: ShownText[] } = await page.evaluate(IN_PAGE);
  assert.deepEqual(wide, []);
  assert.ok(texts.length > 50);
  assert.deepEqual(
    texts.map(contrastFault).filter((fault) => fault !== null),
    [],
  );
}

const LEAST_CONTRAST = 4.5; // WCAG 2.2, 1.4.3

function contrastFault({ text, color, grounds }: ShownText): string | null {
  const ground = grounds.find((one) => !/, 0\)$|transparent/.test(one)) ?? "rgb(255, 255, 255)";
  const [one, other] = [luminance(color), luminance(ground)];
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  return contrast >= LEAST_CONTRAST ? null : `"${text.slice(0, 40)}": ${color} on ${ground}, ${contrast.toFixed(2)}`;
}

/** Source: WCAG 2.2, relative luminance. */
function luminance(color: string): number {
  const [r = 0, g = 0, b = 0] = (color.match(/[\d.]+/g) ?? []).map((value) => {
    const share = Number(value) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
