/** Attention over caches, what it is asked, and what it should answer, in double precision. */
import assert from "node:assert/strict";
import { builderOf } from "../../src/graph/builder.ts";
import { HIDDEN } from "../../src/graph/cachedAttention.ts";
import { Graph } from "../../src/graph/graph.ts";
import { encodeOnnx } from "../../src/graph/onnx.ts";
import type { Target } from "../../src/graph/writer.ts";
import type { Device } from "../../src/runtime/device.ts";
import { openSession } from "../../src/runtime/session.ts";
import { floats, type HostTensor } from "../../src/runtime/tensor.ts";
import { required } from "../../src/utils/errors.ts";
import { randomFrom } from "../../src/utils/random.ts";

const [HEADS, KV_HEADS, HEAD_DIM] = [6, 2, 8];
const GROUP = HEADS / KV_HEADS;

export interface Case {
  /** Tokens in the cache, by row. */
  readonly cached: readonly number[];
  /** Places of the cache: S. */
  readonly places: number;
  /** New tokens: T. */
  readonly tokens: number;
}

export interface Arrays {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly pastKey: Float32Array;
  readonly pastValue: Float32Array;
}

export function arraysOf({ cached, places, tokens }: Case): Arrays {
  const random = randomFrom("attention", cached.join(), places, tokens);
  const normal = (count: number): Float32Array => Float32Array.from({ length: count }, () => random.normal());
  const rows = cached.length * tokens;
  const past = cached.length * KV_HEADS * places * HEAD_DIM;
  return {
    q: normal(rows * HEADS * HEAD_DIM),
    k: normal(rows * KV_HEADS * HEAD_DIM),
    v: normal(rows * KV_HEADS * HEAD_DIM),
    pastKey: normal(past), // numbers behind a row's tokens too: what other rows have left there
    pastValue: normal(past),
  };
}

/** softmax(q k^T / sqrt(Dh)) v for one query over the keys it sees, all in double. */
function mixed(q: readonly number[], keys: readonly number[][], values: readonly number[][]): number[] {
  const scores = keys.map((key) => key.reduce((sum, x, d) => sum + x * (q[d] ?? 0), 0) / Math.sqrt(HEAD_DIM));
  const largest = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - largest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return q.map((_, d) => values.reduce((sum, value, i) => sum + ((weights[i] ?? 0) / total) * (value[d] ?? 0), 0));
}

const slice = (data: Float32Array, index: number): number[] => [
  ...data.subarray(index * HEAD_DIM, (index + 1) * HEAD_DIM),
];

/** [B, T, H*Dh], row after row. */
function expectedOf({ cached, places, tokens }: Case, { q, k, v, pastKey, pastValue }: Arrays): number[] {
  return cached.flatMap((length, b) =>
    Array.from({ length: tokens }, (_, t) =>
      Array.from({ length: HEADS }, (__, head) => {
        const shared = Math.floor(head / GROUP);
        const seen = (past: Float32Array, now: Float32Array): number[][] => [
          ...Array.from({ length }, (___, s) => slice(past, (b * KV_HEADS + shared) * places + s)),
          ...Array.from({ length: t + 1 }, (___, s) => slice(now, (b * tokens + s) * KV_HEADS + shared)),
        ];
        return mixed(slice(q, (b * tokens + t) * HEADS + head), seen(pastKey, k), seen(pastValue, v));
      }).flat(),
    ).flat(),
  );
}

export function attentionGraph(): Graph {
  const graph = new Graph("attention");
  const width = (heads: number): number => heads * HEAD_DIM;
  const input = (name: string, ...shape: (string | number)[]) => graph.input(name, "float32", shape);
  const [q, k, v] = [
    input("q", "B", "T", width(HEADS)),
    input("k", "B", "T", width(KV_HEADS)),
    input("v", "B", "T", width(KV_HEADS)),
  ] as const;
  const [pastKey, pastValue] = [
    input("pastKey", "B", KV_HEADS, "S", HEAD_DIM),
    input("pastValue", "B", KV_HEADS, "S", HEAD_DIM),
  ] as const;
  const bias = input("bias", "B", "S");
  graph.output("y", builderOf(graph).cachedAttention(q, k, v, pastKey, pastValue, bias));
  return graph;
}

export function feedsOf(
  { cached, places, tokens }: Case,
  { q, k, v, pastKey, pastValue }: Arrays,
): Record<string, HostTensor> {
  const batch = cached.length;
  const bias = cached.flatMap((length) => Array.from({ length: places }, (_, s) => (s < length ? 0 : HIDDEN)));
  const past = [batch, KV_HEADS, places, HEAD_DIM];
  return {
    q: floats(q, [batch, tokens, HEADS * HEAD_DIM]),
    k: floats(k, [batch, tokens, KV_HEADS * HEAD_DIM]),
    v: floats(v, [batch, tokens, KV_HEADS * HEAD_DIM]),
    pastKey: floats(pastKey, past),
    pastValue: floats(pastValue, past),
    bias: floats(Float32Array.from(bias), [batch, places]),
  };
}

export const CASES: Readonly<Record<string, Case>> = {
  "a prompt": { cached: [0, 0], places: 0, tokens: 5 },
  "a prompt of one token": { cached: [0], places: 0, tokens: 1 },
  "one token behind caches of unequal length": { cached: [7, 3, 1], places: 9, tokens: 1 },
  "several tokens behind a cache": { cached: [4, 2], places: 4, tokens: 3 },
};

export const caseNamed = (name: string): Case => required(CASES[name], name);

export async function checkCase(one: Case, { target, device }: { target: Target; device: Device }, tolerance: number) {
  const arrays = arraysOf(one);
  const session = await openSession(encodeOnnx(attentionGraph(), target), { device });
  const { data, dims } = required((await session.run(feedsOf(one, arrays))).y, "y");
  await session.release();
  const expected = expectedOf(one, arrays);
  assert.deepEqual(dims, [one.cached.length, one.tokens, HEADS * HEAD_DIM]);
  const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (data[i] as number))), 0);
  assert.ok(worst <= tolerance, `largest difference ${worst}`);
}
