/** A settings file that says every value of a run, so that the run can be done again from it. */
import { stringify } from "smol-toml";
import { flagOf, type Settings, type Source } from "./flags.ts";
import type { Alternatives } from "./layers.ts";
import { sectionOf } from "./settingsFile.ts";

export interface ToWrite {
  readonly settings: Settings;
  readonly values: Readonly<Record<string, unknown>>;
  readonly sources: Readonly<Record<string, Source>>;
  readonly alternatives: Alternatives;
  /** The word before the flags: its key and what was given. */
  readonly first: { readonly key: string; readonly word: string };
  /** Lines for the head of the file. */
  readonly about: readonly string[];
}

/** @returns TOML with one section a group; what has no value stands as a comment */
export function settingsText({ settings, values, sources, alternatives, first, about }: ToWrite): string {
  const isGiven = (name: string): boolean => sources[name] !== undefined && !sources[name].endsWith("default");
  const isReplaced = (name: string): boolean =>
    !isGiven(name) && alternatives.some((group) => group.includes(name) && group.some(isGiven));
  const sections = new Map<string, string[]>();
  for (const [name, setting] of Object.entries(settings)) {
    if (setting.isUnsaved) continue;
    const key = flagOf(settings, name).slice(2);
    const lines = sections.get(sectionOf(setting.group)) ?? [];
    sections.set(sectionOf(setting.group), [
      ...lines,
      lineOf(key, isReplaced(name) ? null : values[name], sources[name] ?? "default"),
    ]);
  }
  const head = [...about.map((line) => `# ${line}`), pairOf(first.key, first.word)];
  const bodies = [...sections].map(([section, lines]) => [`[${section}]`, ...lines].join("\n"));
  return `${[head.join("\n"), ...bodies].join("\n\n")}\n`;
}

const pairOf = (key: string, value: unknown): string => stringify({ [key]: value }).trimEnd();

function lineOf(key: string, value: unknown, source: Source): string {
  if (value === null) return `# ${key}: not set`;
  return `${pairOf(key, value)}  # ${source}`;
}
