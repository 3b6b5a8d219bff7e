/** Settings given in several places, one over the other: defaults, a preset, a file, flags. */
import type { Settings, Source, Values } from "./flags.ts";

/** What one place says. */
export interface Layer {
  readonly source: Source;
  readonly given: Readonly<Record<string, unknown>>;
}

export interface Layered<S extends Settings> {
  readonly values: Values<S>;
  readonly sources: { readonly [K in keyof S]: Source };
}

/** Names of settings that say the same thing in different ways: one given in a stronger place replaces all in weaker ones. */
export type Alternatives = readonly (readonly string[])[];

/**
 * A file or preset that says what holds anyway is not where a value came from: a file of all settings may be read back,
 * those without effect included.
 * @param layers the weakest first; names that are not in the table are passed over
 */
export function layered<S extends Settings>(
  settings: S,
  layers: readonly Layer[],
  alternatives: Alternatives = [],
): Layered<S> {
  const names = Object.keys(settings);
  const values: Record<string, unknown> = {};
  const sources: Record<string, Source> = {};
  const reset = (name: string): void => {
    if (!Object.hasOwn(settings, name)) return;
    values[name] = settings[name]?.default;
    sources[name] = "default";
  };
  for (const name of names) reset(name);
  for (const { source, given } of layers) {
    const isGiven = (name: string): boolean => Object.hasOwn(given, name);
    for (const group of alternatives) if (group.some(isGiven)) for (const name of group) reset(name);
    for (const name of names.filter(isGiven)) {
      const isNews = source === "flag" || JSON.stringify(given[name]) !== JSON.stringify(values[name]);
      values[name] = given[name];
      if (isNews) sources[name] = source;
    }
  }
  return { values: values as Values<S>, sources: sources as Layered<S>["sources"] };
}
