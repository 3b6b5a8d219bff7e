/**
 * Attention in blocks of queries: no more than the scores of one block are in memory at once, and a causal model leaves out
 * the keys behind a block. Of the scores nothing is kept where memory counts: the gradient computes those of each block anew,
 * from last to first.
 */
import { type Builder, builderOf } from "../graph/builder.ts";
import { type Dim, divDims, mulDims } from "../graph/dim.ts";
import type { Value } from "../graph/graph.ts";
import { required } from "../utils/errors.ts";

export interface BlockedAttention {
  readonly q: Value; // [B, K, G, T, Dh], G query heads to a key head
  readonly k: Value; // [B, K, T, Dh]
  readonly v: Value; // [B, K, T, Dh]
  readonly scale: number;
  readonly blocks: Blocks;
}

/** n blocks of T/n queries each. */
export interface Blocks {
  readonly count: number;
  /** No query sees a later key. */
  readonly isCausal: boolean;
  /** What queries take of keys, softmax(scores), is kept for the gradient. */
  readonly keepsShares: boolean;
  /** Added to the scores of each block, [.., T/n, keys]; null where every key is seen. */
  readonly biases: readonly Value[] | null;
}

/** @param of.bias added to scores: [.., T, T], or null  @returns null for one block */
export function cutInto(
  ops: Builder,
  count: number,
  { bias, ...of }: Omit<Blocks, "count" | "biases"> & { bias: Value | null },
): Blocks | null {
  if (count === 1) return null;
  return { count, ...of, biases: bias && biasesOf(ops, bias, { count, ...of }) };
}

function biasesOf(ops: Builder, bias: Value, { count, isCausal }: Omit<Blocks, "biases">): Value[] {
  const keysAt = bias.shape.length - 1;
  const rows = inParts(ops, bias, keysAt - 1, count);
  return Array.from({ length: count }, (_, i) => {
    const own = rows(i, i + 1);
    return isCausal ? inParts(ops, own, keysAt, count)(0, i + 1) : own;
  });
}

/** softmax(scale q k^T + bias) v: [B, K, G, T, Dh] */
export function blockedAttention(ops: Builder, of: BlockedAttention): Value {
  const { q, k, v, blocks } = of;
  return ops.graph.byRule(() => {
    const cut = cutsOf(ops, of);
    const parts = Array.from({ length: blocks.count }, (_, i) => {
      const { v: values, ...seen } = cut.keys(i);
      const p = shares(ops, of, { q: cut.queries(i), ...seen });
      return { p, mixed: inGroups(ops, ops.matMul(p, values), of) };
    });
    const output = ops.concat(
      parts.map(({ mixed }) => mixed),
      3,
    );
    const kept = blocks.keepsShares ? parts.map(({ p }) => p) : null;
    return {
      inputs: [q, k, v],
      output,
      gradient: (grad, stand) => gradient(builderOf(ops.graph, stand), of, { output, grad, kept }),
    };
  });
}

/** What a block sees. */
interface Seen {
  readonly k: Value; // [B, K, keys, Dh]
  readonly v: Value;
  readonly bias: Value | null;
}

function cutsOf(
  ops: Builder,
  { q, k, v, blocks: { count, isCausal, biases } }: BlockedAttention,
): { queries: (i: number) => Value; keys: (i: number) => Seen } {
  const [queries, keys, values] = [queryParts(ops, q, count), inParts(ops, k, 2, count), inParts(ops, v, 2, count)];
  const seen = (i: number): [number, number] => [0, isCausal ? i + 1 : count];
  return {
    queries,
    keys: (i) => ({ k: keys(...seen(i)), v: values(...seen(i)), bias: biases && required(biases[i], `bias ${i}`) }),
  };
}

/** softmax(scale q k^T + bias): [B, K, G*T/n, keys] */
function shares(ops: Builder, of: BlockedAttention, { q, k, bias }: Omit<Seen, "v"> & { q: Value }): Value {
  const scores = ops.matMul(q, k, { transB: true, alpha: of.scale });
  return ops.softmax(bias ? ops.reshape(ops.add(inGroups(ops, scores, of), bias), scores.shape) : scores);
}

