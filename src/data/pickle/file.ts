/** The `user_<id>.pkl` files of the per-user task: a pickled list of samples, each a list of two messages. */
import { readFile, stat } from "node:fs/promises";
import { UserError } from "../../utils/errors.ts";
import { isJsonObject, kindOf } from "../../utils/json.ts";
import type { ValueBudget } from "../rowLimits.ts";
import type { Row } from "../rows.ts";
import { MAX_PICKLE_BYTES, type PickleValue, readPickle } from "./pickle.ts";

/**
 * Yields the samples as rows with `messages`. A sample is a list of messages, or a dict that has them (or `conversations`).
 * @throws UserError naming the file when it is too large, holds no list or anything but plain data
 */
export async function* pickleRows(file: string): AsyncGenerator<Row> {
  const { size } = await stat(file);
  if (size > MAX_PICKLE_BYTES)
    throw new UserError(`${file}: ${size} bytes; at most ${MAX_PICKLE_BYTES} are read: split it into smaller files`);
  if (size === 0) return;
  const samples = readPickle(await readFile(file), file);
  if (!Array.isArray(samples))
    throw new UserError(`${file}: holds ${kindOfPickled(samples)}; expected a list of samples`);
  for (const [i, sample] of samples.entries()) {
    const where = `${file}, row ${i + 1}`;
    yield { value: Array.isArray(sample) ? { messages: asked(sample) } : sample, where, number: i + 1 };
  }
}

/** How many values rows may hold in all: a pickle shares them, so that few bytes may stand for very many. */
export const pickleBudget = (bytes: number): ValueBudget => ({ values: 1_000_000 + 8 * bytes });

const kindOfPickled = (value: PickleValue): string => (typeof value === "bigint" ? "a number" : kindOf(value));

/** The task's files ask in a system turn; pictures must stand in a user's turn, and the model was trained on those. */
function asked(messages: readonly PickleValue[]): readonly unknown[] {
  const [first, ...rest] = messages;
  const isSystem = isJsonObject(first) && first.role === "system";
  const hasUser = rest.some((message) => isJsonObject(message) && message.role === "user");
  return isSystem && !hasUser ? [{ ...first, role: "user" }, ...rest] : messages;
}
