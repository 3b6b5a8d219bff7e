/** Looking for the place where an answer turns. */

/**
 * The least whole number from `low` to `high` for which `holds`; once it holds it must go on to.
 * @returns high + 1 where it holds for none
 */
export function leastWhere(low: number, high: number, holds: (value: number) => boolean): number {
  let [from, to] = [low, high + 1];
  while (from < to) {
    const middle = from + Math.floor((to - from) / 2);
    if (holds(middle)) to = middle;
    else from = middle + 1;
  }
  return from;
}
