/** Answers to a batch of prompts, with a key-value cache; each is the answer that the prompt alone would get. */
import type { Checkpoint } from "../model/checkpoint.ts";
import { decoderGraph } from "../model/graphs.ts";
import type { Trainables } from "../model/layers.ts";
import { openModelSession } from "../model/session.ts";
import type { Device } from "../runtime/device.ts";
import type { Session } from "../runtime/session.ts";
import { type Feeds, type HostTensor, ints } from "../runtime/tensor.ts";
import { required } from "../utils/errors.ts";
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
}

/** With what all tokens of a call are made. */
interface Making {
  readonly parameters: Feeds;
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

  private constructor(checkpoint: Checkpoint, session: Session, parameters: readonly string[]) {
    this.#checkpoint = checkpoint;
    this.#session = session;
    this.#parameters = parameters;
    this.#block = checkpoint.quantised ? FEW_BITS_BLOCK : 1;
  }

  /** The adapter is an input of the session: one session serves any number of them. */
  static async open(checkpoint: Checkpoint, trainables: Trainables, device: Device): Promise<Generator> {
    const { graph, trainable } = decoderGraph(checkpoint, trainables);
    return new Generator(checkpoint, await openModelSession(graph, checkpoint, device), trainable);
  }

  /** Parameters that `generate` must be given. */
  get parameters(): readonly string[] {
    return this.#parameters;
  }

  /**
   * Rows whose answers have ended make room: what is left costs what it would cost alone.
   * @returns the new tokens of each prompt, up to and with the one that stopped it
   */
  async generate(
    prompts: readonly DecoderPrompt[],
    parameters: Feeds,
    settings: GenerationSettings,
  ): Promise<number[][]> {
    const { architecture } = this.#checkpoint;
    const making = { parameters, settings };
    const all: readonly Growing[] = prompts.map((prompt) => ({ prompt, answer: [] }));
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
      ...parameters,
      logit_rows: ints(rows, [rows.length]),
    };
    return required((await this.#session.run(feeds, ["logits"])).logits, "logits").data as Float32Array;
  }

  /** Reads the prompts into the cache. @returns the logits behind each */
  async #prefill(
    growing: readonly Growing[],
    cache: KeyValueCache,
    { parameters, settings }: Making,
  ): Promise<Float32Array[]> {
    const prompts = growing.map(({ prompt }) => prompt);
    const lengths = prompts.map(({ inputIds }) => inputIds.length);
    const longest = filledLength(prompts, this.#block);
    const lastRows = Int32Array.from(lengths, (length, b) => b * longest + length - 1);
    const feeds = promptFeeds(this.#checkpoint.architecture, prompts, { longest, padId: settings.padId });
    return this.#run({ ...feeds, ...parameters, logit_rows: ints(lastRows, [lastRows.length]) }, cache, lengths);
  }

  /** Reads the newest token of each answer into the cache. @returns the logits behind each */
  #step(growing: readonly Growing[], cache: KeyValueCache, { parameters }: Making): Promise<Float32Array[]> {
    const tokens = growing.map(({ answer }) => required(answer.at(-1), "token"));
    const positions = growing.map(({ prompt, answer }) => nextPosition(prompt) + answer.length - 1);
    const feeds = nextTokenFeeds(this.#checkpoint.architecture, tokens, positions);
    return this.#run(
      { ...feeds, ...parameters },
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
  async #next(logits: Float32Array, { prompt, answer }: Growing, { parameters, settings }: Making): Promise<number> {
    const sampling = settings.sampling ?? null;
    const draw = sampling ? drawOf(sampling.seed, prompt.id, answer.length) : 0;
    const choose = (from: Float32Array): Choice => chooseToken(from, sampling, draw);
    const choice = choose(logits);
    if (choice.isClear) return choice.token;
    const whole = continued(prompt, answer);
    return choose(await this.#logitsAlone(whole, Int32Array.of(whole.inputIds.length - 1), parameters)).token;
  }
}

/** Whether no token follows. */
const isDone = (answer: readonly number[], { stopIds, maxNewTokens }: GenerationSettings): boolean =>
  answer.length >= maxNewTokens || stopIds.includes(answer.at(-1) ?? -1);

/** Views of the rows of a matrix. */
function rowsOf({ data, dims: [rows = 0, width = 0] }: HostTensor): Float32Array[] {
  return Array.from({ length: rows }, (_, row) => (data as Float32Array).subarray(row * width, (row + 1) * width));
}
