/**
 * The checkpoint's own Jinja chat template, and which characters of a rendered conversation the assistant speaks.
 * The spans come out of rendering: what turn k adds to the conversation before it, generation prompt included, is
 * turn k. Nothing is ever looked for in the text, so a user who types the template's marks cannot shift them.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { messageOf, UserError } from "../utils/errors.ts";
import { isJsonObject, readJsonObject } from "../utils/json.ts";

/** A message as templates read it; fields beyond these (tool_calls, reasoning_content) are passed on. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string | readonly { readonly type: string; readonly text?: string }[];
}

/** The characters of one assistant turn: the answer is [start, answerEnd), its closing [answerEnd, end). */
export interface TurnSpan {
  readonly start: number;
  readonly answerEnd: number;
  readonly end: number;
}

export interface ChatTemplate {
  /** @throws UserError with the template's own complaint when it refuses the conversation */
  render(messages: readonly ChatMessage[], options?: RenderOptions): string;
  /**
   * Where message `turn`, an assistant's, stands in `text`, which must be `render(messages, {tools})`.
   * @throws UserError when the template does not simply extend the conversation by that turn
   */
  spanOf(turn: number, conversation: RenderedConversation): TurnSpan;
  /** How many characters the system turn and the tools take at the beginning of `text`; 0 where that cannot be told. */
  headOf(conversation: RenderedConversation): number;
}

export interface RenderOptions {
  /** Function descriptions (JSON schema) offered to the assistant. */
  readonly tools?: readonly object[] | undefined;
  /** Ends with the opening of an assistant turn. */
  readonly addGenerationPrompt?: boolean;
}

export interface RenderedConversation {
  readonly messages: readonly ChatMessage[];
  readonly tools?: readonly object[] | undefined;
  readonly text: string;
}

/** Stands for an answer when a turn's closing is measured; of the private use area, so no template writes it. */
const ANSWER_MARK = "\uE000";

/**
 * Loads the template of a model folder: chat_template.jinja, else chat_template.json, else tokenizer_config.json.
 * @throws UserError when there is none, or naming its file when it is not a Jinja template
 */
export function loadChatTemplate(modelDir: string): ChatTemplate {
  const { file, source } = readTemplate(modelDir);
  let template: Template;
  try {
    template = new Template(source);
  } catch (cause) {
    throw new UserError(`${file}: the chat template cannot be parsed (${messageOf(cause)}); download it again`, {
      cause,
    });
  }
  return chatTemplateOf(template, { file, specialTokens: readSpecialTokens(modelDir) });
}

function chatTemplateOf(
  template: Template,
  { file, specialTokens }: { file: string; specialTokens: Readonly<Record<string, string>> },
): ChatTemplate {
  const render = (messages: readonly ChatMessage[], options: RenderOptions = {}): string => {
    try {
      return template.render({
        ...specialTokens,
        messages: messages.map(templateMessage),
        tools: options.tools ?? null,
        documents: null,
        add_generation_prompt: options.addGenerationPrompt ?? false,
      });
    } catch (cause) {
      throw new UserError(`the chat template ${file} refuses the conversation: ${messageOf(cause)}`, { cause });
    }
  };

  const spanOf = (turn: number, { messages, tools, text }: RenderedConversation): TurnSpan => {
    const before = messages.slice(0, turn);
    const fail = (what: string): never => {
      throw new UserError(
        `the chat template ${file} ${what} assistant turn ${turn + 1} of ${messages.length}, so its tokens cannot be told apart; ` +
          "train on the last turn only, or use a template that leaves earlier turns as they were",
      );
    };
    const prompt = render(before, { tools, addGenerationPrompt: true });
    const whole = turn === messages.length - 1 ? text : render(messages.slice(0, turn + 1), { tools });
    if (!whole.startsWith(prompt)) fail("writes a generation prompt that does not open");
    if (!text.startsWith(whole)) fail("changes what it wrote up to");
    const marked = render([...before, { role: "assistant", content: ANSWER_MARK }], { tools });
    const closing = marked.slice(marked.lastIndexOf(ANSWER_MARK) + ANSWER_MARK.length);
    if (!whole.endsWith(closing) || whole.length - closing.length < prompt.length) fail("closes in a way of its own");
    return { start: prompt.length, answerEnd: whole.length - closing.length, end: whole.length };
  };

  const headOf = ({ messages, tools, text }: RenderedConversation): number => {
    const probe = [{ role: "user", content: ANSWER_MARK }];
    const system = messages.slice(0, 1).filter(({ role }) => role === "system");
    const whole = render([...system, ...probe], { tools });
    const bare = render(probe);
    const head = whole.slice(0, Math.max(0, whole.length - bare.length));
    return whole === head + bare && text.startsWith(head) ? head.length : 0;
  };

  return { render, spanOf, headOf };
}

/** A message with its pictures reduced to their type: a template asks where they stand, never what is in them. */
function templateMessage(message: ChatMessage): object {
  const { content, ...rest } = message;
  if (typeof content === "string") return { content, ...rest };
  return { content: content.map(({ type, text }) => (text === undefined ? { type } : { type, text })), ...rest };
}

function readTemplate(modelDir: string): { file: string; source: string } {
  const jinjaFile = join(modelDir, "chat_template.jinja");
  if (existsSync(jinjaFile)) return { file: jinjaFile, source: readFileSync(jinjaFile, "utf8") };
  for (const name of ["chat_template.json", "tokenizer_config.json"]) {
    const file = join(modelDir, name);
    if (!existsSync(file)) continue;
    const source = defaultTemplate(readJsonObject(file, "it holds the chat template").chat_template);
    if (source !== undefined) return { file, source };
  }
  throw new UserError(
    `${modelDir}: no chat template; expected chat_template.jinja, or "chat_template" in chat_template.json or tokenizer_config.json: copy it from the model's page`,
  );
}

/** A template stands alone or in a list of `{name, template}`, of which "default" is the one. */
function defaultTemplate(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  const named = value.find((entry: unknown) => isJsonObject(entry) && entry.name === "default") as unknown;
  return isJsonObject(named) && typeof named.template === "string" ? named.template : undefined;
}

/** `bos_token`, `eos_token` and the like, which a template may print. */
function readSpecialTokens(modelDir: string): Readonly<Record<string, string>> {
  const file = join(modelDir, "tokenizer_config.json");
  if (!existsSync(file)) return {};
  const tokens: Record<string, string> = {};
  for (const [key, value] of Object.entries(readJsonObject(file, "it names the special tokens"))) {
    const text = isJsonObject(value) ? value.content : value;
    if (key.endsWith("_token") && typeof text === "string") tokens[key] = text;
  }
  return tokens;
}
