/** Greedy decoding of a batch of prompts with a key-value cache. */
import { encodeOnnx } from "../graph/onnx.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import { featureFeeds, type PictureFeatures } from "../model/feeds.ts";
import { cacheNames, decoderGraph } from "../model/graphs.ts";
import { HIDDEN, type Trainables } from "../model/layers.ts";
import type { Device } from "../runtime/device.ts";
import { openSession, type Session } from "../runtime/session.ts";
import { type Feeds, floats, type HostTensor, ints } from "../runtime/tensor.ts";
import { required, UserError } from "../utils/errors.ts";

/** One prompt, not padded. */
export interface DecoderPrompt {
  readonly inputIds: Int32Array; // [T]
  readonly positionIds: Int32Array; // [3*T]
  readonly imageRows: Int32Array; // [M] places of the image tokens
  readonly pictures: readonly PictureFeatures[];
}

export interface GenerationSettings {
  readonly maxNewTokens: number;
  /** Tokens that end an answer; the one that ended it is part of the result. */
  readonly stopIds: readonly number[];
  readonly padId: number;
}

/** What is known of the sequences while they grow. */
interface Decoding {
  /** Prompt lengths; cached places from a prompt's end to the longest prompt's hold padding and stay hidden. */
  readonly lengths: readonly number[];
  readonly promptLength: number;
  /** Position of the next token, the same for time, height and width: [B] */
  readonly nextPositions: readonly number[];
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
    return new Generator(
      checkpoint,
      await openSession(encodeOnnx(graph), { device, weightsDir: checkpoint.dir }),
      trainable,
    );
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
    const state = decodingOf(prompts);
    let { tokens, cache } = await this.#prefill(prompts, state, parameters, settings);
    for (let made = 1; ; made++) {
      const isDone = answers.map((answer, b) => {
        if (!isStopped(answer, settings)) answer.push(required(tokens[b], "token"));
        return isStopped(answer, settings);
      });
      if (made >= settings.maxNewTokens || isDone.every(Boolean)) return answers;
      ({ tokens, cache } = await this.#decode(tokens, made - 1, state, { parameters, cache }));
    }
  }

  /** Logits of every token of one prompt [T, V]. */
  async logits(prompt: DecoderPrompt, parameters: Feeds): Promise<Float32Array> {
    const rows = prompt.inputIds.map((_, row) => row);
    const outputs = await this.#session.run(
      { ...this.#promptFeeds([prompt], decodingOf([prompt]), 0), ...parameters, logit_rows: ints(rows, [rows.length]) },
      ["logits"],
    );
    return required(outputs.logits, "logits").data as Float32Array;
  }

  release(): Promise<void> {
    return this.#session.release();
  }

