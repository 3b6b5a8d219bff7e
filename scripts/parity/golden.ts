/** A folder of reference numbers, as test/fixtures/tiny-qwen3vl/README.md describes it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../src/utils/errors.ts";
import { readFloat32, readHeader, type TensorEntry } from "../../src/utils/safetensors.ts";

export interface GoldenSample {
  readonly input_ids: readonly number[];
  readonly labels_official: readonly number[];
  readonly labels_pigg: readonly number[];
  readonly position_ids: readonly (readonly number[])[];
  readonly image_grid_thw: readonly (readonly number[])[] | null;
  readonly loss: number;
  readonly prompt_ids: readonly number[];
  readonly greedy: readonly number[];
}

export interface TraceRow {
  readonly step: number;
  readonly loss: number;
  readonly grad_norm: number;
}

export interface Golden {
  readonly dir: string;
  readonly modelDir: string;
  readonly dataFile: string;
  readonly adapterDir: string;
  readonly samples: readonly GoldenSample[];
  readonly lora: {
    readonly r: number;
    readonly alpha: number;
    readonly losses: readonly number[];
    readonly greedy0: readonly number[];
  };
  readonly traces: {
    readonly token: readonly TraceRow[];
    readonly "microbatch-mean": readonly TraceRow[];
    readonly full: readonly TraceRow[];
  };
  tensor(name: string): Float32Array;
  /** Tensors whose name starts with `prefix`, the prefix taken off. */
  tensors(prefix: string): ReadonlyMap<string, Float32Array>;
}

export function readGolden(dir: string): Golden {
  let json: {
    samples: GoldenSample[];
    lora: Golden["lora"];
    trace_token: TraceRow[];
    trace_microbatch_mean: TraceRow[];
    trace_full: TraceRow[];
  };
  try {
    json = JSON.parse(readFileSync(join(dir, "golden.json"), "utf8"));
  } catch (cause) {
    throw new UserError(
      `${dir}: no reference numbers here; expected a folder with golden.json, golden.safetensors, model/, data/ and adapter_init/`,
      { cause },
    );
  }
  const { tensors } = readHeader(join(dir, "golden.safetensors"));
  const read = (name: string): Float32Array => {
    const entry = tensors.get(name);
    if (!entry) throw new UserError(`${join(dir, "golden.safetensors")}: lacks "${name}"`);
    return readFloat32(entry as TensorEntry);
  };
  return {
    dir,
    modelDir: join(dir, "model"),
    dataFile: join(dir, "data", "train.jsonl"),
    adapterDir: join(dir, "adapter_init"),
    samples: json.samples,
    lora: json.lora,
    traces: { token: json.trace_token, "microbatch-mean": json.trace_microbatch_mean, full: json.trace_full },
    tensor: read,
    tensors: (prefix) =>
      new Map(
        [...tensors.keys()]
          .filter((name) => name.startsWith(prefix))
          .map((name) => [name.slice(prefix.length), read(name)]),
      ),
  };
}
