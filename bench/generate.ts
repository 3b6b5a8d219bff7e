/**
 * Tokens a second of answering: prompts read (prefill) and answers written (decode), on synthetic tokens.
 *
 *   npx tsx bench/generate.ts --model DIR --prompt-tokens 512 --new-tokens 32 --batch 1 [--base-quant int8] --json
 *
 * Prints {"prefill", "decode", "peak_gb", ...} in tokens a second over the whole batch, medians of the runs after the first.
 * A run of one new token is the prefill; what a run of more takes beyond it is decode. `--adapters N` gives the prompts LoRA
 * adapters (r=4, the seven projections) of N users in turn. bench/hf_generate.py is its counterpart, without adapters.
 */
import yargs from "yargs";
import { type RemoteEngine, startEngine } from "../src/engine/start.ts";
import type { DecoderPrompt } from "../src/eval/decoding.ts";
import { openCheckpoint } from "../src/model/checkpoint.ts";
import { LLM_PROJECTIONS } from "../src/model/lora.ts";
import { KINDS, type QuantKind } from "../src/model/quantised/matrix.ts";
import { quantisedFiles } from "../src/model/quantised/store.ts";
import { CPU } from "../src/runtime/device.ts";
import { UserError } from "../src/utils/errors.ts";
import { randomFrom } from "../src/utils/random.ts";
import { elementCount } from "../src/utils/safetensors.ts";

interface Arguments {
  readonly model: string;
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly batch: number;
  readonly runs: number;
  readonly adapters: number;
  readonly baseQuant: QuantKind | null;
  readonly json: boolean;
}

function parseArguments(argv: readonly string[]): Arguments {
  const parsed = yargs([...argv])
    .strict()
    .option("model", { type: "string", demandOption: true, describe: "checkpoint folder" })
    .option("prompt-tokens", { type: "number", default: 512, describe: "tokens of each prompt" })
    .option("new-tokens", { type: "number", default: 32, describe: "tokens of each answer, at least 2" })
    .option("batch", { type: "number", default: 1, describe: "prompts answered together" })
    .option("runs", { type: "number", default: 5, describe: "runs to time" })
    .option("adapters", { type: "number", default: 0, describe: "users whose adapters answer side by side" })
    .option("base-quant", { choices: KINDS, describe: "quantised base weights" })
    .option("json", { type: "boolean", default: false, describe: "one line of JSON" })
    .fail((message, error) => {
      throw error ?? new UserError(`bench/generate: ${message}`);
    })
    .parseSync();
  if (parsed.newTokens < 2) throw new UserError("--new-tokens: expected at least 2, the first belongs to the prefill");
  return { ...parsed, baseQuant: parsed.baseQuant ?? null };
}

function syntheticPrompts(modelDir: string, { batch, promptTokens }: Arguments): DecoderPrompt[] {
  const { architecture } = openCheckpoint(modelDir);
  const random = randomFrom("bench");
  return Array.from({ length: batch }, (_, b) => ({
    id: `synthetic ${b}`,
    inputIds: Int32Array.from({ length: promptTokens }, () => random.below(architecture.imageTokenId - 10)),
    positionIds: Int32Array.from({ length: 3 * promptTokens }, (__, i) => i % promptTokens),
    imageRows: new Int32Array(0),
    pictures: [],
  }));
}

/** Names of adapters that add zeros: what is computed does not depend on it. */
async function setAdapters(engine: RemoteEngine, { batch, adapters }: Arguments): Promise<(string | null)[]> {
  const sizes = [...(await engine.trainableShapes())].map(([name, shape]) => [name, elementCount(shape)] as const);
  for (let user = 0; user < adapters; user++)
    await engine.setParameters(`${user}`, new Map(sizes.map(([name, size]) => [name, new Float32Array(size)])));
  return Array.from({ length: batch }, (_, b) => (adapters === 0 ? null : `${b % adapters}`));
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const rounded = (value: number): number => Math.round(value * 100) / 100;

async function measure(engine: RemoteEngine, options: Arguments) {
  const { promptTokens, newTokens, batch, runs } = options;
  const prompts = syntheticPrompts(options.model, options);
  const sets = await setAdapters(engine, options);
  const secondsOf = async (maxNewTokens: number): Promise<number> => {
    const start = performance.now();
    await engine.generate(prompts, { maxNewTokens, stopIds: [], padId: 0 }, sets);
    return (performance.now() - start) / 1000;
  };
  await secondsOf(2); // opens the session and reads the weights
  const prefills: number[] = [];
  const decodes: number[] = [];
  for (let run = 0; run < runs; run++) {
    prefills.push(await secondsOf(1));
    decodes.push((await secondsOf(newTokens)) - (prefills.at(-1) ?? 0));
  }
  return {
    prefill: rounded((batch * promptTokens) / median(prefills)),
    decode: rounded((batch * (newTokens - 1)) / median(decodes)),
    peak_gb: rounded((await engine.peakMemory()) / 1e9),
    prompt_tokens: promptTokens,
    new_tokens: newTokens,
    batch,
  };
}

export async function main(argv: readonly string[]): Promise<void> {
  const options = parseArguments(argv);
  const parts = ["text", "head"] as const;
  const quantised =
    options.baseQuant && (await quantisedFiles(openCheckpoint(options.model), { kind: options.baseQuant, parts }));
  const settings = { r: 4, alpha: 32, dropout: 0, targetModules: [...LLM_PROJECTIONS] };
  const trainable = options.adapters > 0 ? ({ kind: "lora", settings } as const) : ({ kind: "none" } as const);
  const thread = startEngine({ modelDir: options.model, quantised, device: CPU, trainable });
  const result = await measure(thread.remote, options);
  await thread.stop();
  if (options.json) console.log(JSON.stringify(result));
  else for (const [name, value] of Object.entries(result)) console.log(`${name.padEnd(15)} ${value}`);
}

if (import.meta.filename === process.argv[1]) {
  main(process.argv.slice(2)).catch((error: unknown) => {
    console.error(error instanceof UserError ? error.message : error);
    process.exitCode = error instanceof UserError ? 2 : 1;
  });
}