/** With p = shares, o = p v and g = do: dv = p^T g, ds = p (g v^T - sum(g o)), dq = scale ds k, dk = scale ds^T q */
function gradient(
  ops: Builder,
  of: BlockedAttention,
  { output, grad, kept }: { output: Value; grad: Value; kept: readonly Value[] | null },
): readonly Value[] {
  const { scale, blocks } = of;
  const cut = cutsOf(ops, of);
  const grads = queryParts(ops, grad, blocks.count);
  const inner = queryParts(ops, ops.reduceSum(ops.mul(grad, output), [4], true), blocks.count);
  const dq: Value[] = [];
  const [dk, dv] = [new KeySums(ops, blocks), new KeySums(ops, blocks)];
  let known = [grad];
  for (let i = blocks.count - 1; i >= 0; i--) {
    const [q, g, { v, ...seen }] = [ops.after(cut.queries(i), known), grads(i), cut.keys(i)];
    const p = kept?.[i] ?? shares(ops, of, { q, ...seen });
    dv.add(ops.matMul(p, g, { transA: true }));
    const ds = ops.mul(p, ops.sub(ops.matMul(g, v, { transB: true }), inner(i)));
    dq.unshift(inGroups(ops, ops.matMul(ds, seen.k, { alpha: scale }), of));
    dk.add(ops.matMul(ds, q, { transA: true, alpha: scale }));
    known = [dk.sum, dv.sum, required(dq[0], "dq")]; // the next block begins when this one is done
  }
  return [ops.concat(dq, 3), dk.whole(), dv.whole()];
}

/** Gradients of keys, block after block from the last: in a causal model each block sees one part less, and that part is done. */
class KeySums {
  readonly #ops: Builder;
  readonly #blocks: Omit<Blocks, "biases">;
  #sum: Value | null = null;
  readonly #done: Value[] = [];

  constructor(ops: Builder, blocks: Omit<Blocks, "biases">) {
    this.#ops = ops;
    this.#blocks = blocks;
  }

  get sum(): Value {
    return required(this.#sum, "a sum of blocks");
  }

  add(addend: Value): void {
    this.#sum = this.#sum ? this.#ops.add(this.#rest(this.#sum), addend) : addend;
  }

  whole(): Value {
    return this.#done.length === 0 ? this.sum : this.#ops.concat([this.sum, ...this.#done], 2);
  }

  #rest(sum: Value): Value {
    const { count, isCausal } = this.#blocks;
    if (!isCausal) return sum;
    const parts = count - this.#done.length;
    const one = divDims(sum.shape[2] as Dim, parts);
    const [rest, last] = this.#ops.splitAt(sum, 2, [mulDims(parts - 1, one), one]);
    this.#done.unshift(last);
    return rest;
  }
}

/** [B, K, G*X, Y] -> [B, K, G, X, Y] */
function inGroups(ops: Builder, x: Value, { q }: BlockedAttention): Value {
  const [batch, kvHeads, rows, width] = x.shape as readonly [Dim, Dim, Dim, Dim];
  const group = q.shape[2] as Dim;
  return ops.reshape(x, [batch, kvHeads, group, divDims(rows, group), width]);
}

/** Blocks of queries, the heads of a group below each other so that no key is copied: x [B, K, G, T, Y], i -> [B, K, G*T/n, Y] */
function queryParts(ops: Builder, x: Value, count: number): (i: number) => Value {
  const [batch, kvHeads, group, length, width] = x.shape as readonly [Dim, Dim, Dim, Dim, Dim];
  const block = divDims(length, count);
  const split = ops.reshape(x, [batch, kvHeads, group, count, block, width]);
  return (i) => ops.reshape(ops.slice(split, 3, i, i + 1), [batch, kvHeads, mulDims(group, block), width]);
}

/** Parts `from` to `to` of the `count` equal parts of an axis. */
function inParts(ops: Builder, x: Value, axis: number, count: number): (from: number, to: number) => Value {
  const length = divDims(x.shape[axis] as Dim, count);
  const [before, behind] = [x.shape.slice(0, axis), x.shape.slice(axis + 1)];
  const split = ops.reshape(x, [...before, count, length, ...behind]);
  return (from, to) =>
    to - from === count
      ? x
      : ops.reshape(ops.slice(split, axis, from, to), [...before, mulDims(to - from, length), ...behind]);
}
