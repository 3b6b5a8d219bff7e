import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { APPS, CONTROLS } from "../../src/embedded/apps.ts";
import { textWidth } from "../../src/embedded/canvas.ts";
import { ALIASES } from "../../src/embedded/commands.ts";
import { drawScreen } from "../../src/embedded/drawScreen.ts";
import { csvText } from "../../src/embedded/embeddedUsers.ts";
import { genericScreen } from "../../src/embedded/genericScreen.ts";
import { habitsOf } from "../../src/embedded/habits.ts";
import { loadIcons } from "../../src/embedded/icons.ts";
import { CELL, type Element, HEIGHT, pointOf, referringOf, type Screen, WIDTH } from "../../src/embedded/screen.ts";
import { EMBEDDED_SEED, EPISODES, STEPS, samplesOf, USERS } from "../../src/embedded/users.ts";
import { randomFrom } from "../../src/utils/random.ts";

const icons = await loadIcons();
const everyone = Array.from({ length: USERS }, (_, i) => samplesOf(i + 1));
const everySample = everyone.flat();

const sha256 = (...parts: (string | Uint8Array)[]): string =>
  parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("hex");

const holds = ({ centre: [x, y], box }: Element): boolean =>
  x >= box.x && x < box.x + box.width && y >= box.y && y < box.y + box.height;

// A snapshot of our own: it pins. Where it changes on purpose, EMBEDDED_VERSION has to rise, or old caches stay in use.
test("user 7 says and sees the same on every machine and in every run", () => {
  const samples = samplesOf(7);
  assert.equal(sha256(csvText(samples)), "111ffd71dee5291b35bac1cd402f9dc906db4ae3747d96114f93b2fa9ea333ce");
  assert.equal(
    sha256(...samples.map(({ screen }) => drawScreen(screen, icons))),
    "40ecde609e24c84ff86b1d4bb41e505e889b24340f1f8979b65139cd40849bf5",
  );
  assert.deepEqual(samplesOf(7), samples);
});

test("a second set of icons draws the same bytes as the first, whatever was drawn before", async () => {
  const screens = samplesOf(12).map(({ screen }) => screen);
  const fresh = await loadIcons();
  const backwards = [...screens].reverse().map((screen) => drawScreen(screen, fresh));
  const forwards = screens.map((screen) => drawScreen(screen, icons));
  assert.deepEqual(backwards.reverse(), forwards);
});

test("every user has 12 episodes of 4 steps, the first on a home screen", () => {
  assert.equal(everySample.length, USERS * EPISODES * STEPS);
  for (const samples of everyone) {
    const places = samples.map(({ episode, step }) => [episode, step]);
    assert.deepEqual(
      places,
      Array.from({ length: EPISODES * STEPS }, (_, i) => [Math.floor(i / STEPS), i % STEPS]),
    );
    for (const { step, screen } of samples) if (step === 0) assert.equal(screen.kind, "home");
  }
});

test("the ground truth lies inside the drawn target, which nothing else covers, and is named once", () => {
  for (const { screen, target, point, referring, command } of everySample) {
    assert.ok(screen.elements.includes(target));
    assert.ok(holds(target), `${command}: ${target.centre} outside ${JSON.stringify(target.box)}`);
    assert.deepEqual(point, pointOf(target));
    assert.ok(Math.abs((point[0] * WIDTH) / 1000 - target.centre[0]) <= 0.07);
    assert.ok(Math.abs((point[1] * HEIGHT) / 1000 - target.centre[1]) <= 0.13);
    assert.equal(screen.elements.filter((other) => referringOf(other) === referring).length, 1);
    assert.ok(screen.elements.every((other) => other === target || !overlap(other, target)));
  }
});

/** Whether the other element's box holds the target's centre. */
function overlap(other: Element, target: Element): boolean {
  return holds({ ...other, centre: target.centre });
}

test("what stands in the target's box is its picture: hiding it changes pixels there and nowhere far", () => {
  for (const { screen, target } of everySample.filter((_, i) => i % 97 === 0)) {
    const without = { ...screen, elements: screen.elements.filter((element) => element !== target) };
    const [shown, hidden] = [drawScreen(screen, icons), drawScreen(without, icons)];
    const changed = changedPixels(shown, hidden);
    assert.ok(changed.length > 80, `${referringOf(target)} shows in ${changed.length} pixels`);
    const { x, y, width, height } = target.box;
    // a badge stands one pixel out, a caption fills the rest of the cell
    const margin = (CELL - 20) / 2 + 2;
    for (const [px, py] of changed) {
      assert.ok(px >= x - margin && px < x + width + margin && py >= y - 1 && py < y + height + 8, `${px}, ${py}`);
    }
  }
});

