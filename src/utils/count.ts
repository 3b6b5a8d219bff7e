/** Numbers of things, as people read them. */

/** 12,345 */
export const count = (value: number): string => value.toLocaleString("en-US");

/** "1 sample", "12,345 samples"; `plural` where an s will not do. */
export const counted = (value: number, noun: string, plural = `${noun}s`): string =>
  `${count(value)} ${value === 1 ? noun : plural}`;

/** "5, 6, 13-73": whole numbers in the order given, three and more in a row, up or down, as a range. */
export function ranges(numbers: readonly number[]): string {
  const runs: [number, ...number[]][] = [];
  for (const number of numbers) {
    const run = runs.at(-1);
    if (run && continues(run, number)) run.push(number);
    else runs.push([number]);
  }
  return runs.map((run) => (run.length < 3 ? run.join(", ") : `${run[0]}-${run.at(-1)}`)).join(", ");
}

function continues([first, second, ...more]: readonly [number, ...number[]], next: number): boolean {
  const step = (second ?? next) - first;
  return Math.abs(step) === 1 && next - (more.at(-1) ?? second ?? first) === step;
}
