/** What users say: verb templates, shared synonyms and private names. */
import { APPS, CONTROLS } from "./apps.ts";

/** How a command names its target: by its own name, by a synonym that all users share, or by a private name of one user. */
export type Wording = "plain" | "synonym" | "alias";

/** `{}` stands for the name. */
export const APP_VERBS = [
  "open {}",
  "tap {}",
  "go to {}",
  "start {}",
  "launch {}",
  "show me {}",
  "press {}",
  "bring up {}",
];
export const CONTROL_VERBS = ["tap {}", "press {}", "choose {}", "hit {}"];
export const ENDINGS = ["", " please", " now", " for me"];

/** Made-up names; which app each means differs from user to user. */
export const ALIASES = [
  "bobo",
  "turbo",
  "zizi",
  "momo",
  "kiki",
  "the usual",
  "my corner",
  "old friend",
  "number one",
  "lucky",
  "pip",
  "dodo",
];

const SYNONYMS = new Map([...APPS, ...CONTROLS].map(({ name, synonym }) => [name, synonym] as const));

/** The word that all users share for an app or a control. */
export const synonymOf = (name: string): string => SYNONYMS.get(name) ?? name;

export const sayCommand = (verb: string, name: string, ending: string): string => verb.replace("{}", name) + ending;

/** Every command that a user may say: what a tokenizer for them has to cover. */
export function* everyCommand(): Generator<string> {
  const appNames = [...APPS.flatMap(({ name, synonym }) => [name, synonym]), ...ALIASES];
  const controlNames = CONTROLS.flatMap(({ name, synonym }) => [name, synonym]);
  for (const ending of ENDINGS) {
    for (const verb of APP_VERBS) for (const name of appNames) yield sayCommand(verb, name, ending);
    for (const verb of CONTROL_VERBS) for (const name of controlNames) yield sayCommand(verb, name, ending);
  }
}