function changedPixels(a: Uint8Array, b: Uint8Array): [number, number][] {
  const changed: [number, number][] = [];
  for (let i = 0; i < WIDTH * HEIGHT; i++)
    if ([0, 1, 2].some((c) => a[i * 3 + c] !== b[i * 3 + c])) changed.push([i % WIDTH, Math.floor(i / WIDTH)]);
  return changed;
}

test("no two users have the same habits, words or pictures", () => {
  const distinct = (values: readonly string[]): number => new Set(values).size;
  const habits = everyone.map((_, i) => habitsOf(EMBEDDED_SEED, i + 1));
  const layouts = habits.map(({ pages, dock }) => JSON.stringify([pages, dock]));
  assert.equal(distinct(layouts), USERS);
  assert.equal(distinct(habits.map(({ aliases }) => JSON.stringify([...aliases]))), USERS);
  assert.equal(distinct(everyone.map((samples) => samples.map(({ command }) => command).join())), USERS);
  const firstScreens = everyone.map(([first]) => (first ? sha256(drawScreen(first.screen, icons)) : ""));
  assert.equal(distinct(firstScreens), USERS);
});

test("private names mean one app for each user, others for other users, and only apps that the user has", () => {
  const meanings = new Map(ALIASES.map((alias) => [alias, new Set<string>()] as const));
  for (let user = 1; user <= USERS; user++) {
    const { aliases, pages, dock } = habitsOf(EMBEDDED_SEED, user);
    assert.equal(aliases.size, 4);
    assert.equal(new Set(aliases.values()).size, 4);
    const owned = [...dock, ...pages.flat()].map(({ name }) => name);
    for (const [alias, app] of aliases) {
      assert.ok(owned.includes(app));
      meanings.get(alias)?.add(app);
    }
  }
  for (const [alias, apps] of meanings) assert.ok(apps.size >= 10, `${alias} means only ${[...apps]}`);
});

test("commands name their target by its name, its synonym or the user's own word, each in its share", () => {
  const counts = { plain: 0, synonym: 0, alias: 0 };
  for (const { user, target, command, wording } of everySample) {
    counts[wording]++;
    const known = [...APPS, ...CONTROLS].find(({ name }) => name === target.name);
    const alias = [...habitsOf(EMBEDDED_SEED, user).aliases].find(([, app]) => app === target.name)?.[0];
    const word = { plain: known?.name, synonym: known?.synonym, alias }[wording];
    assert.ok(word && ` ${command} `.includes(` ${word} `), `${command} for ${target.name} (${wording})`);
  }
  const share = (count: number): number => count / everySample.length;
  assert.ok(Math.abs(share(counts.plain) - 0.31) < 0.02, `plain ${share(counts.plain)}`);
  assert.ok(Math.abs(share(counts.synonym) - 0.38) < 0.02, `synonym ${share(counts.synonym)}`);
  assert.ok(Math.abs(share(counts.alias) - 0.31) < 0.02, `alias ${share(counts.alias)}`);
});

test("names, synonyms and private names never mean two things", () => {
  const words = [...APPS, ...CONTROLS].flatMap(({ name, synonym }) => [name, synonym]);
  assert.equal(new Set([...words, ...ALIASES]).size, words.length + ALIASES.length);
});

test("captions fit under their icons", () => {
  for (const { captions } of APPS)
    for (const caption of Object.values(captions)) assert.ok(textWidth(caption) <= CELL, caption);
});

test("generic screens hold what is asked for, in cells of their own, and differ", () => {
  const seen = new Set<string>();
  for (const [i, kind] of (["home", "list", "dialog"] as const).entries())
    for (let apps = 1; apps <= 7; apps++) {
      const screen: Screen = genericScreen(randomFrom(1, i, apps), { kind, apps });
      assert.equal(screen.kind, kind);
      const shown = screen.elements.filter(({ role }) => role === "icon" || role === "row").length;
      assert.equal(shown, kind === "dialog" ? 0 : apps);
      assert.equal(new Set(screen.elements.map(({ centre }) => String(centre))).size, screen.elements.length);
      assert.ok(screen.elements.every(holds));
      seen.add(sha256(drawScreen(screen, icons)));
    }
  assert.equal(seen.size, 21);
  assert.throws(() => genericScreen(randomFrom(1), { kind: "list", apps: 8 }), /a list holds 1 to 7 apps, not 8/);
});
