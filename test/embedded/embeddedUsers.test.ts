import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { parse } from "csv-parse/sync";
import sharp from "sharp";
import { drawScreen } from "../../src/embedded/drawScreen.ts";
import { csvText, ensureEmbeddedData } from "../../src/embedded/embeddedUsers.ts";
import { loadIcons } from "../../src/embedded/icons.ts";
import { HEIGHT, WIDTH } from "../../src/embedded/screen.ts";
import { samplesOf } from "../../src/embedded/users.ts";
import { UserError } from "../../src/utils/errors.ts";

async function temporaryFolder(context: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "embedded-"));
  context.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Checks that the user's files are there, whole, and show what was drawn. */
async function checkUser(dir: string, user: number): Promise<void> {
  const samples = samplesOf(user);
  const text = await readFile(path.join(dir, `user_${user}.csv`), "utf8");
  assert.equal(text, csvText(samples));
  const rows: Record<string, string>[] = parse(text, { columns: true });
  assert.deepEqual(Object.keys(rows[0] ?? {}), ["image", "command", "referring", "x", "y", "episode"]);
  assert.equal(rows.length, samples.length);
  const icons = await loadIcons();
  for (const [i, { screen, command, referring, point, episode }] of samples.entries()) {
    const row = rows[i] ?? {};
    assert.deepEqual(
      [row.command, row.referring, row.x, row.y, row.episode],
      [command, referring, ...point, episode].map(String),
    );
    const { data, info } = await sharp(path.join(dir, row.image ?? ""))
      .raw()
      .toBuffer({ resolveWithObject: true });
    assert.deepEqual([info.width, info.height, info.channels], [WIDTH, HEIGHT, 3]);
    assert.ok(data.equals(drawScreen(screen, icons)), `${row.image} shows what was drawn`);
  }
}

test("only the users asked for are drawn, once, and progress is told", async (context) => {
  const dir = path.join(await temporaryFolder(context), "not", "yet", "there");
  const told: string[] = [];
  const onProgress = (done: number, total: number): void => void told.push(`${done}/${total}`);
  assert.equal(await ensureEmbeddedData({ dir, users: [3, 5, 3], onProgress }), dir);
  assert.deepEqual(told, ["1/2", "2/2"]);
  assert.deepEqual((await readdir(dir)).sort(), ["images", "user_3.csv", "user_5.csv"]);
  assert.deepEqual((await readdir(path.join(dir, "images"))).sort(), ["user_3", "user_5"]);
  await checkUser(dir, 3);
  await ensureEmbeddedData({ dir, users: [5, 3], onProgress });
  assert.equal(told.length, 2);
});

test("a run that was killed between pictures and CSV is completed, and its scratch folder cleared", async (context) => {
  const dir = await temporaryFolder(context);
  await ensureEmbeddedData({ dir, users: [4] });
  await rm(path.join(dir, "user_4.csv"));
  const [stale, live] = [path.join(dir, ".writing-old"), path.join(dir, ".writing-new")];
  for (const folder of [stale, live]) await mkdir(path.join(folder, "images"), { recursive: true });
  await utimes(stale, new Date(0), new Date(0));
  await ensureEmbeddedData({ dir, users: [4] });
  await checkUser(dir, 4);
  assert.deepEqual((await readdir(dir)).sort(), [".writing-new", "images", "user_4.csv"]);
});

test("two processes at once leave one whole set and nothing else", async (context) => {
  const dir = await temporaryFolder(context);
  const script = `import("${new URL("../../src/embedded/embeddedUsers.ts", import.meta.url).href}")
    .then((module) => module.ensureEmbeddedData({ dir: ${JSON.stringify(dir)}, users: [1, 2, 3, 4] }))`;
  const exits = Array.from({ length: 2 }, () => {
    const child = spawn(process.execPath, ["--import", "tsx", "-e", script], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    return new Promise((resolve) => child.once("exit", resolve));
  });
  assert.deepEqual(await Promise.all(exits), [0, 0]);
  assert.deepEqual((await readdir(dir)).sort(), ["images", ...[1, 2, 3, 4].map((user) => `user_${user}.csv`)]);
  for (const user of [1, 2, 3, 4]) await checkUser(dir, user);
});

test("a user who does not exist, or a folder that cannot be made, is refused by name", async (context) => {
  const dir = await temporaryFolder(context);
  for (const user of [0, 84, 1.5]) {
    const message = `embedded users: there are users 1 to 83, not ${user}; choose among them with --u, or name your own files with --data`;
    await assert.rejects(ensureEmbeddedData({ dir, users: [1, user] }), new UserError(message));
  }
  assert.deepEqual(await readdir(dir), []);
  const file = path.join(import.meta.dirname, "embeddedUsers.test.ts", "inside");
  await assert.rejects(
    ensureEmbeddedData({ dir: file, users: [1] }),
    /inside: the embedded users cannot be written here/,
  );
});