  async #prefill(
    prompts: readonly DecoderPrompt[],
    state: Decoding,
    parameters: Feeds,
    { padId }: GenerationSettings,
  ): Promise<{ tokens: number[]; cache: Feeds }> {
    const lastRows = Int32Array.from(state.lengths, (length, b) => b * state.promptLength + length - 1);
    const feeds = {
      ...this.#promptFeeds(prompts, state, padId),
      ...parameters,
      logit_rows: ints(lastRows, [lastRows.length]),
    };
    return this.#next(await this.#session.run(feeds));
  }

  #promptFeeds(prompts: readonly DecoderPrompt[], { lengths, promptLength }: Decoding, padId: number): Feeds {
    const batch = prompts.length;
    const inputIds = new Int32Array(batch * promptLength).fill(padId);
    const positionIds = new Int32Array(3 * batch * promptLength);
    prompts.forEach((prompt, b) => {
      inputIds.set(prompt.inputIds, b * promptLength);
      for (let axis = 0; axis < 3; axis++) {
        const length = prompt.inputIds.length;
        positionIds.set(
          prompt.positionIds.subarray(axis * length, (axis + 1) * length),
          (axis * batch + b) * promptLength,
        );
      }
    });
    const imageRows = Int32Array.from(
      prompts.flatMap((prompt, b) => [...prompt.imageRows].map((row) => b * promptLength + row)),
    );
    return {
      input_ids: ints(inputIds, [batch, promptLength]),
      position_ids: ints(positionIds, [3, batch, promptLength]),
      attention_bias: promptBias(lengths, promptLength),
      image_rows: ints(imageRows, [imageRows.length]),
      ...featureFeeds(
        this.#checkpoint.architecture,
        prompts.flatMap((prompt) => prompt.pictures),
      ),
      ...this.#emptyCache(batch),
    };
  }

  #emptyCache(batch: number): Feeds {
    const { layers, kvHeads, headDim } = this.#checkpoint.architecture.text;
    const none = (): HostTensor => floats(new Float32Array(0), [batch, kvHeads, 0, headDim]);
    return Object.fromEntries(
      Array.from({ length: layers }, (_, layer) => cacheNames(layer)).flatMap(({ pastKey, pastValue }) => [
        [pastKey, none()],
        [pastValue, none()],
      ]),
    );
  }

  /** @param made tokens already in the cache behind the prompts */
  async #decode(
    tokens: readonly number[],
    made: number,
    state: Decoding,
    { parameters, cache }: { parameters: Feeds; cache: Feeds },
  ): Promise<{ tokens: number[]; cache: Feeds }> {
    const batch = tokens.length;
    const positions = Int32Array.from({ length: 3 * batch }, (_, i) => (state.nextPositions[i % batch] ?? 0) + made);
    return this.#next(
      await this.#session.run({
        input_ids: ints(Int32Array.from(tokens), [batch, 1]),
        position_ids: ints(positions, [3, batch, 1]),
        attention_bias: decodeBias(state, made),
        image_rows: ints(new Int32Array(0), [0]),
        logit_rows: ints(
          Int32Array.from(tokens, (_, b) => b),
          [batch],
        ),
        ...featureFeeds(this.#checkpoint.architecture, []),
        ...cache,
        ...parameters,
      }),
    );
  }

  #next(outputs: Readonly<Record<string, HostTensor>>): { tokens: number[]; cache: Feeds } {
    const cache: Record<string, HostTensor> = {};
    for (let layer = 0; layer < this.#checkpoint.architecture.text.layers; layer++) {
      const names = cacheNames(layer);
      cache[names.pastKey] = required(outputs[names.key], names.key);
      cache[names.pastValue] = required(outputs[names.value], names.value);
    }
    return { tokens: argmaxRows(required(outputs.logits, "logits")), cache };
  }
}

const isStopped = (answer: readonly number[], { stopIds }: GenerationSettings): boolean =>
  stopIds.includes(answer.at(-1) ?? -1);

function decodingOf(prompts: readonly DecoderPrompt[]): Decoding {
  const lengths = prompts.map(({ inputIds }) => inputIds.length);
  const nextPositions = prompts.map(
    ({ positionIds }) => positionIds.reduce((max, position) => Math.max(max, position), 0) + 1,
  );
  return { lengths, nextPositions, promptLength: Math.max(...lengths) };
}

/** [B, 1, 1, T, T]: each token sees itself and what stands before it; padding behind a prompt is seen by padding alone. */
function promptBias(lengths: readonly number[], promptLength: number): HostTensor {
  const bias = new Float32Array(lengths.length * promptLength ** 2).fill(HIDDEN);
  for (let b = 0; b < lengths.length; b++) {
    for (let t = 0; t < promptLength; t++) {
      const row = (b * promptLength + t) * promptLength;
      bias.fill(0, row, row + t + 1);
    }
  }
  return floats(bias, [lengths.length, 1, 1, promptLength, promptLength]);
}

/** [B, 1, 1, 1, S+1]: the new token sees its prompt, the tokens made so far and itself. */
function decodeBias({ lengths, promptLength }: Decoding, made: number): HostTensor {
  const total = promptLength + made + 1;
  const bias = new Float32Array(lengths.length * total);
  lengths.forEach((length, b) => {
    bias.fill(HIDDEN, b * total + length, b * total + promptLength);
  });
  return floats(bias, [lengths.length, 1, 1, 1, total]);
}

/** The first largest of each row, as torch.argmax takes it. @throws UserError where a row holds NaN: no token is the answer then */
function argmaxRows({ data, dims }: HostTensor): number[] {
  const [rows = 0, width = 0] = dims;
  return Array.from({ length: rows }, (_, row) => {
    let best = row * width;
    for (let i = best; i < (row + 1) * width; i++) {
      const logit = data[i] as number;
      if (Number.isNaN(logit))
        throw new UserError("the model's logits are not numbers: its weights or the adapter's are damaged");
      if (logit > (data[best] as number)) best = i;
    }
    return best - row * width;
  });
}
