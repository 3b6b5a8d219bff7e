// The preview's page in headless Chromium: `npm run test:browser`.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { main } from "../../src/preview.ts";
import { assertLooks, browserFor, EVERY_LOOK, shoot } from "./browser.ts";

const { open } = browserFor(async (dir) => {
  const flags = ["cpu", "--lora", "--limit", "1", "--quiet", "--html", join(dir, "preview.html")];
  await main(flags, { signal: new AbortController().signal });
});

for (const look of EVERY_LOOK)
  test(`${look}: no message, no request, nothing wider than the window, every text readable`, async () => {
    const { page, finish } = await open("preview.html", look);
    assert.equal(await page.locator("article").count(), 83);
    await assertLooks(page);
    await shoot(page, `preview ${look}`);
    await finish();
  });

test("what is searched for is shown, and nothing else", async () => {
  const { page, finish } = await open("preview.html", "light");
  await page.locator("#search").fill("user_7.csv");
  assert.equal(await page.locator("article:visible").count(), 1);
  assert.equal(await page.locator("#found").textContent(), "1 found");
  await finish();
});
