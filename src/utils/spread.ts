/** A few of many. */
import { required } from "./errors.ts";

/** At most so many items, evenly spread over all, so that parts that stand one after another all have their share. */
export function spread<T>(items: readonly T[], most: number): T[] {
  const taken = Math.min(most, items.length);
  return Array.from({ length: taken }, (_, i) =>
    required(items[Math.floor(((i + 0.5) * items.length) / taken)], "item"),
  );
}
