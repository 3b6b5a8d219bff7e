/** Doing the next things while the present one is used. */

/**
 * Maps items in order, starting up to `ahead` of them before they are asked for. A failure surfaces at its own item.
 * When the consumer stops early, what is under way is let go.
 */
export async function* mapAhead<T, R>(
  items: Iterable<T>,
  ahead: number,
  map: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const iterator = items[Symbol.iterator]();
  const underWay: Promise<R>[] = [];
  const start = (): void => {
    const result = nextOf(iterator, map);
    if (!result) return;
    result.catch(() => undefined); // it is awaited later: until then, its failure is not an unhandled one
    underWay.push(result);
  };
  try {
    for (let i = 0; i <= ahead; i++) start();
    for (let result = underWay.shift(); result; result = underWay.shift()) {
      const value = await result;
      start();
      yield value;
    }
  } finally {
    iterator.return?.();
  }
}

/** The next result, or null at the end. A failure to take the item or to begin with it is the result's own. */
function nextOf<T, R>(iterator: Iterator<T>, map: (item: T) => Promise<R>): Promise<R> | null {
  try {
    const next = iterator.next();
    return next.done ? null : map(next.value);
  } catch (thrown) {
    return Promise.reject(thrown);
  }
}
