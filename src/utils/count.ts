/** Numbers of things, as people read them. */

/** 12,345 */
export const count = (value: number): string => value.toLocaleString("en-US");

/** "1 sample", "12,345 samples"; `plural` where an s will not do. */
export const counted = (value: number, noun: string, plural = `${noun}s`): string =>
  `${count(value)} ${value === 1 ? noun : plural}`;
