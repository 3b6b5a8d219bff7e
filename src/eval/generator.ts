/** Answers to a batch of prompts, with a key-value cache; each is the answer that the prompt alone would get. */
import type { Checkpoint } from "../model/checkpoint.ts";
import { cacheNames, decoderGraph } from "../model/graphs.ts";
import type { Trainables } from "../model/layers.ts";
import { openModelSession } from "../model/session.ts";
import type { Device } from "../runtime/device.ts";
import type { Session } from "../runtime/session.ts";
import { type Feeds, type HostTensor, ints } from "../runtime/tensor.ts";
import { required } from "../utils/errors.ts";
import { type Choice, chooseToken, drawOf, type SamplingSettings } from "./choice.ts";
import { continued, type DecoderPrompt, type Decoding, decodingOf, nextTokenFeeds, promptFeeds } from "./decoding.ts";

export interface GenerationSettings {
  readonly maxNewTokens: number;
  /** Tokens that end an answer; the one that ended it is part of the result. */
  readonly stopIds: readonly number[];
  readonly padId: number;
  /** Absent or null: the likeliest token each time. */
  readonly sampling?: SamplingSettings | null;
}

/** Logits of the next tokens, [B][V], and the cache that they follow from. */
interface Step {
  readonly logits: readonly Float32Array[];
  readonly cache: Feeds;
}

interface Growing {
  readonly prompts: readonly DecoderPrompt[];
  readonly answers: readonly number[][];
  readonly parameters: Feeds;
  readonly settings: GenerationSettings;
}

export class Generator {
  readonly #checkpoint: Checkpoint;
  readonly #session: Session;
  readonly #parameters: readonly string[];

  private constructor(checkpoint: Checkpoint, session: Session, parameters: readonly string[]) {
    this.#checkpoint = checkpoint;
    this.#session = session;
    this.#parameters = parameters;
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

  /** @returns the new tokens of each prompt, up to and with the one that stopped it */
  async generate(
    prompts: readonly DecoderPrompt[],
    parameters: Feeds,
    settings: GenerationSettings,
  ): Promise<number[][]> {
    const answers: number[][] = prompts.map(() => []);
    const growing = { prompts, answers, parameters, settings };
    const state = decodingOf(prompts);
    let { logits, cache } = await this.#prefill(growing, state);
    for (let made = 1; ; made++) {
      for (const [b, answer] of answers.entries())
        if (!isStopped(answer, settings)) answer.push(await this.#next(required(logits[b], "logits"), b, growing));
      if (made >= settings.maxNewTokens || answers.every((answer) => isStopped(answer, settings))) return answers;
      const tokens = answers.map((answer) => required(answer.at(-1), "token")); // a stopped answer's last one again
      const feeds = { ...nextTokenFeeds(this.#checkpoint.architecture, tokens, state, made - 1), ...cache };
      ({ logits, cache } = this.#stepOf(await this.#session.run({ ...feeds, ...parameters })));
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
    const feeds = promptFeeds(this.#checkpoint.architecture, [prompt], decodingOf([prompt]), 0);
    const outputs = await this.#session.run({ ...feeds, ...parameters, logit_rows: ints(rows, [rows.length]) }, [
      "logits",
    ]);
    return required(outputs.logits, "logits").data as Float32Array;
  }

  async #prefill({ prompts, parameters, settings }: Growing, state: Decoding): Promise<Step> {
    const lastRows = Int32Array.from(state.lengths, (length, b) => b * state.promptLength + length - 1);
    const feeds = {
      ...promptFeeds(this.#checkpoint.architecture, prompts, state, settings.padId),
      ...parameters,
      logit_rows: ints(lastRows, [lastRows.length]),
    };
    return this.#stepOf(await this.#session.run(feeds));
  }

  /** A choice that noise could turn is settled by the whole sequence computed anew and alone, whatever the batch was. */
  async #next(logits: Float32Array, b: number, { prompts, answers, parameters, settings }: Growing): Promise<number> {
    const prompt = required(prompts[b], "prompt");
    const answer = required(answers[b], "answer");
    const sampling = settings.sampling ?? null;
    const draw = sampling ? drawOf(sampling.seed, prompt.id, answer.length) : 0;
    const choose = (from: Float32Array): Choice => chooseToken(from, sampling, draw);
    const choice = choose(logits);
    if (choice.isClear) return choice.token;
    const whole = continued(prompt, answer);
    return choose(await this.#logitsAlone(whole, Int32Array.of(whole.inputIds.length - 1), parameters)).token;
  }

  #stepOf(outputs: Readonly<Record<string, HostTensor>>): Step {
    const cache: Record<string, HostTensor> = {};
    for (let layer = 0; layer < this.#checkpoint.architecture.text.layers; layer++) {
      const names = cacheNames(layer);
      cache[names.pastKey] = required(outputs[names.key], names.key);
      cache[names.pastValue] = required(outputs[names.value], names.value);
    }
    return { logits: rowsOf(required(outputs.logits, "logits")), cache };
  }
}

const isStopped = (answer: readonly number[], { stopIds }: GenerationSettings): boolean =>
  stopIds.includes(answer.at(-1) ?? -1);

/** Views of the rows of a matrix. */
function rowsOf({ data, dims: [rows = 0, width = 0] }: HostTensor): Float32Array[] {
  return Array.from({ length: rows }, (_, row) => (data as Float32Array).subarray(row * width, (row + 1) * width));
}
