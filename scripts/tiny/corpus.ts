/** Every text that the embedded users and their model exchange: what the tiny tokenizer is made from. */
import { ACTIONS, APPS, CONTROLS } from "../../src/embedded/apps.ts";
import { everyCommand } from "../../src/embedded/commands.ts";
import { groundingAnswer, groundingPrompt } from "../../src/text/groundingPrompt.ts";

/** Roles and words of the chat template. */
const SCAFFOLD = ["system\n", "user\n", "assistant\n", "You are a helpful assistant."];

export function* everyText(): Generator<string> {
  yield* SCAFFOLD;
  for (const command of everyCommand()) yield groundingPrompt(command);
  for (const referring of everyReferring()) yield groundingAnswer(referring, [0, 1000]);
}

function* everyReferring(): Generator<string> {
  for (const { name } of APPS) {
    yield `${name} icon`;
    yield `${name} row`;
  }
  for (const { name } of CONTROLS) yield `${name} button`;
  for (const name of ACTIONS) yield `${name} bar`;
}
