/** Writes one file of quantised matrices with all cores: each thread works out whole matrices and writes them in their places. */
import { open } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { startThread } from "../../runtime/thread.ts";
import { Interrupted } from "../../utils/errors.ts";
import { elementCount, headerBytes, type TensorEntry } from "../../utils/safetensors.ts";
import type { QuantKind, storedShapes } from "./matrix.ts";
import { Quantiser, type QuantiseTask } from "./quantiser.ts";

export interface MatrixToWrite {
  readonly entry: TensorEntry;
  readonly kind: QuantKind;
  readonly isForGradients: boolean;
  readonly stored: ReturnType<typeof storedShapes>;
}

export interface WriteOptions {
  readonly onProgress: (done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Below this many numbers, starting threads takes longer than the work. */
const WORTH_THREADS = 2 ** 24;

/** @throws when the disk is full, the folder cannot be written, or Interrupted; what is there then is of no use */
export async function writeInParallel(
  file: string,
  matrices: readonly MatrixToWrite[],
  options: WriteOptions,
): Promise<void> {
  const { header, tasks, size } = layOut(matrices);
  const handle = await open(file, "w");
  try {
    await handle.write(header);
    await handle.truncate(size);
    await runTasks(file, tasks, options);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Where everything goes; the largest matrices first, so that no thread is left alone with one at the end. */
function layOut(matrices: readonly MatrixToWrite[]) {
  const planned = (part: "scales" | "values" | "zeroPoints") =>
    matrices.flatMap(({ entry, stored }) => {
      const shape = stored[part];
      const dtype = part === "scales" ? ("F32" as const) : part === "values" ? stored.dtype : ("U8" as const);
      return shape ? [{ name: `${entry.name}.${part}`, dtype, shape }] : [];
    });
  const tensors = [...planned("scales"), ...planned("values"), ...planned("zeroPoints")]; // scales first: they stay at multiples of 4
  const { header, offsets, size } = headerBytes(tensors, {});
  const places = new Map(tensors.map(({ name }, i) => [name, offsets[i] ?? 0]));
  const tasks = matrices.map(({ entry, kind, isForGradients }): QuantiseTask => {
    const place = (part: string): number | null => places.get(`${entry.name}.${part}`) ?? null;
    const [scalesAt, valuesAt] = [place("scales") ?? 0, place("values") ?? 0];
    return { entry, kind, isForGradients, scalesAt, valuesAt, zeroPointsAt: place("zeroPoints") };
  });
  return { header, size, tasks: tasks.sort((a, b) => b.entry.byteLength - a.entry.byteLength) };
}

async function runTasks(
  file: string,
  tasks: readonly QuantiseTask[],
  { onProgress, signal }: WriteOptions,
): Promise<void> {
  const total = tasks.reduce((sum, { entry }) => sum + elementCount(entry.shape), 0);
  const threads =
    total < WORTH_THREADS
      ? []
      : Array.from({ length: Math.min(availableParallelism(), tasks.length) }, () =>
          startThread<Quantiser>(new URL("./worker.ts", import.meta.url), null),
        );
  const waiting = [...tasks];
  let done = 0;
  const work = async (quantiser: { write(file: string, task: QuantiseTask): unknown }): Promise<void> => {
    for (let task = waiting.shift(); task; task = waiting.shift()) {
      if (signal?.aborted) throw new Interrupted("stopped while weights were brought into few bits: nothing to save");
      await quantiser.write(file, task);
      done += elementCount(task.entry.shape);
      onProgress(done, total);
    }
  };
  try {
    await Promise.all(threads.length > 0 ? threads.map(({ remote }) => work(remote)) : [work(new Quantiser())]);
  } finally {
    waiting.length = 0;
    await Promise.all(threads.map((thread) => thread.stop()));
  }
}
