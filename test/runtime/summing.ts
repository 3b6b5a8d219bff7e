// In a thread: one rank of a collective, for the tests of it.
import { parentPort, workerData } from "node:worker_threads";
import { SharedCollective, type SharedMemory } from "../../src/runtime/collective.ts";
import { serve } from "../../src/runtime/thread.ts";
import { required } from "../../src/utils/errors.ts";

const { memory, rank } = (workerData as { data: { memory: SharedMemory; rank: number } }).data;

export class Rank {
  readonly #collective = new SharedCollective(memory, rank);

  /** Sums and broadcasts one after another, as updates and resumed states do. */
  async inTurn(sums: readonly Float64Array[], broadcasts: readonly Float32Array[]) {
    for (const [i, vector] of sums.entries()) {
      await this.#collective.sum(vector);
      const other = broadcasts[i];
      if (other) await this.#collective.broadcast(other);
    }
    return { sums, broadcasts };
  }

  end(): void {
    process.exit(3);
  }
}

serve(required(parentPort, "the parent's port"), () => new Rank());
