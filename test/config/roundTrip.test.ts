// What a run writes as settings.toml gives the same settings again, for every flag there is.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { EVALUATION, PERSON, SAVED, TRAINING } from "../../src/config/commands.ts";
import {
  evalSettingsText,
  parseEvalConfig,
  parsePersonConfig,
  parseSavedConfig,
  parseTrainConfig,
  personSettingsText,
  savedEvalSettingsText,
  trainSettingsText,
} from "../../src/config.ts";
import { UserError } from "../../src/utils/errors.ts";
import { flagOf, type Setting, type Settings } from "../../src/utils/flags.ts";
import { newFolder, scratchFolder } from "../train/folders.ts";

const file = join(newFolder(scratchFolder("round-trip"), "files"), "settings.toml");

/** Words that some setting or other takes; those that a setting does not take are left out by asking it. */
const NUMBERS = ["0", "1", "2", "3", "7", "48", "1000000", "0.05", "0.5", "1e-7", "3.3e-5", "1.25", "123456789012"];
const LISTS = [
  ["merger", "llm"],
  ["vision"],
  ["3", "7"],
  ["9", "2", "5"],
  ["4"],
  ["q_proj", "v_proj"],
  [".*\\.(q|v)_proj"],
  ["all-linear"],
];
const TEXTS = ["a b", "c:\\d\\n", 'say "hi"', "ünï⚙", "#5", "a=b", "'x'", "true", "12", "\t", "\u007f\u0001", "[x]"];

function wordsFor(setting: Setting<unknown>): string[][] {
  if (setting.takes === "none") return [["true"], ["false"]];
  const tried = [...NUMBERS, ...TEXTS, ...setting.shown.split("|")].map((word) => [word]);
  return [...tried, ...(setting.takes === "many" ? LISTS : [])].filter((words) => {
    try {
      setting.read(words);
      return true;
    } catch (thrown) {
      if (!(thrown instanceof UserError)) throw thrown;
      return false;
    }
  });
}

/** A flag with its words, as they stand on a command line. */
function written(settings: Settings, name: string, words: readonly string[]): string[] {
  const flag = flagOf(settings, name);
  if (settings[name]?.takes === "none") return [words[0] === "true" ? flag : flag.replace("--", "--no-")];
  return words.length === 1 ? [`${flag}=${words[0]}`] : [flag, ...words];
}

type Line = readonly string[];

/** The flags of `line`, in order, without those that are refused beside the ones before them. */
function possible(parse: (argv: Line) => unknown, flags: readonly Line[]): string[] {
  let kept: string[] = [];
  for (const flag of flags) {
    try {
      parse([...kept, ...flag]);
      kept = [...kept, ...flag];
    } catch (thrown) {
      if (!(thrown instanceof UserError)) throw thrown;
    }
  }
  return kept;
}

interface Subject<C extends { readonly config: string | null; readonly preset: string | null }> {
  readonly settings: Settings;
  readonly parse: (argv: Line) => C;
  readonly text: (config: C) => string;
}

type AnyConfig = { readonly config: string | null; readonly preset: string | null };

/** A run, as far as settings make it: not where each came from, nor how it was begun. */
function runOf(settings: Settings, config: AnyConfig): Record<string, unknown> {
  const { sources: _, ...values }: AnyConfig & { sources?: unknown } = config;
  return Object.fromEntries(Object.entries(values).filter(([name]) => settings[name]?.isUnsaved !== true));
}

function assertRoundTrips<C extends AnyConfig>(name: string, { settings, parse, text }: Subject<C>): void {
  const names = Object.keys(settings).filter((key) => key !== "config");
  const choices = names.map((key) => wordsFor(settings[key] as Setting<unknown>));
  for (const [i, words] of choices.entries()) assert.ok(words.length > 0, `no word for ${names[i]}`);
  const seen = new Set<string>();
  const flag = fc
    .nat(names.length - 1)
    .chain((i) => fc.constantFrom(...(choices[i] ?? [])).map((words) => [names[i] ?? "", words] as const));
  const line = fc.uniqueArray(flag, { selector: ([key]) => key, maxLength: names.length, size: "max" });
  const device = fc.constantFrom([], ["cpu"], ["0"], ["1,0"], ["cpu,cpu"]);
  fc.assert(
    fc.property(line, device, (flags, first) => {
      const spelt = flags.map(([key, words]) => written(settings, key, words));
      const config = parse([...first, ...possible(parse, spelt)]);
      writeFileSync(file, text(config));
      const again = parse(["--config", file]);
      assert.deepEqual(runOf(settings, again), runOf(settings, config));
      assert.equal(withoutSources(text(again)), withoutSources(text(config)), "and the file says the same again");
      const own = new Map<string, unknown>(Object.entries(config));
      for (const [key] of flags)
        if (JSON.stringify(own.get(key)) !== JSON.stringify(settings[key]?.default)) seen.add(key);
    }),
    { numRuns: 150, seed: 5 },
  );
  const unseen = names.filter((key) => !seen.has(key));
  assert.deepEqual(unseen, [], `${name}: settings that never had another value than the default`);
}

const withoutSources = (text: string): string => text.replace(/ {2}# [a-z -]+$/gm, "");

test("training: every flag comes back", () => {
  assertRoundTrips("training", { settings: TRAINING, parse: parseTrainConfig, text: trainSettingsText });
});

test("evaluation: every flag comes back", () => {
  assertRoundTrips("evaluation", { settings: EVALUATION, parse: parseEvalConfig, text: evalSettingsText });
});

test("evaluation of what was saved: every flag comes back", () => {
  const parse = ([first = "", ...rest]: Line) =>
    parseSavedConfig(
      first === "" || first.startsWith("-")
        ? ["a run", ...(first === "" ? [] : [first]), ...rest]
        : [first, "a run", ...rest],
    );
  assertRoundTrips("saved", { settings: SAVED, parse, text: savedEvalSettingsText });
});

test("personal agents: every flag comes back", () => {
  assertRoundTrips("personal agents", { settings: PERSON, parse: parsePersonConfig, text: personSettingsText });
});

test("a preset's values stand in the file, so that it needs no preset", () => {
  const config = parseTrainConfig(["cpu", "--lora", "--preset", "debug"]);
  writeFileSync(file, trainSettingsText(config));
  const again = parseTrainConfig(["--config", file]);
  assert.deepEqual(runOf(TRAINING, again), runOf(TRAINING, config));
  assert.deepEqual([again.preset, again.maxSteps, again.sources.maxSteps], [null, 4, "file"]);
});
