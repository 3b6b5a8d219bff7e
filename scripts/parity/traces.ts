/** The trainer itself, run along each training trace of the reference: losses, gradient norms, and the adapter it ends with. */
import type { LossNormalization } from "../../src/train/loss.ts";
import { type StepReport, type TrainerOptions, trainSteps } from "../../src/train/trainer.ts";
import { Comparison, shareAbove } from "./comparison.ts";
import type { Golden, TraceRow } from "./golden.ts";
import { addAll, type Prepared, type Results, sourceOf, withEngine } from "./subjects.ts";

interface TraceSpec {
  readonly trainable: "lora" | "full";
  readonly normalization: LossNormalization;
  readonly weightDecay: number;
  readonly options: Pick<TrainerOptions, "accumulation" | "schedule">;
}

const LORA_TRACE = {
  trainable: "lora",
  weightDecay: 0.01,
  options: { accumulation: 4, schedule: { kind: "linear", peak: 1e-3, warmupSteps: 2, totalSteps: 6 } },
} as const;
const TRACES: Readonly<Record<keyof Golden["traces"], TraceSpec>> = {
  token: { ...LORA_TRACE, normalization: "token" },
  "microbatch-mean": { ...LORA_TRACE, normalization: "microbatch-mean" },
  full: {
    trainable: "full",
    normalization: "token",
    weightDecay: 0,
    options: { accumulation: 2, schedule: { kind: "constant", peak: 1e-4, warmupSteps: 0, totalSteps: 3 } },
  },
};

/** Runs the trainer itself along each reference trace. */
export async function compareTraces(prepared: Prepared): Promise<Results> {
  const results: Results = {};
  for (const [name, spec] of Object.entries(TRACES) as [keyof typeof TRACES, TraceSpec][])
    Object.assign(results, await compareTrace(prepared, name, spec));
  return results;
}

function compareTrace(prepared: Prepared, name: keyof Golden["traces"], spec: TraceSpec): Promise<Results> {
  return withEngine(prepared, spec.trainable, { ...spec, rotaryDtype: "float32" }, async (engine) => {
    if (spec.trainable === "lora") await engine.setValues(prepared.adapter);
    const plan = {
      rows: prepared.encoded.length,
      batchSize: 1,
      shuffle: false,
      seed: 0,
      lossNormalization: spec.normalization,
      ...spec.options,
    };
    const rows: StepReport[] = [];
    for await (const report of trainSteps(engine, sourceOf(prepared, engine, spec.trainable === "full"), plan))
      rows.push(report);
    const expected: readonly TraceRow[] = prepared.golden.traces[name];
    const loss = new Comparison({ kind: "relative", limit: 1e-5 }).add(
      "step",
      rows.map((row) => row.loss),
      expected.map((row) => row.loss),
    );
    const norm = new Comparison({ kind: "relative", limit: 1e-4 }).add(
      "step",
      rows.map((row) => row.gradNorm),
      expected.map((row) => row.grad_norm),
    );
    const results: Results = { [`trace_${name}_loss`]: loss.result(), [`trace_${name}_grad_norm`]: norm.result() };
    if (spec.trainable === "lora")
      Object.assign(results, compareAdapters(prepared, name, (await engine.state()).values));
    return results;
  });
}

/** 99.9 % of the elements within 1e-5, all within 2e-4: Adam turns the sign of a gradient near zero into a whole step. */
function compareAdapters({ golden }: Prepared, trace: string, got: ReadonlyMap<string, Float32Array>): Results {
  const expected = golden.tensors(`trained.${trace === "token" ? "token" : "microbatch-mean"}.`);
  const all = addAll(new Comparison({ kind: "absolute", limit: 2e-4 }), got, expected).result();
  const share = shareAbove(
    [...expected].map(([name, values]) => [got.get(name) ?? [], values] as const),
    1e-5,
  );
  return {
    [`trace_${trace}_adapter`]: all,
    [`trace_${trace}_adapter_share_above_1e-5`]: new Comparison({ kind: "absolute", limit: 1e-3 })
      .add("share", [share], [0])
      .result(),
  };
}
