/** Laying short examples side by side in rows, so that less is computed for padding. Attention never crosses from one to the next. */

/**
 * Best fit, longest first: each example goes into the fullest row that still has room for it, ties to the older row.
 * @param lengths  [n] tokens of each example
 * @param capacity tokens a row may hold; an example that is longer gets a row of its own
 * @returns rows of example indices; examples of a row, and rows by their first, in the order of the data
 */
export function packRows(lengths: readonly number[], capacity: number): number[][] {
  const rows: { indices: number[]; room: number }[] = [];
  const longestFirst = lengths
    .map((length, index) => ({ length, index }))
    .sort((a, b) => b.length - a.length || a.index - b.index);
  const byRoom = new RoomIndex();
  for (const { length, index } of longestFirst) {
    const found = byRoom.take(length);
    const row = found === null ? rows.length : found;
    rows[row] ??= { indices: [], room: capacity };
    const target = rows[row];
    target.indices.push(index);
    target.room -= length;
    byRoom.put(row, target.room);
  }
  return rows.map(({ indices }) => indices.sort((a, b) => a - b)).sort(([a = 0], [b = 0]) => a - b);
}

/** Rows by the room left in them. Rooms are few different whole numbers, so a sorted list of them is searched by halving. */
class RoomIndex {
  readonly #rooms: number[] = [];
  readonly #rows = new Map<number, number[]>();

  put(row: number, room: number): void {
    if (room <= 0) return;
    const known = this.#rows.get(room);
    if (known) {
      known.push(row);
      return;
    }
    this.#rows.set(room, [row]);
    this.#rooms.splice(this.#position(room), 0, room);
  }

  /** Takes out a row with the least room that is enough, or null. */
  take(needed: number): number | null {
    const at = this.#position(needed);
    const room = this.#rooms[at];
    const rows = room === undefined ? undefined : this.#rows.get(room);
    if (room === undefined || !rows) return null;
    const row = rows.shift() ?? null;
    if (rows.length === 0) {
      this.#rows.delete(room);
      this.#rooms.splice(at, 1);
    }
    return row;
  }

  /** Place of the first room that is at least `needed`. */
  #position(needed: number): number {
    let [low, high] = [0, this.#rooms.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#rooms[middle] ?? 0) < needed) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
