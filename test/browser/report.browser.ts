// The report in headless Chromium: `npm run test:browser`.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { main } from "../../src/report.ts";
import { writeOut } from "../app/report/outFolder.ts";
import { assertLooks, browserFor, EVERY_LOOK, shoot } from "./browser.ts";

const REPORT = "out/report.html";
const { open } = browserFor(async (dir) => {
  const out = join(dir, "out");
  await writeOut(out, { users: [1, 2, 3, 4, 5], limit: 24, steps: 380 });
  await main(["--out", out, "--quiet"]);
});

for (const look of EVERY_LOOK)
  test(`${look}: no message, no request, nothing wider than the window, every text readable`, async () => {
    const { page, finish } = await open(REPORT, look);
    assert.equal(await page.locator("article").count(), 32);
    for (const summary of await page.locator("main summary").all()) await summary.click();
    await assertLooks(page);
    for (const summary of await page.locator("main summary").all()) await summary.click();
    await shoot(page, `report ${look}`);
    await finish();
  });

test("the gallery by keyboard: enlarge, go on, close, and the focus is back", async () => {
  const { page, finish } = await open(REPORT, "light");
  const buttons = page.locator(".open");
  const shown = page.locator("dialog output");
  await buttons.first().focus();
  await page.keyboard.press("Enter");
  assert.equal(await shown.textContent(), "1 of 32");
  assert.equal(
    await page.locator("dialog article h3").textContent(),
    await page.locator(".gallery h3").first().textContent(),
  );
  await page.keyboard.press("ArrowRight");
  assert.equal(await shown.textContent(), "2 of 32");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  assert.equal(await shown.textContent(), "32 of 32");
  await shoot(page, "report dialog");
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("dialog").isVisible(), false);
  assert.equal(await page.evaluate(`document.activeElement === [...document.querySelectorAll(".open")].at(-1)`), true);
  await finish();
});

test("the gallery by touch and choice: one user, some of the clicks", async () => {
  const { page, finish } = await open(REPORT, "phone");
  const marks = page.locator(".gallery .screen .mark.vanilla");
  assert.equal(await marks.first().isVisible(), true);
  await page.locator("#show-vanilla").tap();
  assert.equal(await marks.first().isVisible(), false);
  const user = (await page.locator("#user option").nth(1).textContent()) ?? "";
  await page.locator("#user").selectOption(user);
  const visible = page.locator(".gallery article:visible");
  assert.ok((await visible.count()) > 0);
  for (const card of await visible.all()) assert.equal(await card.getAttribute("data-user"), user);
  assert.equal(await page.locator("#found").textContent(), `${await visible.count()} shown`);
  await page.locator(".open:visible").first().tap();
  assert.equal(await page.locator("dialog output").textContent(), `1 of ${await visible.count()}`);
  await shoot(page, "report phone dialog");
  await page.locator("[data-close]").tap();
  assert.equal(await page.locator("dialog").isVisible(), false);
  await finish();
});

test("every chart has a name, a text and its numbers as a table; every control has a name", async () => {
  const { page, finish } = await open(REPORT, "light");
  const charts = page.locator(".chart");
  assert.equal(await charts.count(), 5);
  for (const chart of await charts.all()) {
    const svg = chart.getByRole("img");
    assert.equal(await svg.count(), 1);
    assert.ok(((await svg.locator("title").first().textContent()) ?? "").length > 20);
    await chart.locator("summary").click();
    assert.ok((await chart.getByRole("table").getByRole("row").count()) > 3);
  }
  const unnamed = await page
    .locator("button, select, input")
    .evaluateAll(
      (controls) =>
        controls.filter(
          (control) => !control.getAttribute("aria-label") && !control.textContent?.trim() && !control.closest("label"),
        ).length,
    );
  assert.equal(unnamed, 0);
  await finish();
});
