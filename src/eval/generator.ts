/** Answers to a batch of prompts, with a key-value cache; each is the answer that the prompt alone would get. */
import type { Checkpoint } from "../model/checkpoint.ts";
import { decoderGraph, stackedDecoderGraph } from "../model/graphs.ts";
import type { Trainables } from "../model/layers.ts";
import { openModelSession } from "../model/session.ts";
import type { Device } from "../runtime/device.ts";
import type { Session } from "../runtime/session.ts";
import { type Feeds, type HostTensor, ints } from "../runtime/tensor.ts";
import { InternalError, required } from "../utils/errors.ts";
import { AdapterStack, isOnHost, type StackSettings } from "./adapterStack.ts";
import { type Choice, chooseToken, drawOf, type SamplingSettings } from "./choice.ts";
import { continued, type DecoderPrompt, filledLength, nextPosition, nextTokenFeeds, promptFeeds } from "./decoding.ts";
import { KeyValueCache } from "./keyValueCache.ts";

export interface GenerationSettings {
  readonly maxNewTokens: number;
  /** Tokens that end an answer; the one that ended it is part of the result. */
  readonly stopIds: readonly number[];
  readonly padId: number;
  /** Absent or null: the likeliest token each time. */
  readonly sampling?: SamplingSettings | null;
}

/** The answer to a prompt as far as it has got. */
interface Growing {
  readonly prompt: DecoderPrompt;
  readonly answer: number[];
  /** Of the set of parameters that answers. */
  readonly owner: number;
}

/** With what all tokens of a call are made. */
interface Making {
  readonly sets: readonly Feeds[];
  /** null where there is but one set, and it is no adapter. */
  readonly stack: AdapterStack | null;
  readonly settings: GenerationSettings;
}

/**
 * Kernels add this many numbers of a row at a time and the rest in another way. Weights of few bits round what they multiply,
 * and the last digit of a sum may turn a rounding: prompts are filled up to whole blocks, so that a row's sums are the same to
 * the last bit whatever is answered beside it. Without such weights a last digit changes no more than `NOISE`.
 */
const FEW_BITS_BLOCK = 16;

export class Generator {
  readonly #checkpoint: Checkpoint;
  readonly #session: Session;
  readonly #parameters: readonly string[];
  /** Prompts are filled up to a multiple of it. */
  readonly #block: number;
  readonly #stacking: StackSettings | null;

  private constructor(
    checkpoint: Checkpoint,
    session: Session,
    parameters: readonly string[],
    stacking: StackSettings | null,
  ) {
    this.#checkpoint = checkpoint;
    this.#session = session;
    this.#parameters = parameters;
    this.#block = checkpoint.quantised ? FEW_BITS_BLOCK : 1;
    this.#stacking = stacking;
  }

  /** The adapter is an input of the session: one session serves any number of them. */
  static async open(checkpoint: Checkpoint, trainables: Trainables, device: Device): Promise<Generator> {
    const stacking = stackingOf(trainables);
    const { graph, trainable } = (stacking ? stackedDecoderGraph : decoderGraph)(checkpoint, trainables);
    return new Generator(checkpoint, await openModelSession(graph, checkpoint, device), trainable, stacking);
  }

  /** Parameters that `generate` must be given. */
  get parameters(): readonly string[] {
    return this.#parameters;
  }

