/** How the replicas of one run put their numbers together: what they ask for, and the answer of threads, which share memory. */
import { InternalError } from "../utils/errors.ts";

/**
 * The transport between the replicas of a run: here threads of one process; processes of a cluster would bring their own.
 *
 * - Every rank makes the same calls in the same order, with vectors of the same length. A call returns once the vector
 *   may be used, whatever the others still do.
 * - After a call every rank holds the same bits, and the same as in any other run with the same ranks: sums are taken in one
 *   fixed order, however the ranks are timed.
 * - Nobody waits for a rank that will not come: when one is lost, calls of the others under way and to come throw.
 */
export interface Collective {
  /** This replica's number, from 0. */
  readonly rank: number;
  /** How many replicas there are. */
  readonly size: number;
  /** vector := the sum of all ranks' vectors, in place. */
  sum(vector: Float64Array): Promise<void>;
  /** vector := that of rank 0, in place. */
  broadcast(vector: Float32Array): Promise<void>;
}

const done = Promise.resolve();

/** One replica: its sum is its own vector. */
export const ALONE: Collective = { rank: 0, size: 1, sum: () => done, broadcast: () => done };

/** Numbers that cross at a time: 2 MiB a rank, so that long vectors take no memory to cross. */
const CHUNK = 1 << 18;

/** Places in `control`. */
const [ARRIVED, ROUND, IS_BROKEN] = [0, 1, 2];

/** What the threads of a run share. Plain data: it crosses threads. */
export interface SharedMemory {
  readonly size: number;
  readonly control: Int32Array;
  /** [2, size, CHUNK]: while one half is read, the other may be written. */
  readonly scratch: Float64Array;
}

export const sharedMemory = (size: number): SharedMemory => ({
  size,
  control: new Int32Array(new SharedArrayBuffer(3 * Int32Array.BYTES_PER_ELEMENT)),
  scratch: new Float64Array(new SharedArrayBuffer(2 * size * CHUNK * Float64Array.BYTES_PER_ELEMENT)),
});

/** A rank is lost: whoever waits for it, or would, throws. May be called from any thread. */
export function breakOff({ control }: SharedMemory): void {
  Atomics.store(control, IS_BROKEN, 1);
  Atomics.add(control, ROUND, 1); // so that a thread about to wait does not
  Atomics.notify(control, ROUND);
}

/** Threads of one process. Calls block their thread, as a run of a session does. */
export class SharedCollective implements Collective {
  readonly rank: number;
  readonly size: number;
  readonly #control: Int32Array;
  readonly #scratch: Float64Array;
  #half = 0;

  constructor({ size, control, scratch }: SharedMemory, rank: number) {
    this.rank = rank;
    this.size = size;
    this.#control = control;
    this.#scratch = scratch;
  }

  async sum(vector: Float64Array): Promise<void> {
    for (let start = 0; start < vector.length; start += CHUNK) {
      const part = vector.subarray(start, start + CHUNK);
      const slots = this.#slots();
      slots[this.rank]?.set(part);
      this.#meet();
      const share = Math.ceil(part.length / this.size);
      addInOrder(slots, this.rank * share, Math.min(part.length, (this.rank + 1) * share));
      this.#meet();
      part.set(slots[0]?.subarray(0, part.length) ?? []);
    }
  }

  async broadcast(vector: Float32Array): Promise<void> {
    for (let start = 0; start < vector.length; start += CHUNK) {
      const part = vector.subarray(start, start + CHUNK);
      const [slot] = this.#slots();
      if (this.rank === 0) slot?.set(part);
      this.#meet();
      if (this.rank > 0) part.set(slot?.subarray(0, part.length) ?? []);
    }
  }

  /** Room of each rank. Whoever is given a half has met all others since they were done with it. */
  #slots(): Float64Array[] {
    const first = this.size * this.#half;
    this.#half = 1 - this.#half;
    return Array.from({ length: this.size }, (_, rank) =>
      this.#scratch.subarray((first + rank) * CHUNK, (first + rank + 1) * CHUNK),
    );
  }

  /** Returns when every rank has come here. */
  #meet(): void {
    const control = this.#control;
    const round = Atomics.load(control, ROUND);
    if (Atomics.load(control, IS_BROKEN) === 0) {
      if (Atomics.add(control, ARRIVED, 1) + 1 === this.size) {
        Atomics.store(control, ARRIVED, 0);
        Atomics.add(control, ROUND, 1);
        Atomics.notify(control, ROUND);
      } else while (Atomics.load(control, ROUND) === round) Atomics.wait(control, ROUND, round);
    }
    if (Atomics.load(control, IS_BROKEN) !== 0) throw new InternalError("another device of this run was lost");
  }
}

/** slots[0] := slots[0] + slots[1] + ..., elements [start, end). */
function addInOrder(
  [total = new Float64Array(), ...others]: readonly Float64Array[],
  start: number,
  end: number,
): void {
  for (const other of others) for (let i = start; i < end; i++) total[i] = (total[i] as number) + (other[i] as number);
}