  /**
   * Rows whose answers have ended make room: what is left costs what it would cost alone.
   * @param parameters of each prompt; the same object for prompts of one set. Adapters are applied side by side
   * @returns the new tokens of each prompt, up to and with the one that stopped it
   */
  async generate(
    prompts: readonly DecoderPrompt[],
    parameters: readonly Feeds[],
    settings: GenerationSettings,
  ): Promise<number[][]> {
    if (parameters.length !== prompts.length)
      throw new InternalError(`${parameters.length} sets of parameters came with ${prompts.length} prompts`);
    const sets = [...new Set(parameters)];
    if (sets.length === 1 || (this.#stacking && sets.every(isOnHost)))
      return this.#together(prompts, parameters, { sets, settings });
    const answers: number[][] = prompts.map(() => []);
    for (const set of sets) {
      const places = parameters.flatMap((own, i) => (own === set ? [i] : []));
      const own = places.map((i) => required(prompts[i], "prompt"));
      const made = await this.#together(own, own.map(() => set), { sets: [set], settings }); // biome-ignore format: one line
      for (const [k, i] of places.entries()) answers[i] = required(made[k], "answer");
    }
    return answers;
  }

  async #together(
    prompts: readonly DecoderPrompt[],
    parameters: readonly Feeds[],
    { sets, settings }: Omit<Making, "stack">,
  ): Promise<number[][]> {
    const { architecture } = this.#checkpoint;
    const making = { sets, settings, stack: this.#stacking && new AdapterStack(this.#stacking, sets) };
    const all: readonly Growing[] = prompts.map((prompt, i) => ({
      prompt,
      answer: [],
      owner: sets.indexOf(parameters[i] ?? {}),
    }));
    const longest = Math.max(...prompts.map(({ inputIds }) => inputIds.length));
    const cache = new KeyValueCache(architecture.text, prompts.length, longest + settings.maxNewTokens);
    let growing = all;
    let logits = await this.#prefill(growing, cache, making);
    for (;;) {
      for (const [b, one] of growing.entries())
        one.answer.push(await this.#next(required(logits[b], "logits"), one, making));
      const going = growing.flatMap(({ answer }, b) => (isDone(answer, settings) ? [] : [b]));
      if (going.length === 0) return all.map(({ answer }) => answer);
      if (going.length < growing.length) cache.keep(going);
      growing = going.map((b) => required(growing[b], "answer"));
      logits = await this.#step(growing, cache, making);
    }
  }

  /** Logits of every token of one prompt [T, V]. */
  logits(prompt: DecoderPrompt, parameters: Feeds): Promise<Float32Array> {
    return this.#logitsAlone(
      prompt,
      prompt.inputIds.map((_, row) => row),
      parameters,
    );
  }

  release(): Promise<void> {
    return this.#session.release();
  }

  async #logitsAlone(prompt: DecoderPrompt, rows: Int32Array, parameters: Feeds): Promise<Float32Array> {
    const { architecture } = this.#checkpoint;
    const feeds = {
      ...promptFeeds(architecture, [prompt], { longest: filledLength([prompt], this.#block), padId: 0 }),
      ...new KeyValueCache(architecture.text, 1, 0).feeds(),
      ...this.#alone(parameters),
      logit_rows: ints(rows, [rows.length]),
    };
    return required((await this.#session.run(feeds, ["logits"])).logits, "logits").data as Float32Array;
  }

  /** Reads the prompts into the cache. @returns the logits behind each */
  async #prefill(growing: readonly Growing[], cache: KeyValueCache, making: Making): Promise<Float32Array[]> {
    const prompts = growing.map(({ prompt }) => prompt);
    const lengths = prompts.map(({ inputIds }) => inputIds.length);
    const longest = filledLength(prompts, this.#block);
    const lastRows = Int32Array.from(lengths, (length, b) => b * longest + length - 1);
    const feeds = promptFeeds(this.#checkpoint.architecture, prompts, {
      longest,
      padId: making.settings.padId,
    });
    return this.#run(
      { ...feeds, ...parametersOf(growing, making), logit_rows: ints(lastRows, [lastRows.length]) },
      cache,
      lengths,
    );
  }

  /** Reads the newest token of each answer into the cache. @returns the logits behind each */
  #step(growing: readonly Growing[], cache: KeyValueCache, making: Making): Promise<Float32Array[]> {
    const tokens = growing.map(({ answer }) => required(answer.at(-1), "token"));
    const positions = growing.map(({ prompt, answer }) => nextPosition(prompt) + answer.length - 1);
    const feeds = nextTokenFeeds(this.#checkpoint.architecture, tokens, positions);
    return this.#run(
      { ...feeds, ...parametersOf(growing, making) },
      cache,
      tokens.map(() => 1),
    );
  }

  async #run(feeds: Feeds, cache: KeyValueCache, counts: readonly number[]): Promise<Float32Array[]> {
    const outputs = await this.#session.run({ ...feeds, ...cache.feeds() });
    cache.append(outputs, counts);
    return rowsOf(required(outputs.logits, "logits"));
  }

  /** A choice that noise could turn is settled by the whole sequence computed anew and alone, whatever the batch was. */
  async #next(logits: Float32Array, { prompt, answer, owner }: Growing, { sets, settings }: Making): Promise<number> {
    const sampling = settings.sampling ?? null;
    const draw = sampling ? drawOf(sampling.seed, prompt.id, answer.length) : 0;
    const choose = (from: Float32Array): Choice => chooseToken(from, sampling, draw);
    const choice = choose(logits);
    if (choice.isClear) return choice.token;
    const whole = continued(prompt, answer);
    return choose(
      await this.#logitsAlone(whole, Int32Array.of(whole.inputIds.length - 1), required(sets[owner], "parameters")),
    ).token;
  }

  #alone(parameters: Feeds): Feeds {
    return this.#stacking ? new AdapterStack(this.#stacking, [parameters]).feeds([0]) : parameters;
  }
}

const parametersOf = (growing: readonly Growing[], { stack, sets }: Making): Feeds =>
  stack ? stack.feeds(growing.map(({ owner }) => owner)) : (sets[0] ?? {});

/** Adapters that are sums of two products can be stacked; lengths of rows (DoRA) and whole parameters cannot. */
const stackingOf = ({ lora, full }: Trainables): StackSettings | null =>
  lora && full.size === 0 && !lora.settings.useDora ? { r: lora.settings.r, modules: lora.modules } : null;

/** Whether no token follows. */
const isDone = (answer: readonly number[], { stopIds, maxNewTokens }: GenerationSettings): boolean =>
  answer.length >= maxNewTokens || stopIds.includes(answer.at(-1) ?? -1);

/** Views of the rows of a matrix. */
function rowsOf({ data, dims: [rows = 0, width = 0] }: HostTensor): Float32Array[] {
  return Array.from({ length: rows }, (_, row) => (data as Float32Array).subarray(row * width, (row + 1) * width));
}
